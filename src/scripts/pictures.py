"""Make the guide's pictures of what the demo left: report, card, dashboard, registry."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer
from playwright.sync_api import Browser, Error, FloatRect, Page, sync_playwright

from common import ROOT
from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors
from scripts.demo import STATE, environment
from scripts.steps import free_port, python

FOLDER = ROOT / "docs" / "images"
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
WIDTH, WIDE = 1000, 1400
MARGIN = 12
START_SECONDS, END_SECONDS = 90.0, 10.0


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


def first_card(state: Path) -> Path:
    """Return the card of the first training below a state folder.

    Raises:
        ConfigurationError: There is none.
    """
    cards = list(state.rglob("Training/runs/*/steps/evaluate/**/cards/*.html"))
    if not cards:
        raise ConfigurationError(f"{state} holds no card of a training; run `just demo`")
    return min(cards, key=lambda file: file.stat().st_mtime)


@contextmanager
def serving(script: str, variables: Mapping[str, str]) -> Iterator[str]:
    """Run a server of this project as long as it is needed; yield its address.

    Raises:
        ConfigurationError: It does not answer.
    """
    port = free_port()
    with subprocess.Popen(  # noqa: S603 - a command of this project
        [*python(f"src/scripts/{script}.py"), "--port", str(port)],
        cwd=ROOT,
        env=dict(variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for(port, process, script)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(port: int, process: subprocess.Popen, name: str) -> None:
    """Wait until a server listens.

    Raises:
        ConfigurationError: It has ended, or takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as asked:
            if not asked.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.2)
    raise ConfigurationError(f"{name} does not answer; does `just {name}` start?")


def take_report(page: Page, report: Path, picture: Path) -> None:
    """Picture what stands above a report's table of checks.

    Raises:
        ConfigurationError: This is no such report.
    """
    page.goto(report.resolve().as_uri())
    checks = page.locator("#checks")
    box = checks.bounding_box() if checks.count() else None
    if not box:
        raise ConfigurationError(f"{report}: this is no report of `just monitor`")
    shoot(page, picture, box["y"] - MARGIN)


def take_card(page: Page, card: Path, picture: Path) -> None:
    """Picture the beginning of a training's card."""
    page.goto(card.resolve().as_uri())
    settle(page, "canvas, svg.marks, .vega-embed")
    shoot(page, picture, 1200)


def take_dashboard(page: Page, address: str, picture: Path) -> None:
    """Picture the history of monitoring in Evidently's UI."""
    page.goto(address)
    page.get_by_role("link", name="penguins").first.click()
    settle(page, "text=Recall by class")
    shoot(page, picture, 690)


def take_registry(page: Page, address: str, picture: Path) -> None:
    """Picture a model's versions and aliases in MLflow's UI."""
    page.goto(f"{address}/#/models/penguins")
    settle(page, "text=champion")
    # MLflow's assistant takes a third of the page
    if (close := page.get_by_role("button", name="Close")).count():
        close.first.click()
    settle(page, "text=champion")
    shoot(page, picture, 640)


def shoot(page: Page, picture: Path, height: float) -> None:
    """Write the upper part of a page as a PNG file."""
    width = page.viewport_size["width"] if page.viewport_size else WIDTH
    part: FloatRect = {"x": 0, "y": 0, "width": width, "height": height}
    page.screenshot(path=picture, full_page=True, clip=part)


def settle(page: Page, selector: str) -> None:
    """Wait until something is shown, and does not move any more.

    Raises:
        ConfigurationError: It is not shown.
    """
    try:
        page.locator(selector).first.wait_for(timeout=START_SECONDS * 1000)
    except Error as error:
        raise ConfigurationError(f"{page.url} does not show {selector}") from error
    page.wait_for_timeout(1500)


def pictures(
    folder: Annotated[Path, typer.Option(help="Where to write them.")] = FOLDER,
    state: Annotated[Path, typer.Option(help="What the demo left.", file_okay=False)] = STATE,
) -> None:
    """Make docs/images/*.png of the demo's last run."""
    with one_line_errors(), chromium() as browser:
        report, card = newest_report(state), first_card(state)
        folder.mkdir(parents=True, exist_ok=True)

        def take(name: str, width: int, how: Callable[..., None], what: object) -> None:
            picture = folder / f"{name}.png"
            page = browser.new_page(viewport={"width": width, "height": 900})
            how(page, what, picture)
            page.close()
            print(f"{picture}: {picture.stat().st_size:,} bytes", flush=True)

        take("monitoring", WIDTH, take_report, report)
        take("training", WIDE, take_card, card)
        with serving("dashboard", environment()) as address:
            take("dashboard", WIDTH, take_dashboard, address)
        with serving("mlflow_server", environment()) as address:
            take("registry", WIDE, take_registry, address)


if __name__ == "__main__":
    typer.run(pictures)
