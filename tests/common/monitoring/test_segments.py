"""Which kind of rows a model fails, and how often chance makes it look so."""

import numpy as np
import pandas as pd
import pytest

from common.monitoring import segments

HOSTILE = '<b>"naïve" & it\'s</b>'


def find(found, column):
    return next(check for check in found if check.column == column)


def wrong_where(rows, condition, schema):
    """Give these rows another label than the one that was predicted."""
    other = dict(zip(schema.classes, np.roll(schema.classes, 1), strict=True))
    return rows.assign(target=rows["target"].mask(condition, rows["prediction"].map(other)))


@pytest.mark.parametrize("rows", [50, 100, 500])
def test_chance_alone_lets_no_segment_fail(make_window, draw, rows):
    for seed in range(10):
        found = segments.check_segments(make_window(draw(rows, seed)))
        assert [check.column for check in found] == ["island", "sex"]
        assert {check.verdict for check in found} == {"pass"}


@pytest.mark.integration
def test_chance_alone_lets_none_of_many_segments_fail(make_window, draw, reference, schema):
    """50 categories, and a reference in which one prediction of five is wrong."""
    rng = np.random.default_rng(0)

    def spoil(rows):
        categories = rng.integers(50, size=len(rows)).astype(str)
        return wrong_where(rows.assign(island=categories), rng.random(len(rows)) < 0.2, schema)

    table = spoil(pd.concat([reference] * 4, ignore_index=True))
    for seed in range(20):
        window = make_window(spoil(draw(2_000, seed)), reference=table)
        assert {check.verdict for check in segments.check_segments(window)} == {"pass"}


def test_the_worst_segment_is_named(make_window, draw, schema):
    rows = draw(500)
    bad = (rows["island"] == "Torgersen") & (np.arange(500) % 2 == 0)
    found = segments.check_segments(make_window(wrong_where(rows, bad, schema)))
    island = find(found, "island")
    low, high = island.interval
    assert island.verdict == "fail"
    assert low < island.figure < high < island.limit
    assert "worst is 'Torgersen'" in island.sentence
    assert find(found, "sex").verdict == "pass"


def test_all_segments_that_fail_are_named(make_window, draw, schema):
    rows = draw(500)
    bad = rows["island"].isin(["Torgersen", "Dream"]) & (np.arange(500) % 2 == 0)
    sentence = find(
        segments.check_segments(make_window(wrong_where(rows, bad, schema))), "island"
    ).sentence
    assert "Too low are" in sentence
    assert "'Torgersen'" in sentence
    assert "'Dream'" in sentence


def test_missing_values_are_a_segment(make_window, draw, schema):
    rows = draw(300)
    rows.loc[:99, "sex"] = None
    window = make_window(wrong_where(rows, np.arange(300) < 80, schema))
    check = find(segments.check_segments(window), "sex")
    assert check.verdict == "fail"
    assert check.figure == pytest.approx(1 - 80 / window.rows["sex"].isna().sum(), abs=0.02)
    assert "worst is those without a value" in check.sentence


def test_a_category_that_training_did_not_know(make_window, draw, schema):
    """It is expected to be like the rest, with the doubt that no row of its own leaves."""
    rows = draw(300)
    rows.loc[:59, "island"] = HOSTILE
    fine = find(segments.check_segments(make_window(rows)), "island")
    assert fine.verdict == "pass"
    window = make_window(wrong_where(rows, np.arange(300) < 58, schema))
    bad = find(segments.check_segments(window), "island")
    assert bad.verdict == "fail"
    assert f"worst is {HOSTILE!r}" in bad.sentence
    assert "unknown in training" in bad.sentence


def test_small_segments_are_left_out(make_window, draw, schema):
    rows = draw(300)
    rows.loc[:18, "island"] = "tiny"
    window = make_window(wrong_where(rows, np.arange(300) < 19, schema))
    check = find(segments.check_segments(window), "island")
    assert check.verdict == "pass"
    assert "3 segments judged, 1 smaller one left out." in check.sentence
    assert "tiny" not in [one["value"] for one in segments.judge_segments(window)]


def test_only_small_segments(make_window, draw):
    rows = draw(100).assign(island=[f"place {row}" for row in range(100)])
    check = find(segments.check_segments(make_window(rows)), "island")
    assert (check.verdict, check.figure) == ("not enough data", None)


def test_few_labels_give_no_check(make_window, draw):
    rows = draw(300)
    rows.loc[49:, "target"] = None
    assert segments.check_segments(make_window(rows)) == []


def test_a_segment_that_was_always_hard_is_no_news(make_window, draw, reference, schema):
    rng = np.random.default_rng(0)

    def spoil(rows):
        bad = (rows["island"] == "Torgersen") & (rng.random(len(rows)) < 0.5)
        return wrong_where(rows, bad, schema)

    window = make_window(spoil(draw(500)), reference=spoil(reference))
    assert find(segments.check_segments(window), "island").verdict == "pass"


def test_table_of_a_reference_alone(reference, schema):
    table = segments.tabulate(reference, schema.categories)
    assert [(one["feature"], one["value"]) for one in table] == [
        ("island", "Biscoe"),
        ("island", "Dream"),
        ("island", "Torgersen"),
        ("sex", "MALE"),
        ("sex", "FEMALE"),
    ]
    assert set(table[0]) == {"feature", "value", "rows", "right", "accuracy", "interval"}
    assert sum(one["rows"] for one in table if one["feature"] == "island") == len(reference)


def test_table_beside_a_reference(draw, reference):
    rows = draw(300).assign(island="new")
    rows.loc[:9, "target"] = None
    (one,) = segments.tabulate(rows, ["island"], reference)
    assert (one["value"], one["rows"]) == ("new", 290)
    assert (one["reference rows"], one["reference accuracy"]) == (0, None)
    low, high = one["interval"]
    assert low < one["accuracy"] < high


def test_no_rows_and_no_categories(reference):
    assert segments.tabulate(reference[:0], ["island"], reference) == []
    assert segments.tabulate(reference, []) == []
