"""Which figures pass, and what one verdict comes of them."""

import numpy as np
import pytest

from common.monitoring import checks, drift, quality, review
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
        "schema",
        *["missing"] * 6,
        *["unseen"] * 2,
        *["drift"] * 7,
        "accuracy",
        "macro F1",
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


def spoil(rows, share, schema):
    """Give this share of rows another label than the one that was predicted."""
    other = dict(zip(schema.classes, np.roll(schema.classes, 1), strict=True))
    wrong = np.arange(len(rows)) < share * len(rows)
    return rows.assign(target=rows["prediction"].map(other).where(wrong, rows["prediction"]))


@pytest.mark.parametrize(("wrong", "expected"), [(0, "pass"), (0.05, "pass"), (0.2, "fail")])
def test_quality(make_window, draw, schema, run, wrong, expected):
    found = run(make_window(spoil(draw(300), wrong, schema)))
    accuracy = find(found, "accuracy")
    assert (accuracy.verdict, accuracy.figure) == (expected, pytest.approx(1 - wrong))
    assert find(found, "macro F1").verdict == expected
    assert "0.985 in training (out of fold)" in accuracy.sentence


@pytest.mark.parametrize("rows", [50, 100, 500])
def test_chance_alone_lets_no_quality_check_fail(make_window, draw, rows):
    for seed in range(10):
        assert failed(quality.check_quality(make_window(draw(rows, seed)))) == set()


@pytest.mark.parametrize("labelled", [0, 3, 49])
def test_few_labels(make_window, draw, run, labelled):
    rows = draw(300)
    rows.loc[labelled:, "target"] = None
    found = run(make_window(rows))
    assert find(found, "accuracy").verdict == find(found, "macro F1").verdict == "not enough data"
    assert f"{labelled} labelled rows of version 2" in find(found, "accuracy").sentence
    assert checks.verdict(found) == "pass"


def test_one_class_only(make_window, draw, reference):
    rows = draw(300, table=reference[reference["target"] == "Gentoo"])
    rows.loc[0, "prediction"] = "Adelie"
    accuracy, f1 = quality.check_quality(make_window(rows))
    assert (accuracy.verdict, f1.verdict) == ("pass", "pass")
    assert "Over Gentoo only" in f1.sentence


def test_labels_that_are_no_class_count_as_wrong(make_window, draw):
    found = quality.check_quality(make_window(draw(300).assign(target="Dodo")))
    assert [(check.name, check.figure, check.verdict) for check in found] == [
        ("accuracy", 0.0, "fail")
    ]


def test_answers_of_other_versions_do_not_count(make_window, draw, schema):
    rows = spoil(draw(300), 0.5, schema)
    rows.loc[:149, "model_version"] = "1"
    accuracy, _ = quality.check_quality(make_window(rows))
    assert accuracy.figure == 1
    assert "150 labelled rows" in accuracy.sentence


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
