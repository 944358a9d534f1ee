"""The report and the model card in a real browser, on a screen and on a telephone."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from common import model_card, settings
from common.dataset import read_table
from common.importance import Importance
from common.monitoring import history, report
from common.monitoring.review import Judgement, check_alone, judge
from common.monitoring.window import Window
from common.settings import MonitoringSettings
from scripts import pictures

pytestmark = [pytest.mark.browser, pytest.mark.integration]

VERSION = "2"
SCREEN, TELEPHONE = {"width": 1280, "height": 900}, {"width": 400, "height": 800}
LONG = "a name without a blank in it, ".replace(" ", "_") * 6


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip(pictures.INSTALL)
    with pictures.chromium() as started:
        yield started


@pytest.fixture
def open_page(browser) -> Callable:
    """Open a page of our own; it must need nothing else, and fit into the window."""

    @contextmanager
    def visit(file: Path, viewport=SCREEN, **options) -> Iterator[Page]:
        page = browser.new_page(viewport=viewport, **options)
        told, asked = [], []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        yield page
        assert told == []
        assert asked == [file.as_uri()]
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == viewport["width"]
        page.close()

    return visit


@pytest.fixture(scope="module")
def reference(schema) -> pd.DataFrame:
    """The penguins, three of them predicted wrong."""
    rows = read_table(settings.load().dataset).rows.rename(columns={schema.target: "target"})
    rows = rows.reset_index(drop=True)
    rows["prediction"] = rows["target"].where(rows.index > 2, schema.classes[-1])
    codes = rows["prediction"].map(schema.classes.index).to_numpy()
    sure = np.linspace(0.6, 0.99, len(rows))
    for place, name in enumerate(schema.classes):
        rows[f"probability {name}"] = np.where(codes == place, sure, (1 - sure) / 2)
    return rows.assign(confidence=sure)


@pytest.fixture(scope="module")
def pages(schema, reference, tmp_path_factory) -> dict[str, Path]:
    """The files of reports, and of a model card."""

    def judged(shift, wrong, seed=0):
        rows = reference.sample(400, replace=True, random_state=seed).reset_index(drop=True)
        rows.insert(0, "id", [f"request-{row}" for row in range(len(rows))])
        rows.insert(1, "time", pd.date_range(end=datetime.now(UTC), periods=len(rows), freq="s"))
        rows.insert(2, "model_version", VERSION)
        rows["body_mass_g"] += shift
        rows.loc[: wrong - 1, "target"] = schema.classes[0]
        rows.loc[0, "island"] = f"<b>{LONG}</b>"
        window = Window(rows, reference, schema, VERSION, MonitoringSettings())
        return window, judge(VERSION, len(rows), check_alone(window))

    past = [
        {
            "time": (datetime.now(UTC) - timedelta(days=6 - run)).isoformat(),
            "version": "1" if run < 3 else VERSION,
            "verdict": "pass",
            "metrics": history.metrics(judged(200 * run, 10 * run, run)[1].checks),
        }
        for run in range(6)
    ]
    window, failed = judged(1600, 120)
    others = [Judgement("1", "pass", 50, failed.checks), Judgement(LONG, "warn", 1, [])]
    fine, passed = judged(0, 0)
    facts = model_card.Facts(
        project="penguins",
        version=VERSION,
        schema=schema,
        reference=reference.assign(island=reference["island"].replace("Dream", LONG)),
        metrics={"accuracy_mean": 0.99, "accuracy_std": 0.01},
        importance=[Importance(name, 0.1, 0.01, 0.4, 0.02) for name in schema.features],
        source=f"data/{LONG}.csv",
        sha256="0123456789abcdef" * 4,
        rejected=0,
        parameters={"seed": 1},
        commit="5c73d45",
        run="945f6242",
    )
    content = {
        "failed": report.report_page(
            window, failed.verdict, failed.checks, others, past, "1795457218126834"
        ),
        "passed": report.report_page(fine, passed.verdict, passed.checks, [], []),
        "card": model_card.model_card_page(model_card.model_card(facts), "Model card"),
    }
    folder = tmp_path_factory.mktemp("pages")
    for name, text in content.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in content}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [SCREEN, TELEPHONE], ids=["screen", "telephone"])
@pytest.mark.parametrize("name", ["failed", "passed"])
def test_given_a_report_then_its_verdict_is_seen_first(open_page, pages, name, viewport, scheme):
    words = {
        "failed": "Fail: something has changed",
        "passed": "Warning: something deserves a look",
    }
    with open_page(pages[name], viewport, color_scheme=scheme) as page:
        heading = page.get_by_role("heading", level=1, name=words[name])
        expect(heading).to_be_in_viewport(ratio=1)
        colours = heading.evaluate(
            "e => [getComputedStyle(e).color, getComputedStyle(document.body).color]"
        )
        assert colours[0] != colours[1]


@pytest.mark.parametrize("viewport", [SCREEN, TELEPHONE], ids=["screen", "telephone"])
def test_given_a_failed_report_then_pictures_and_tables_are_there_and_readable(
    open_page, pages, schema, viewport
):
    with open_page(pages["failed"], viewport) as page:
        for name in ("What failed", "Checks", "Drift", "Quality", "Other versions in this window"):
            expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
        for name in (*schema.features, "accuracy", "macro F1"):
            drawn = page.get_by_role("img", name=re.compile(f"^{name} over 7 runs"))
            expect(drawn).to_be_visible()
            label = drawn.locator("text").last
            # eleven pixels as drawn, and hardly less on a telephone
            assert label.bounding_box()["height"] >= 9
        expect(page.get_by_role("img", name="Share of right answers")).to_be_visible()
        confusions = page.get_by_role("table").filter(has_text="predicted").first
        expect(confusions.get_by_role("rowheader")).to_have_text(list(schema.classes))
        expect(page.get_by_text(f"<b>{LONG[:20]}").first).to_be_visible()


def test_given_checks_that_passed_then_they_are_folded_and_open_without_a_script(open_page, pages):
    with open_page(pages["failed"], java_script_enabled=False) as page:
        folded = page.get_by_text("checks that passed")
        row = page.get_by_role("cell", name="missing sex")
        expect(row).to_be_hidden()
        folded.first.click()
        expect(row).to_be_visible()


def test_given_a_telephone_then_no_part_of_a_check_lies_upon_another(open_page, pages):
    overlaps = """() => [...document.querySelectorAll('.checks tr')].filter(row => {
        const boxes = [...row.querySelectorAll('td > *, td')]
            .map(e => [e, e.getBoundingClientRect()])
            .filter(([, box]) => box.width && box.height)
        return boxes.some(([one, a]) => boxes.some(([two, b]) => one !== two
            && !one.contains(two) && !two.contains(one) && a.left < b.right - 1
            && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1))
    }).length"""
    with open_page(pages["failed"], TELEPHONE) as page:
        assert page.locator(".checks tbody tr:visible").count() > 10
        assert page.evaluate(overlaps) == 0


@pytest.mark.parametrize("viewport", [SCREEN, TELEPHONE], ids=["screen", "telephone"])
def test_given_a_model_card_then_every_section_is_there(open_page, pages, schema, viewport):
    with open_page(pages["card"], viewport) as page:
        for name in (
            "Model card: penguins, version 2",
            "Intended use",
            "What it looks at",
            "Limits",
        ):
            expect(page.get_by_role("heading", name=name)).to_be_visible()
        for name in schema.features:
            expect(page.get_by_role("cell", name=name, exact=True).first).to_be_visible()


def test_picture_of_a_report(browser, pages, tmp_path):
    file = tmp_path / "picture.png"
    page = browser.new_page(viewport={"width": pictures.WIDTH, "height": 900})
    pictures.take_report(page, pages["failed"], file)
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert 20_000 < len(content) < 300_000
    page.close()
