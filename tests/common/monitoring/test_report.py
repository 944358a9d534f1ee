"""What the report says and draws; how it looks is in tests/browser."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from common.monitoring import history, pictures, report
from common.monitoring.pictures import Reading
from common.monitoring.review import Judgement, check_alone, judge
from inference.schema import Schema

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)> & ünï"
NOW = datetime(2026, 1, 10, tzinfo=UTC)


class Shown(HTMLParser):
    """The text of a page, its tags, and the text alternatives of its pictures."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.text = ""
        self.feed(re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL))
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "svg":
            self.pictures.append(dict(attrs)["aria-label"])

    def handle_data(self, data):
        self.text += f"{data} "


@pytest.fixture
def show():
    """Judge a window and read the report on it."""

    def show(window, others=(), past=(), run=""):
        judged = judge(window.version, len(window.captured), check_alone(window))
        page = report.report_page(
            window, judged.verdict, judged.checks, list(others), list(past), run
        )
        return Shown(page)

    return show


@pytest.fixture
def make_past(make_window, draw):
    """Make earlier runs as MLflow keeps them, of two versions."""

    def make(runs, **changes):
        found = []
        for run in range(runs):
            window = make_window(draw(150, seed=run), **changes)
            judged = judge(window.version, 150, check_alone(window))
            found.append(
                {
                    "time": (NOW - timedelta(days=runs - run)).isoformat(),
                    "version": "1" if run < runs // 2 else window.version,
                    "verdict": judged.verdict,
                    "metrics": history.metrics(judged.checks),
                }
            )
        return found

    return make


def test_given_rows_like_training_then_it_opens_with_a_pass(show, make_window, draw):
    seen = show(make_window(draw(300)), run="1795")

    assert seen.text.split("h1")[0].find("Pass: nothing is out of the ordinary") < 120
    assert "Version 2: 300 rows" in seen.text
    assert "run 1795" in seen.text
    assert "What failed" not in seen.text
    assert set(seen.tags).isdisjoint({"script", "link", "img", "iframe"})


def test_given_a_shift_then_the_verdict_and_the_failed_sentence_come_first(show, make_window, draw):
    rows = draw(300)
    seen = show(make_window(rows.assign(body_mass_g=rows["body_mass_g"] + 1600)))

    order = [
        seen.text.index(text)
        for text in (
            "Fail: something has changed",
            "What failed",
            "body_mass_g has drifted",
            "Checks Drift Quality",
            "How far each column lies",
            "Confusion matrix",
        )
    ]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("verdict", "words"), [(name, words) for name, words in report.WORDS.items()]
)
def test_given_any_verdict_then_it_is_said_in_words(make_window, draw, verdict, words):
    page = report.report_page(make_window(draw(0)), verdict, [], [], [])

    assert f"<h1>{words}</h1>" in page


def test_given_earlier_runs_then_every_column_and_score_is_drawn_over_time(
    show, make_window, draw, make_past, schema
):
    seen = show(make_window(draw(150)), past=make_past(4))

    lines = [text for text in seen.pictures if "over 5 runs" in text]
    drawn = {text.split(" over ")[0] for text in lines}
    assert drawn >= {*schema.features, "prediction", "accuracy", "macro F1", "expected accuracy"}
    assert "first run" not in seen.text
    assert "v2" in seen.text
    assert "2026-01-06 00:00 UTC, version 1:" in seen.text


def test_given_columns_that_mlflow_cannot_tell_apart_then_each_has_its_own_past(
    show, make_window, draw, schema, reference
):
    names = {"culmen_length_mm": "price/kg", "body_mass_g": "price_kg"}
    table = reference.rename(columns=names)
    features = {names.get(name, name): one for name, one in schema.features.items()}
    changed = Schema(target="species", classes=schema.classes, features=features)
    window = make_window(draw(150, table=table), reference=table, schema=changed)
    past = {"time": NOW.isoformat(), "version": "1", "verdict": "pass"}
    past["metrics"] = {"drift/price_kg": 0.111, "drift/price_kg 2": 0.222}

    drawn = show(window, past=[past]).pictures

    for name, before in (("price/kg", 0.111), ("price_kg", 0.222)):
        assert any(text.startswith(f"{name} over 2 runs: {before} at first") for text in drawn)


def test_given_no_earlier_run_then_it_says_so_instead_of_drawing(show, make_window, draw):
    seen = show(make_window(draw(300)))

    assert "no picture of drift over time yet" in seen.text
    assert "no picture of quality over time yet" in seen.text
    assert len(seen.pictures) == 1


@pytest.mark.parametrize(
    ("change", "statement"),
    [
        ({"target": None}, "None of the 300 rows has a label"),
        ({"model_version": "1"}, "Version 2 answered none of these rows"),
        ({"target": ["Gentoo"] * 5 + [None] * 295}, "5 labelled rows are too few for a relia"),
    ],
)
def test_given_too_little_for_a_picture_then_a_sentence_stands_for_it(
    show, make_window, draw, change, statement
):
    seen = show(make_window(draw(300).assign(**change)))

    assert statement in seen.text
    assert not any("right answers" in text for text in seen.pictures)


