"""Whether a change in how columns hang together is seen, and nothing else."""

import numpy as np
import pytest

from common.monitoring import association, drift
from inference.schema import Category, Number, Schema

COLUMNS = [
    "island",
    "culmen_length_mm",
    "culmen_depth_mm",
    "flipper_length_mm",
    "body_mass_g",
    "sex",
]
# By column, the one that it hung together with most of all that are left.
PARTNERS = {"body_mass_g": "flipper_length_mm", "flipper_length_mm": "body_mass_g"}


def permute(rows, name, seed=1):
    """Hand the values of one column round among the rows: each column keeps its values."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows.assign(**{name: rows[name].to_numpy()[order]})


@pytest.mark.parametrize(("rows", "seeds"), [(100, 40), (500, 20), (5000, 5)])
def test_rows_of_the_table_raise_no_alarm(make_window, draw, rows, seeds):
    found = [association.check_associations(make_window(draw(rows, s))) for s in range(seeds)]
    assert {check.verdict for check in found} == {"pass"}


def test_rows_that_the_reference_does_not_hold_raise_no_alarm(make_window, draw, reference):
    for seed in range(40):
        shuffled = reference.sample(frac=1, random_state=seed)
        rows = draw(150, seed, table=shuffled[:150], replace=False)
        window = make_window(rows, reference=shuffled[150:])
        assert association.check_associations(window).verdict == "pass"


@pytest.mark.parametrize("name", COLUMNS)
def test_a_change_that_no_column_shows(make_window, draw, name):
    for seed in range(5):
        window = make_window(permute(draw(300, seed), name))
        assert [one for one in drift.compare(window) if one.distance > one.limit] == []
        check = association.check_associations(window)
        assert check.verdict == "fail"
        assert check.figure > check.limit
        assert name in check.sentence
        assert PARTNERS.get(name, "") in check.sentence


def test_what_changed_is_told(make_window, draw):
    check = association.check_associations(make_window(permute(draw(500), "body_mass_g")))
    assert check.sentence.startswith(
        "flipper_length_mm and body_mass_g no longer hang together as in training: their"
        " correlation is 0.01, 0.80 in training; a change of 0.2"
    )


def test_a_column_that_is_shifted_and_stretched_is_no_change(make_window, draw):
    rows = draw(300)
    before = association.check_associations(make_window(rows))
    rows["body_mass_g"] = rows["body_mass_g"] * 1.5 + 1600
    window = make_window(rows)
    assert [one.column for one in drift.compare(window) if one.distance > one.limit] == [
        "body_mass_g"
    ]
    after = association.check_associations(window)
    assert after.verdict == "pass"
    assert (after.figure, after.limit) == pytest.approx((before.figure, before.limit))


@pytest.fixture(scope="module")
def letters() -> Schema:
    """Two categories with names that are none of a page's business, and a number."""
    category = Category(kind="category", categories=("<a>", "'b'", "ö"))
    return Schema(
        target="y",
        classes=("Adelie", "Gentoo"),
        features={"first <i>": category, "second": category, "n": Number(kind="number")},
    )


def test_categories_that_hang_together(make_window, draw, reference, letters):
    rng = np.random.default_rng(0)
    values = np.array(letters.features["second"].categories)

    def table(rows, *, together):
        first = rng.integers(0, 3, len(rows))
        second = first if together else rng.integers(0, 3, len(rows))
        extra = {"first <i>": values[first], "second": values[second]}
        return rows.assign(**extra, n=rng.normal(size=len(rows)))

    known = table(reference, together=True)
    for together, verdict in ((True, "pass"), (False, "fail")):
        rows = table(draw(300), together=together)
        window = make_window(rows, reference=known, schema=letters)
        check = association.check_associations(window)
        assert check.verdict == verdict
        assert "first <i> " in check.sentence
        assert " and second " in check.sentence


@pytest.mark.parametrize("rows", [1, 99])
def test_few_rows(make_window, draw, rows):
    check = association.check_associations(make_window(draw(rows)))
    assert (check.verdict, check.figure) == ("not enough data", None)
    assert "100 rows are needed" in check.sentence


def test_columns_without_values_or_variety(make_window, draw, schema):
    rows = draw(300)
    constant = rows.assign(sex=None, body_mass_g=4000.0, island="Atlantis")
    check = association.check_associations(make_window(constant))
    assert check.verdict == "pass"
    empty = rows.assign(**dict.fromkeys(schema.features, None))
    check = association.check_associations(make_window(empty))
    assert check.verdict == "not enough data"
    assert "no two columns vary" in check.sentence


def test_half_of_a_column_missing_leaves_enough(make_window, draw):
    rows = permute(draw(1000), "body_mass_g")
    rows.loc[::2, "flipper_length_mm"] = np.nan
    check = association.check_associations(make_window(rows))
    assert check.verdict == "fail"
    assert "body_mass_g" in check.sentence
