"""Simulated production."""

import pytest

from common import settings
from common.dataset import read_table
from common.simulation import draw, drifting_feature, send
from inference.errors import BackendError
from inference.schema import Schema


@pytest.fixture(scope="module")
def rows(schema):
    return read_table(settings.load().dataset).rows


def test_given_a_seed_then_the_draw_is_reproducible(schema, rows):
    first = draw(schema, rows, 50, seed=1, drift=False)

    assert first == draw(schema, rows, 50, seed=1, drift=False)
    assert first != draw(schema, rows, 50, seed=2, drift=False)
    assert len(schema.check(first)) == 50


def test_given_drift_then_one_column_moves_and_stays_in_its_range(schema, rows):
    usual = draw(schema, rows, 200, seed=1, drift=False)
    drifted = draw(schema, rows, 200, seed=1, drift=True)
    moved = {
        name
        for before, after in zip(usual, drifted, strict=True)
        for name in schema.features
        if before[name] != after[name]
    }

    assert moved == {drifting_feature(schema)} == {"body_mass_g"}
    schema.check(drifted)
    present = [(a, b) for a, b in zip(usual, drifted, strict=True) if a["body_mass_g"]]
    shift = sum(b["body_mass_g"] - a["body_mass_g"] for a, b in present) / len(present)
    assert shift == pytest.approx(2 * rows["body_mass_g"].std(), rel=0.01)


def test_given_categories_only_then_the_last_takes_its_rarest_value(schema, rows):
    features = {name: schema.features[name] for name in ("sex", "island")}
    narrow = Schema(target=schema.target, classes=schema.classes, features=features)

    drifted = draw(narrow, rows, 20, seed=1, drift=True)

    assert {record["island"] for record in drifted} == {"Torgersen"}


def test_given_no_endpoint_then_sending_fails_soon_and_says_how_to_start_one(local, schema, rows):
    records = draw(schema, rows, 500, seed=1, drift=False)

    with pytest.raises(
        BackendError, match=r"does not answer .* start the server with `just deploy`"
    ):
        send(local, records, connections=2)