@pytest.mark.parametrize("rows", [0, 1, 2, 30])
def test_given_few_rows_then_there_is_a_report_all_the_same(
    show, make_window, draw, make_past, rows
):
    seen = show(make_window(draw(rows)), past=make_past(2))

    assert re.search("No data|Not enough data", seen.text)
    assert "No column could be compared" in seen.text


def test_given_labels_then_recall_and_confusions_are_those_that_were_counted(
    show, make_window, draw
):
    rows = draw(200)
    wrong = (rows["target"] == "Gentoo") & (np.arange(200) % 2 == 0)
    rows.loc[wrong, "prediction"] = "Adelie"
    gentoo = rows[rows["target"] == "Gentoo"]
    right = int((gentoo["prediction"] == "Gentoo").sum())

    seen = show(make_window(rows))

    assert f"{right} of {len(gentoo)} rows" in seen.text
    shares = re.search(r"Gentoo (\d+) (\d+) % \d+ \d+ % (\d+) (\d+) %", seen.text)
    confused = int((gentoo["prediction"] == "Adelie").sum())
    assert [int(n) for n in shares.groups()] == [
        confused,
        round(100 * confused / len(gentoo)),
        right,
        round(100 * right / len(gentoo)),
    ]


def test_given_a_label_that_is_no_class_then_it_has_a_row_of_its_own(show, make_window, draw):
    seen = show(make_window(draw(200).assign(target=["Dodo"] * 20 + ["Gentoo"] * 180)))

    assert "no class of the model" in seen.text


def test_given_every_check_then_each_stands_in_the_group_it_belongs_to(make_window, draw):
    found = {}
    for check in judge("2", 300, check_alone(make_window(draw(300)))).checks:
        found.setdefault(report.group(check), set()).add(check["name"])

    assert found == {
        "data": {
            "volume", "freshness", "schema", "missing", "unseen", "range", "constant", "duplicates"
        },
        "drift": {"drift", "associations"},
        "quality": {"accuracy", "macro F1", "recall", "calibration"},
        "estimated": {"expected accuracy", "expected macro F1"},
        "segments": {"segments"},
    }  # fmt: skip


def test_given_other_versions_then_each_is_told_with_its_own_verdict(show, make_window, draw):
    failed = [
        {"name": "drift", "verdict": "fail", "sentence": f"sentence {n}", "column": "sex"}
        for n in range(5)
    ]
    others = [Judgement("1", "fail", 1200, failed), Judgement("0", "pass", 3, [])]

    seen = show(make_window(draw(300)), others=others)

    assert "version 1 1,200 rows sentence 0 sentence 1 sentence 2 And 2 more." in seen.text
    assert "version 0 3 rows Nothing is out of the ordinary." in seen.text
    assert "Pass: nothing is out of the ordinary" in seen.text


def test_given_hostile_names_and_values_then_they_stay_text(
    show, make_window, draw, make_past, reference
):
    classes = ("Adelie", "Chinstrap", HOSTILE)
    schema = Schema.model_validate(
        {
            "target": "species",
            "classes": classes,
            "features": {
                HOSTILE: {"kind": "number", "unit": HOSTILE},
                f"kind {HOSTILE}": {"kind": "category", "categories": [HOSTILE, "Dream"]},
            },
        }
    )
    named = {"Gentoo": HOSTILE, "Biscoe": HOSTILE}
    table = reference.rename(
        columns={
            "body_mass_g": HOSTILE,
            "island": f"kind {HOSTILE}",
            "probability Gentoo": f"probability {HOSTILE}",
        }
    ).replace(named)
    rows = draw(300, table=table).assign(**{HOSTILE: lambda t: t[HOSTILE] + 2000})
    rows.loc[:9, f"kind {HOSTILE}"] = f"unseen {HOSTILE}"
    window = make_window(rows, reference=table, schema=schema)
    judged = judge("2", 300, check_alone(window))
    past = [{"time": NOW.isoformat(), "version": HOSTILE, "verdict": "pass",
             "metrics": history.metrics(judged.checks)}]  # fmt: skip
    others = [Judgement(HOSTILE, "fail", 3, [{**judged.checks[0], "sentence": HOSTILE,
                                             "verdict": "fail"}])]  # fmt: skip

    seen = show(window, others=others, past=past, run=HOSTILE)

    assert set(seen.tags).isdisjoint({"script", "img"})
    assert seen.text.count(HOSTILE) > 15
    assert any(text.startswith(f"{HOSTILE} over 2 runs") for text in seen.pictures)


