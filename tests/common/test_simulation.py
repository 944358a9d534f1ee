"""Simulated production."""

import pytest

from common import settings
from common.dataset import read_table
from common.simulation import draw, drifting_feature, send
from inference.backend import Answer
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


class Endpoint:
    """Stands for an endpoint of another kind: answers, or refuses from some row on."""

    def __init__(self, refuse_after: int) -> None:
        self.rows, self.refuse_after = 0, refuse_after

    def invoke(self, records) -> Answer:
        if self.rows >= self.refuse_after:
            raise BackendError("no more")
        self.rows += len(records)
        return Answer([{}] * len(records), "1", "r")


def test_given_an_endpoint_then_every_record_reaches_it(schema, rows):
    endpoint = Endpoint(refuse_after=1000)

    assert send(endpoint, draw(schema, rows, 95, seed=1, drift=False), connections=3) == 95
    assert endpoint.rows == 95


def test_given_an_endpoint_that_fails_then_sending_fails(schema, rows):
    endpoint = Endpoint(refuse_after=30)

    with pytest.raises(BackendError, match="no more"):
        send(endpoint, draw(schema, rows, 500, seed=1, drift=False), connections=1)

    assert endpoint.rows == 30
