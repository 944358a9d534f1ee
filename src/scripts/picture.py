"""Make the picture of a monitoring report: a drift report, opened at the column that drifted."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

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
WIDTH = 1150
MARGIN = 12
LOADED_MILLISECONDS = 10_000
# Evidently's charts grow into place.
SETTLED_MILLISECONDS = 1500


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
    """Return the drift report that was written last below a state folder.

    Raises:
        ConfigurationError: There is none.
    """
    found = list((state / "reports").glob("*/drift.html"))
    if not found:
        raise ConfigurationError(f"{state} holds no drift report; run `just demo`")
    return max(found, key=lambda file: file.stat().st_mtime)


def take(page: Page, report: Path, picture: Path) -> None:
    """Open the first drifted column of a report, and write its table as a PNG file.

    Raises:
        ConfigurationError: The report shows no drifted column.
    """
    page.set_default_timeout(LOADED_MILLISECONDS)
    page.goto(report.resolve().as_uri())
    drifted = page.get_by_role("cell", name="Detected", exact=True)
    row = page.get_by_role("row").filter(has=drifted).first
    try:
        row.get_by_role("button").click()
    except PlaywrightTimeoutError as error:
        raise ConfigurationError(f"{report}: no column has drifted in it") from error
    page.get_by_role("tab", name="Data Distribution").click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(SETTLED_MILLISECONDS)
    parts = (page.get_by_text("Drift is detected for"), page.locator("table").first)
    boxes = [box for part in parts if (box := part.bounding_box())]
    left, top = (min(box[side] for box in boxes) - MARGIN for side in ("x", "y"))
    width = max(box["x"] + box["width"] for box in boxes) + MARGIN - left
    height = max(box["y"] + box["height"] for box in boxes) - top
    picture.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(
        path=picture,
        full_page=True,
        clip={"x": left, "y": top, "width": width, "height": height},
    )


def main(
    report: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="drift.html to picture; the demo's last one unless given.",
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
