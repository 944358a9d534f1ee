"""Which figures pass, and what one verdict comes of them."""

import numpy as np
import pytest

from common.monitoring import checks, drift, review
from common.monitoring.checks import Check


@pytest.fixture
def run():
    """Run every check on the comparison's own distances, without Evidently."""

    def run(window):
        return review.run_checks(window, drift.compare(window), {})

    return run


def find(found, name, column=None):
    return next(c for c in found if c.name == name and column in (None, c.column))


def failed(found):
    return {(check.name, check.column) for check in found if check.verdict == "fail"}


def test_rows_of_the_table_pass_every_check(make_window, draw, run):
    found = run(make_window(draw(300)))
    assert {check.verdict for check in found} == {"pass"}
    assert checks.verdict(found) == "pass"
    assert [check.name for check in found] == [
        "volume",
        "freshness",
        "schema",
        *["missing"] * 6,
        *["unseen"] * 2,
        *["range"] * 4,
        *["constant"] * 6,
        "duplicates",
        *["drift"] * 8,
        "associations",
        "accuracy",
        "macro F1",
        *["recall"] * 3,
        "calibration",
        "expected accuracy",
        "expected macro F1",
        *["segments"] * 2,
    ]


def test_no_rows(make_window, draw, run):
    found = run(make_window(draw(0)))
    assert checks.verdict(found) == "no data"
    assert "Nothing has been captured" in found[0].sentence


@pytest.mark.parametrize("rows", [1, 2, 50, 99])
def test_few_rows_raise_no_alarm(make_window, draw, run, rows):
    for seed in range(3):
        found = run(make_window(draw(rows, seed)))
        assert failed(found) == set()
        assert find(found, "drift").verdict == "not enough data"
        assert checks.verdict(found) == "not enough data"


def test_one_row_with_nothing_in_it(make_window, draw, schema, run):
    rows = draw(1).assign(**dict.fromkeys(schema.features, None), target=None)
    assert checks.verdict(run(make_window(rows))) == "not enough data"


@pytest.mark.parametrize("rows", [50, 300])
def test_a_column_without_values_fails_by_name(make_window, draw, run, rows):
    found = run(make_window(draw(rows).assign(sex=None)))
    assert failed(found) == {("missing", "sex")}
    assert "100.0% of the values are missing, 3.2% in training" in (
        find(found, "missing", "sex").sentence
    )
    assert find(found, "drift", "sex").verdict == "not enough data"
    assert checks.verdict(found) == "fail"


def test_a_column_that_is_absent_fails_by_name(make_window, draw, run):
    found = run(make_window(draw(300).drop(columns="sex")))
    assert failed(found) == {("missing", "sex"), ("schema", "sex")}


def test_missing_as_often_as_in_training_passes(make_window, draw, reference, run):
    half = np.arange(len(reference)) % 2 == 0
    table = reference.assign(sex=reference["sex"].where(half, None))
    found = run(make_window(draw(300, table=table), reference=table))
    assert failed(found) == set()


@pytest.mark.parametrize(("unseen", "expected"), [(1, "warn"), (14, "warn"), (60, "fail")])
def test_unseen_categories(make_window, draw, run, unseen, expected):
    rows = draw(300)
    rows.loc[: unseen - 1, "island"] = "Atlantis"
    check = find(run(make_window(rows)), "unseen", "island")
    assert (check.verdict, check.figure) == (expected, unseen / 300)
    assert "'Atlantis'" in check.sentence


def test_values_that_the_schema_refuses(make_window, draw, run):
    rows = draw(300)
    rows.loc[[3, 4], "body_mass_g"] = 1e6
    found = run(make_window(rows))
    check = find(found, "schema")
    assert (check.verdict, check.figure, check.column) == ("fail", 2 / 300, "body_mass_g")
    assert "from 1000 to 10000 g, or null, not 1e+06" in check.sentence


def test_drift_is_named_with_what_changed(make_window, draw, run):
    rows = draw(300)
    found = run(make_window(rows.assign(body_mass_g=rows["body_mass_g"] + 1600)))
    assert failed(found) == {("drift", "body_mass_g")}
    assert find(found, "drift", "body_mass_g").sentence.startswith("body_mass_g has drifted")


def test_evidently_has_the_last_word_where_it_was_asked(make_window, draw):
    compared = drift.compare(make_window(draw(300).assign(sex="MALE")))
    found = drift.check_drift(compared, {"island": 0.5})
    assert (find(found, "drift", "island").verdict, failed(found)) == (
        "fail",
        {("drift", "island"), ("drift", "sex")},
    )
    assert "Evidently" not in find(found, "drift", "island").sentence
    assert "Judged without Evidently, because it is always 'MALE' now." in (
        find(found, "drift", "sex").sentence
    )


@pytest.mark.parametrize(
    ("volume", "others", "expected"),
    [
        ((0, "not enough data"), [], "no data"),
        ((50, "not enough data"), ["pass", "warn"], "not enough data"),
        ((50, "not enough data"), ["pass", "fail"], "fail"),
        ((300, "pass"), ["pass", "not enough data"], "pass"),
        ((300, "pass"), ["pass", "warn"], "warn"),
        ((300, "pass"), ["warn", "fail", "pass"], "fail"),
    ],
)
def test_verdict(volume, others, expected):
    found = [Check("volume", float(volume[0]), 100.0, volume[1], "")]
    found += [Check("drift", 1.0, 1.0, other, "") for other in others]
    assert checks.verdict(found) == expected
