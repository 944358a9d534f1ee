"""How often drift is found where there is none, and where there is some."""

import numpy as np
import pandas as pd
import pytest

from common.monitoring import drift, window

SEEDS = range(20)
FEWER_SEEDS = range(10)


def drifted(window):
    return {one.column for one in drift.compare(window) if one.distance > one.limit}


def find(window, column):
    return next(one for one in drift.compare(window) if one.column == column)


def test_rows_of_the_same_table_raise_no_alarm(make_window, draw):
    assert [seed for seed in SEEDS if drifted(make_window(draw(300, seed)))] == []


def test_rows_that_the_reference_does_not_hold_raise_no_alarm(make_window, draw, reference):
    alarms = []
    for seed in FEWER_SEEDS:
        shuffled = reference.sample(frac=1, random_state=seed)
        rows = draw(150, seed, table=shuffled[:150], replace=False)
        if drifted(make_window(rows, reference=shuffled[150:])):
            alarms.append(seed)
    assert alarms == []


@pytest.mark.parametrize(
    "name", ["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g"]
)
def test_two_deviations_always_raise_the_alarm_for_their_column(make_window, draw, reference, name):
    shift = 2 * reference[name].std()
    for seed in range(5):
        rows = draw(300, seed)
        assert drifted(make_window(rows.assign(**{name: rows[name] + shift}))) == {name}


def test_some_missing_values_leave_enough_to_judge_by(make_window, draw):
    rows = draw(100)
    rows.loc[:49, "body_mass_g"] = None
    assert find(make_window(rows), "body_mass_g").distance is not None


def test_a_category_that_takes_over_raises_the_alarm(make_window, draw):
    rows = draw(300)
    moved = find(make_window(rows.assign(island="Torgersen")), "island")
    assert moved.distance > moved.limit
    assert moved.change == "'Torgersen' 15.1% → 100.0%"


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e6])
def test_distance_does_not_depend_on_the_unit(make_window, draw, reference, factor):
    name = "culmen_length_mm"
    rows, table = draw(300), reference.copy()
    before = find(make_window(rows), name)
    rows[name] *= factor
    table[name] *= factor
    after = find(make_window(rows, reference=table), name)
    assert (after.distance, after.limit) == pytest.approx((before.distance, before.limit))


@pytest.mark.parametrize("spread", [0.1, 4])
def test_heavy_tails_raise_no_alarm(make_window, draw, reference, spread):
    """A mean says nothing of such columns; the shuffles have the same tail."""
    name, rng = "body_mass_g", np.random.default_rng(0)
    for seed in range(5):
        table = reference.assign(**{name: rng.lognormal(0, spread, len(reference))})
        rows = draw(300, seed).assign(**{name: rng.lognormal(0, spread, 300)})
        one = find(make_window(rows, reference=table), name)
        assert one.distance <= one.limit


@pytest.mark.parametrize(
    ("change", "obstacle"),
    [
        ({"sex": None}, "it holds no values"),
        ({"body_mass_g": np.nan}, "it holds no values"),
        ({"sex": "MALE"}, "it is always 'MALE' now"),
        ({"body_mass_g": 4000.0}, "it is always 4000 now"),
        ({"body_mass_g": 4000 + np.arange(300) * 1e-9}, "its values hardly differ now"),
        ({"sex": [None] * 252 + ["MALE", "FEMALE"] * 24}, "it holds 48 values, and 50 are needed"),
    ],
)
def test_columns_that_evidently_cannot_judge(make_window, draw, change, obstacle):
    one = find(make_window(draw(300).assign(**change)), next(iter(change)))
    assert one.obstacle == obstacle


def test_a_column_that_the_captured_rows_lack(make_window, draw):
    one = find(make_window(draw(300).drop(columns="sex")), "sex")
    assert (one.distance, one.obstacle) == (None, "it holds no values")


@pytest.mark.parametrize(
    ("value", "obstacle"),
    [(None, "training had no values of it"), ("MALE", "it is always 'MALE' in training")],
)
def test_a_reference_without_variety(make_window, draw, reference, value, obstacle):
    one = find(make_window(draw(300), reference=reference.assign(sex=value)), "sex")
    assert one.obstacle == obstacle


def test_a_constant_that_stays_has_not_drifted(make_window, draw, reference):
    window = make_window(draw(300).assign(sex="MALE"), reference=reference.assign(sex="MALE"))
    assert find(window, "sex").distance == 0
    window = make_window(
        draw(300).assign(body_mass_g=7.0), reference=reference.assign(body_mass_g=7.0)
    )
    assert find(window, "body_mass_g").distance == 0


def test_predictions_of_other_versions_do_not_count(make_window, draw):
    rows = draw(300)
    rows.loc[:99, ["model_version", "prediction"]] = ["1", "Chinstrap"]
    window = make_window(rows)
    assert find(window, "prediction").distance <= find(window, "prediction").limit
    rows.loc[:250, "model_version"] = "1"
    assert find(make_window(rows), "prediction").distance is None


def test_values_that_do_not_fit_their_column_are_missing(make_window, draw):
    rows = draw(3).astype({"body_mass_g": object, "sex": object})
    rows["body_mass_g"] = ["heavy", np.inf, 12]
    rows["sex"] = [1, None, "MALE"]
    window = make_window(rows)
    assert window.rows["body_mass_g"].isna().tolist() == [True, True, False]
    assert window.rows["sex"].tolist() == ["1", None, "MALE"]


def test_large_tables_are_sampled_the_same_way_each_time():
    rows = pd.DataFrame({"number": np.arange(window.SAMPLED_ROWS + 1)})
    assert len(window.sample(rows)) == window.SAMPLED_ROWS
    assert window.sample(rows).equals(window.sample(rows))
    assert window.sample(rows[1:]) is not None
    assert len(window.sample(rows[1:])) == window.SAMPLED_ROWS


def test_a_sample_holds_its_share_of_each_prediction_and_label(draw):
    rows = draw(3 * window.SAMPLED_ROWS)
    rows["target"] = rows["target"].where(rows.index % 100 == 0, None)
    part = window.sample(rows)
    for name in ("prediction", "target"):
        counts = rows[name].value_counts(dropna=False)
        assert (part[name].value_counts(dropna=False) - counts / 3).abs().max() <= 1
    assert part.index.is_monotonic_increasing
    # within them it is random
    assert part["body_mass_g"].mean() == pytest.approx(rows["body_mass_g"].mean(), rel=0.01)


def test_what_came_with_a_request_is_shown_short_and_visible():
    assert window.show("a\x1b[31m\n") == r"'a\x1b[31m\n'"
    assert len(window.show("x" * 200)) == 40


def test_model_that_is_less_sure(make_window, draw):
    rows = draw(300)
    usual = drift.check_confidence(make_window(rows))
    unsure = drift.check_confidence(make_window(rows.assign(confidence=rows["confidence"] * 0.8)))
    sure = drift.check_confidence(make_window(rows.assign(confidence=1.0)))

    assert [check.verdict for check in (usual, unsure, sure)] == ["pass", "warn", "pass"]
    assert (unsure.name, unsure.column) == ("drift", "confidence")
    assert "less sure than in training" in unsure.sentence
    few = drift.check_confidence(make_window(draw(20)))
    assert (few.verdict, few.figure) == ("not enough data", None)
