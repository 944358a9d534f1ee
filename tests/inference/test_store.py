"""What `Store.load` returns: types, order, and what other versions captured."""

from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from inference.backend import Captured
from inference.frame import PIECE_ROWS
from inference.schema import Category, Number, Schema
from inference.store import Store

PREDICTION = {"prediction": "ü", "confidence": 0.75, "probabilities": {"ü": 0.75, "b": 0.25}}


@pytest.fixture
def schema():
    return Schema(
        target="y",
        classes=("ü", "b", "new"),
        features={
            "größe": Number(kind="number"),
            "it's": Category(kind="category", categories=("<x>",)),
        },
    )


@pytest.fixture
def store(tmp_path):
    with closing(Store(tmp_path / "captured.db")) as opened:
        yield opened


def save(store, records, version="1"):
    rows = []
    for number, record in enumerate(records):
        rows += Captured.from_answer(f"r{number}", version, [record], [PREDICTION])
    store.save(rows)
    return rows


def load(store, schema, limit=10_000):
    return store.load(schema, limit, since=None, labelled=None)


def check_types(table):
    assert table.dtypes.astype(str).to_dict() == {
        "id": "object",
        "time": "datetime64[ns, UTC]",
        "model_version": "object",
        "größe": "float64",
        "it's": "object",
        "prediction": "object",
        "confidence": "float64",
        "probability ü": "float64",
        "probability b": "float64",
        "probability new": "float64",
        "target": "object",
    }


@pytest.mark.parametrize("rows", [0, 1, PIECE_ROWS - 1, PIECE_ROWS, 2 * PIECE_ROWS + 1])
def test_rows_come_back_as_they_were_saved(store, schema, rows):
    records = [{"größe": number / 7, "it's": f"{number % 3}"} for number in range(rows)]
    saved = save(store, records)
    table = load(store, schema)
    check_types(table)
    assert table["id"].tolist() == [f"r{number}-0" for number in reversed(range(rows))]
    assert table["größe"].tolist() == [record["größe"] for record in reversed(records)]
    assert table["it's"].tolist() == [record["it's"] for record in reversed(records)]
    assert [time.timestamp() for time in table["time"]] == [row.time for row in reversed(saved)]
    assert table.index.tolist() == list(range(rows))


def test_what_is_missing(store, schema):
    save(store, [{"größe": None, "it's": None}, {}])
    table = load(store, schema)
    check_types(table)
    assert np.isnan(table["größe"]).all()
    assert table["it's"].tolist() == [None, None]
    assert np.isnan(table["probability new"]).all()
    assert table["probability ü"].tolist() == [0.75, 0.75]
    assert table["target"].tolist() == [None, None]


def test_equal_texts_are_held_once(store, schema):
    save(store, [{"it's": "a long text"}] * 3 * PIECE_ROWS)
    table = load(store, schema)
    assert {id(value) for value in table["it's"]} == {id(table["it's"][0])}
    assert len({id(value) for value in table["prediction"]}) == 1


def test_values_of_another_type_stay_as_they_are(store, schema):
    """Another version captured text where this one has numbers, and the other way round."""
    save(store, [{"größe": "tall", "it's": 7.5}, {"größe": 3.0, "it's": "x"}])
    table = load(store, schema)
    assert table["größe"].tolist() == [3.0, "tall"]
    assert table["it's"].tolist() == ["x", 7.5]


def test_since_and_limit(store, schema):
    saved = save(store, [{"größe": float(number)} for number in range(5000)])
    since = datetime.fromtimestamp(saved[4990].time, UTC)
    table = store.load(schema, 10_000, since=since, labelled=None)
    assert table["größe"].iloc[0] == 4999
    assert set(table["größe"]) >= set(range(4990, 5000))
    assert (table["time"] >= pd.Timestamp(since)).all()
    assert load(store, schema, 3)["größe"].tolist() == [4999, 4998, 4997]
