"""What the checks of captured data let pass, and what they find."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from common.monitoring import data
from inference.schema import Category, Number, Schema


def find(found, column):
    return next(check for check in found if check.column == column)


@pytest.fixture
def every_check(make_window):
    """Return the verdicts of all checks of data."""

    def run(rows, **changes):
        window = make_window(rows, **changes)
        found = [data.check_freshness(window), data.check_schema(window)]
        found += [*data.check_missing(window), *data.check_unseen(window)]
        found += [*data.check_ranges(window), *data.check_constants(window)]
        return {check.verdict for check in [*found, data.check_duplicates(window)]}

    return run


@pytest.mark.parametrize("rows", [100, 500, 3000])
def test_rows_of_the_table_raise_no_alarm(every_check, draw, rows):
    assert [seed for seed in range(20) if every_check(draw(rows, seed)) != {"pass"}] == []


def test_rows_that_the_reference_does_not_hold_raise_no_alarm(every_check, draw, reference):
    for seed in range(20):
        shuffled = reference.sample(frac=1, random_state=seed)
        rows = draw(150, seed, table=shuffled[:150], replace=False)
        assert every_check(rows, reference=shuffled[150:]) == {"pass"}


@pytest.mark.parametrize("rows", [1, 3, 99])
def test_the_same_few_rows_raise_no_alarm(every_check, draw, rows):
    """Somebody tries the service with the example of its documentation."""
    assert every_check(draw(1).loc[[0] * rows].reset_index()) <= {"pass", "not enough data"}


@pytest.mark.parametrize(
    ("hours", "verdict", "words"),
    [
        (0, "pass", "0.0 hours old; up to 24 is fresh"),
        (23.9, "pass", "23.9 hours old"),
        (24.1, "warn", "24.1 hours old; up to 24 is fresh. What is judged here says nothing"),
        (1000, "warn", "1,000.0 hours old"),
        (-1 / 60, "pass", "0.0 hours old"),
        (-1, "warn", "1.0 hours in the future"),
        (-24 * 365, "warn", "8,760.0 hours in the future"),
    ],
)
def test_freshness(make_window, draw, hours, verdict, words):
    rows = draw(3)
    now = rows["time"].max().to_pydatetime() + timedelta(hours=hours)
    check = data.check_freshness(make_window(rows), now)
    assert (check.verdict, check.figure) == (verdict, pytest.approx(hours))
    assert words in check.sentence


def test_freshness_goes_by_this_clock(make_window, draw):
    rows = draw(3)
    rows["time"] -= datetime.now(UTC) - datetime(2026, 1, 1, tzinfo=UTC)
    assert data.check_freshness(make_window(rows)).verdict == "warn"


@pytest.mark.parametrize(
    ("values", "verdict", "words"),
    [
        ([7000.0], "pass", "0.3% of the values lie beyond 2700 to 6300"),
        ([7000.0] * 30, "warn", "10.0% of the values lie beyond 2700 to 6300"),
        ([1e6], "fail", "1 is outside the schema's range, 1000 to 10000."),
        ([-1.0] * 30, "fail", "30 are outside the schema's range"),
    ],
)
def test_ranges(make_window, draw, values, verdict, words):
    rows = draw(300)
    rows.loc[: len(values) - 1, "body_mass_g"] = values
    found = data.check_ranges(make_window(rows))
    check = find(found, "body_mass_g")
    known = rows["body_mass_g"].notna().sum()
    assert (check.verdict, check.figure) == (verdict, len(values) / known)
    assert words in check.sentence
    assert {one.verdict for one in found if one != check} == {"pass"}


def test_ranges_without_values(make_window, draw, reference):
    empty = draw(300).assign(body_mass_g=None)
    check = find(data.check_ranges(make_window(empty)), "body_mass_g")
    assert (check.verdict, check.figure) == ("not enough data", None)
    table = reference.assign(body_mass_g=np.nan)
    check = find(data.check_ranges(make_window(draw(300), reference=table)), "body_mass_g")
    assert "training had no values of it" in check.sentence


@pytest.mark.parametrize(("before", "now"), [(100, 100), (344, 500), (1000, 1_000_000)])
def test_chance_seldom_goes_beyond_its_limit(before, now):
    """Whatever the distribution is: the smallest and largest of `before` uniform numbers."""
    rng = np.random.default_rng(0)
    ends = np.sort(rng.random((2000, before)), axis=1)[:, [0, -1]]
    shares = rng.binomial(now, 1 - np.ptp(ends, axis=1)) / now
    assert (shares > data.beyond_limit(before, now, 0)).sum() <= 2
    assert (shares > data.beyond_limit(before, now, 0) / 2).sum() > 2


@pytest.mark.parametrize(
    ("change", "column"),
    [({"sex": "MALE"}, "sex"), ({"body_mass_g": 4000.0}, "body_mass_g"), ({"sex": "?"}, "sex")],
)
def test_a_column_that_is_stuck(make_window, draw, change, column):
    found = data.check_constants(make_window(draw(100).assign(**change)))
    check = find(found, column)
    assert (check.verdict, check.figure) == ("fail", 1)
    assert check.limit < 1
    assert f"{column} is stuck: always " in check.sentence
    assert {one.verdict for one in found if one != check} == {"pass"}


def test_constant_by_chance_or_as_ever_passes(make_window, draw, reference):
    """One row in fifty holds another value: a hundred rows without one are nothing new."""
    rare = np.where(np.arange(len(reference)) % 50 == 0, "FEMALE", "MALE")
    for table in (reference.assign(sex=rare), reference.assign(sex="MALE")):
        window = make_window(draw(100).assign(sex="MALE"), reference=table)
        assert find(data.check_constants(window), "sex").verdict == "pass"
    window = make_window(draw(5000).assign(sex="MALE"), reference=reference.assign(sex=rare))
    assert find(data.check_constants(window), "sex").verdict == "fail"


def test_constants_without_values(make_window, draw, reference):
    few = make_window(draw(100).assign(sex=["MALE", *[None] * 99]))
    check = find(data.check_constants(few), "sex")
    assert (check.verdict, check.sentence) == (
        "not enough data",
        "sex cannot be judged: it holds 1 value, and 50 are needed.",
    )
    window = make_window(draw(100), reference=reference.assign(sex=None))
    assert "training had no values" in find(data.check_constants(window), "sex").sentence


@pytest.mark.parametrize(("copies", "verdict"), [(0, "pass"), (20, "pass"), (60, "fail")])
def test_copies_of_a_row_that_training_lacks(make_window, draw, copies, verdict):
    rows = draw(300)
    rows.loc[: copies - 1, ["body_mass_g", "sex"]] = [4321.5, None]
    rows.loc[: copies - 1, "flipper_length_mm"] = 200.0
    rows.loc[: copies - 1, "culmen_length_mm"] = 40.0
    rows.loc[: copies - 1, "culmen_depth_mm"] = 18.0
    rows.loc[: copies - 1, "island"] = "Dream"
    check = data.check_duplicates(make_window(rows))
    assert check.verdict == verdict
    assert check.figure == pytest.approx(max(copies - 1, 0) / 300)
    if copies:
        assert f"The commonest row occurs {copies} times" in check.sentence


def test_a_few_rows_again_and_again(make_window, draw):
    rows = draw(5).loc[[0, 1, 2, 3, 4] * 100].reset_index(drop=True)
    check = data.check_duplicates(make_window(rows))
    assert check.verdict == "fail"
    assert check.figure > 0.9
    assert "5 rows of 500 differ" in check.sentence


def test_copies_that_training_has_as_well_pass(make_window, draw, reference):
    """Where a table has two columns of two values each, every row is a copy."""
    schema = Schema(
        target="species",
        classes=("Adelie", "Gentoo"),
        features={
            "sex": Category(kind="category", categories=("FEMALE", "MALE")),
            "count": Number(kind="number"),
        },
    )
    # integers in training are equal to the numbers with a point that requests hold
    table = reference.assign(count=np.arange(len(reference)) % 2)
    rows = draw(1000, table=table).astype({"count": float})
    check = data.check_duplicates(make_window(rows, reference=table, schema=schema))
    assert (check.verdict, check.figure) == ("pass", 0)


def test_schema_of_many_rows_is_checked_to_the_last(make_window, draw):
    rows = draw(data.PIECE_ROWS + 100)
    rows.loc[[10, data.PIECE_ROWS + 50], "body_mass_g"] = [0.0, 1e6]
    check = data.check_schema(make_window(rows))
    assert (check.verdict, check.figure) == ("fail", 2 / len(rows))
    assert "2 of 50,100 rows do not fit the schema" in check.sentence
    assert check.sentence.endswith("from 1000 to 10000 g, or null, not 0.")


def test_schema_of_a_column_with_several_types(make_window, draw):
    rows = draw(10).astype({"body_mass_g": object})
    rows.loc[3, "body_mass_g"] = "heavy"
    check = data.check_schema(make_window(rows))
    assert (check.verdict, check.figure, check.column) == ("fail", 0.1, "body_mass_g")
    assert "not 'heavy'" in check.sentence


def test_volume_tells_of_other_versions(make_window, draw):
    check = data.check_volume(make_window(draw(0)), {"1": 1200, "<b>": 2})
    assert check.figure == 0
    assert check.sentence == (
        "Version 2, which is deployed, answered none of the 1,202 newest rows: version '1' 1,200,"
        " version '<b>' 2."
    )
    check = data.check_volume(make_window(draw(300)), {"1": 7})
    assert check.verdict == "pass"
    assert check.sentence.endswith("answered more, and are judged apart: version '1' 7.")


@pytest.mark.parametrize("time", [pd.Timestamp("2026-01-01", tz="UTC")])
def test_volume_of_one_moment(make_window, draw, time):
    check = data.check_volume(make_window(draw(100).assign(time=time)), {})
    assert "captured 2026-01-01 00:00 to 2026-01-01 00:00 UTC." in check.sentence
