"""Make the picture of a monitoring report: its verdict, and what led to it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer
from playwright.sync_api import Browser, Page, sync_playwright

from common import ROOT
from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors
from scripts.demo import STATE

PICTURE = ROOT / "docs" / "images" / "monitoring.png"
INSTALL = "apt-get install chromium"
# No sandbox: it needs a user other than root. The others keep a browser that nobody sits at from
# calling home.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTH = 1000
MARGIN = 12


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium found on PATH, without a window.

    Raises:
        ConfigurationError: There is none.
    """
    program = shutil.which("chromium")
    if program is None:
        raise ConfigurationError(f"there is no chromium on PATH: {INSTALL}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def newest_report(state: Path) -> Path:
    """Return the report of the last run below a state folder whose verdict is fail.

    Raises:
        ConfigurationError: There is none.
    """
    verdicts = (state / "reports").glob("*/verdict.json")
    failed = [file for file in verdicts if orjson.loads(file.read_bytes())["verdict"] == "fail"]
    if not failed:
        raise ConfigurationError(f"{state} holds no report of a failed run; run `just demo`")
    return max(failed, key=lambda file: file.stat().st_mtime).with_name("report.html")


def take(page: Page, report: Path, picture: Path) -> None:
    """Write what stands above a report's table of checks as a PNG file.

    Raises:
        ConfigurationError: This is no such report.
    """
    page.goto(report.resolve().as_uri())
    checks = page.locator("#checks")
    box = checks.bounding_box() if checks.count() else None
    if not box:
        raise ConfigurationError(f"{report}: this is no report of `just monitor`")
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(
        path=picture,
        full_page=True,
        clip={"x": 0, "y": 0, "width": WIDTH, "height": box["y"] - MARGIN},
    )


def main(
    report: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="report.html to picture; the demo's last failed one unless given.",
        ),
    ] = None,
    picture: Annotated[Path, typer.Option(help="PNG file to write.")] = PICTURE,
) -> None:
    """Make the picture and say where it is."""
    with one_line_errors():
        source = report or newest_report(STATE)
        with chromium() as browser:
            take(browser.new_page(viewport={"width": WIDTH, "height": 900}), source, picture)
        print(f"{picture}: {picture.stat().st_size:,} bytes, from {source}")


if __name__ == "__main__":
    typer.run(main)