def test_given_more_columns_than_can_be_drawn_then_those_nearest_to_the_limit_are(
    make_window, draw
):
    checks = [
        {"name": "drift", "column": f"column {n}", "figure": n / 1000, "limit": 0.1,
         "verdict": "fail" if n > 100 else "pass", "sentence": f"column {n}.", "interval": None}
        for n in range(120)
    ]  # fmt: skip

    page = report.report_page(make_window(draw(200)), "fail", checks, [], [])

    bars = re.findall(r'<div class="bar"><span class="name">column (\d+)<', page)
    assert [int(n) for n in bars] == list(range(119, 119 - report.SHOWN_COLUMNS, -1))
    assert f"{120 - report.SHOWN_COLUMNS} more columns" in page
    assert page.count("101 checks that passed") == 1


@pytest.mark.parametrize("figure", [float("inf"), float("nan"), None])
def test_given_a_figure_that_cannot_be_drawn_then_only_its_picture_is_missing(
    make_window, draw, figure
):
    checks = [
        {"name": name, "column": column, "figure": figure, "limit": 0.1, "verdict": "fail",
         "sentence": f"{name} is odd.", "interval": None}
        for name, column in (("drift", "sex"), ("accuracy", None))
    ]  # fmt: skip
    past = [{"time": NOW.isoformat(), "version": "1", "verdict": "pass", "metrics": {}}]

    seen = Shown(report.report_page(make_window(draw(200)), "fail", checks, [], past))

    assert "accuracy is odd." in seen.text
    assert not any("over" in text for text in seen.pictures)


def test_given_a_run_without_a_figure_then_the_line_goes_on_after_it(
    show, make_window, draw, make_past
):
    past = make_past(3)
    past[1]["metrics"].clear()

    seen = show(make_window(draw(150)), past=past)

    assert any(text.startswith("accuracy over 3 runs") for text in seen.pictures)


def test_given_two_classes_then_there_is_a_report(show, make_window, draw, schema, reference):
    two = ("Adelie", "Gentoo")
    narrow = Schema(
        target="species", classes=two, features={"body_mass_g": schema.features["body_mass_g"]}
    )
    table = reference[reference["target"].isin(two) & reference["prediction"].isin(two)]

    seen = show(make_window(draw(200, table=table), reference=table, schema=narrow))

    assert "Confusion matrix" in seen.text
    assert "Accuracy by segment" not in seen.text


def test_given_many_rows_then_the_page_is_no_larger(make_window, draw):
    few, many = (
        len(report.report_page(make_window(draw(rows)), "pass", [], [], []))
        for rows in (300, 30_000)
    )

    assert many < few * 1.2


def test_given_a_line_with_gaps_then_it_is_broken_there():
    readings = [Reading("a", "1", f) for f in (0.5, 0.6, None, 0.7, 0.8)]

    drawn = pictures.timeline("x", readings, None, score=True)

    assert drawn["line"].count("M") == 2
    assert len(drawn["marks"]) == 4
    assert drawn["marks"][-1]["now"]


def test_given_a_figure_and_a_limit_then_the_line_that_is_crossed_lies_lower():
    readings = [Reading("a", "1", 0.1), Reading("b", "2", 0.5, (0.4, 0.6))]

    drawn = pictures.timeline("x", readings, 0.3, score=False)

    before, now = drawn["marks"]
    assert before["y"] > drawn["limit"]["y"] > now["y"]
    assert now["whisker"][0] > now["y"] > now["whisker"][1]
    assert [change["version"] for change in drawn["changes"]] == ["2"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.9, 1), (0, 0.03), (0, 1e300), (-5, 2), (0, 1e-9), (0, 37)]
)
def test_given_any_axis_then_its_ticks_are_few_round_and_within(low, high):
    found = pictures.ticks(low, high)

    assert 2 <= len(found) <= pictures.TICKS + 1
    assert all(low <= tick <= high * (1 + 1e-9) for tick in found)
    assert len({f"{tick:g}" for tick in found}) == len(found)


@pytest.mark.parametrize("figures", [[0.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [1e300, 0.0], [0.2]])
def test_given_odd_figures_then_every_mark_lies_on_the_picture(figures):
    for score in (False, True):
        drawn = pictures.timeline("x", [Reading("a", "1", f) for f in figures], 0.1, score=score)
        for mark in drawn["marks"]:
            assert pictures.TOP <= mark["y"] <= pictures.HEIGHT - pictures.BOTTOM


def test_given_bins_then_they_hold_the_share_that_is_right():
    rows = pd.DataFrame(
        {
            "confidence": [0.95] * 40 + [0.65] * 20 + [0.45] * 5,
            "target": ["a"] * 65,
            "prediction": ["a"] * 36 + ["b"] * 4 + ["a"] * 10 + ["b"] * 15,
        }
    )

    found = report.bin_rows(rows)

    assert [(one.rows, one.right) for one in found] == [(20, 0.5), (40, 0.9)]
    assert all(one.interval[0] < one.right < one.interval[1] for one in found)
