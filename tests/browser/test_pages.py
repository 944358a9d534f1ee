"""The pages that people open, in a real browser: they work without the internet, and show all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from metaflow import Runner
from playwright.sync_api import Browser, Page, expect

from common import settings
from common.dataset import read_table
from common.monitoring import drift, reports
from common.monitoring.window import Window
from common.settings import MonitoringSettings
from scripts import pictures

pytestmark = [pytest.mark.browser, pytest.mark.integration]

VERSION = "1"
VIEWPORT = {"width": 1280, "height": 900}


@dataclass
class Visit:
    """A page, what it asked the network for, and what went wrong in it."""

    page: Page
    remote: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def is_remote(url: str) -> bool:
    parts = urlsplit(url)
    local = parts.scheme in ("file", "data", "blob", "about")
    return not local and parts.hostname not in ("127.0.0.1", "localhost", "::1")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip(pictures.INSTALL)
    with pictures.chromium() as started:
        yield started


@pytest.fixture
def open_page(browser) -> Callable:
    """Open a file where there is no internet; at the end, check what holds for every page."""

    @contextmanager
    def visit(file: Path) -> Iterator[Visit]:
        page = browser.new_page(viewport=VIEWPORT)
        seen = Visit(page)
        page.on("console", lambda told: told.type == "error" and seen.errors.append(told.text))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda asked: is_remote(asked.url) and seen.remote.append(asked.url))
        page.route(is_remote, lambda route: route.fulfill(body="", content_type="text/css"))
        page.goto(file.as_uri())
        yield seen
        assert seen.errors == []
        assert seen.remote == []
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0
        page.close()

    return visit


@pytest.fixture(scope="module")
def reference(schema) -> pd.DataFrame:
    """The penguins, each predicted right."""
    rows = read_table(settings.load().dataset).rows.rename(columns={schema.target: "target"})
    rows = rows.reset_index(drop=True)
    return rows.assign(prediction=rows["target"], confidence=np.linspace(0.5, 1, len(rows)))


@pytest.fixture(scope="module")
def report(browser, schema, reference, tmp_path_factory) -> dict[str, Path]:
    """The files of the reports on penguins that have put on weight, and on none at all."""
    rows = reference.sample(200, random_state=0).reset_index(drop=True)
    rows.insert(0, "id", [f"request-{row}" for row in range(len(rows))])
    rows.insert(1, "time", pd.date_range("2026-01-01", periods=len(rows), freq="s", tz="UTC"))
    rows.insert(2, "model_version", VERSION)
    rows["body_mass_g"] += 1600

    def window(captured):
        return Window(captured, reference, schema, VERSION, MonitoringSettings())

    full, few = window(rows), window(rows.assign(target=rows["target"].where(rows.index < 20)))
    pages = {
        "data": reports.data_report(full),
        "drift": reports.drift_report(full, drift.compare(full))[0],
        "quality": reports.quality_report(full),
        "few labels": reports.quality_report(few),
        "nothing captured": reports.data_report(window(rows.head(0))),
    }
    folder = tmp_path_factory.mktemp("reports")
    for name, content in pages.items():
        (folder / f"{name}.html").write_text(content, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture(scope="module")
def card(browser, tmp_path_factory) -> Path:
    """The file of the card of a training, as Metaflow renders it."""
    folder = tmp_path_factory.mktemp("cards")
    flow = Path(__file__).with_name("cards.py")
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder)}
    with Runner(str(flow), pylint=False, env={**os.environ, **store}, cwd=str(folder)).run() as run:
        assert run.status == "successful", run.stdout
    [file] = folder.rglob("cards/*.html")
    return file


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("data", ("Dataset Summary", "culmen_length_mm", "sex", "confidence")),
        ("quality", ("Classification Model Performance", "Confusion Matrix", "Gentoo")),
        ("few labels", ("Only 20 labelled rows; 50 are needed.", "predicted right", "Gentoo")),
        ("nothing captured", ("Nothing has been captured yet",)),
    ],
)
def test_report_shows_what_it_is_for(open_page, report, name, texts):
    with open_page(report[name]) as seen:
        for text in texts:
            expect(seen.page.get_by_text(text).first).to_be_visible()


def test_drift_report_shows_the_drifted_column_and_opens_it(open_page, report):
    with open_page(report["drift"]) as seen:
        page = seen.page
        expect(page.get_by_text("Dataset Drift is detected")).to_be_visible()
        drifted = page.get_by_role("cell", name="Detected", exact=True)
        expect(drifted).to_have_count(1)
        row = page.get_by_role("row").filter(has=drifted)
        expect(row).to_contain_text("body_mass_g")
        row.get_by_role("button").click()
        page.get_by_role("tab", name="Data Distribution").click()
        expect(page.locator(".js-plotly-plot .barlayer").last).to_be_visible()


def test_training_card_shows_scores_confusion_and_curves(open_page, card):
    with open_page(card) as seen:
        page = seen.page
        headings = ("Scores", "Confusion matrix", "Importance of the columns", "Learning curves")
        for text in ("Accuracy 0.990 ± 0.990", *headings):
            expect(page.get_by_role("heading", name=text).first).to_be_visible()
        confusion, importance, curves = page.locator("svg.marks").all()
        for rows, colour in (("150", "white"), ("123", "white"), ("68", "black"), ("1", "black")):
            number = confusion.locator(f"text[fill={colour}][font-size='14px']")
            expect(number.get_by_text(rows, exact=True)).to_be_visible()
        # one a column of the table in each of two panels
        expect(importance.locator(".mark-rect path")).to_have_count(12)
        for text in ("rise of log loss", "fall of accuracy", "culmen_length_mm"):
            expect(importance.get_by_text(text).first).to_be_visible()
        expect(curves.locator(".mark-line path")).to_have_count(10)
