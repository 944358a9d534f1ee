"""The table with captured rows behind it."""

import numpy as np
import pandas as pd
import pytest

from common import fitting, settings
from common.dataset import read_table
from common.fitting import CURRENT, ORIGIN
from common.retraining import extend, older_weight
from inference.errors import DatasetError
from inference.schema import Schema

NEWEST = pd.Timestamp("2026-03-01", tz="UTC")


@pytest.fixture(scope="module")
def table():
    return read_table(settings.load().dataset).shuffled(42)


@pytest.fixture
def capture(table, schema):
    """Returns labelled rows as Backend.load does, newest first; `swap` changes what is true."""

    def capture(count, seed=0, *, swap=False):
        drawn = table.rows.sample(count, replace=True, random_state=seed).reset_index(drop=True)
        rows = drawn[list(schema.features)].copy()
        rows["target"] = drawn[schema.target]
        if swap:
            other = {"Adelie": "Chinstrap", "Chinstrap": "Adelie"}
            dream = rows["island"] == "Dream"
            rows.loc[dream, "target"] = rows["target"].replace(other)
        rows["id"] = [f"request-{seed}-{row}" for row in rows.index]
        rows["time"] = NEWEST - pd.to_timedelta(rows.index, unit="min")
        return rows

    return capture


def test_rows_know_where_they_come_from(table, schema, capture):
    extended = extend(table, capture(60), schema, 20)

    rows = extended.table.rows
    assert extended.captured == 60
    assert len(rows) == len(table.rows) + 60
    # the table's come first, as they were
    pd.testing.assert_frame_equal(
        rows.iloc[:344][table.rows.columns], table.rows.reset_index(drop=True)
    )
    assert rows[ORIGIN].tolist() == ["table"] * 344 + ["captured"] * 60
    assert rows[CURRENT].tolist() == [False] * 384 + [True] * 20
    assert rows["id"].iloc[-1] == "request-0-0"
    assert rows["time"].iloc[-1] == NEWEST
    assert rows.loc[rows[CURRENT], "time"].min() == NEWEST - pd.Timedelta(minutes=19)
    assert rows["time"].iloc[:344].isna().all()


def test_other_rows_or_labels_are_another_table(table, schema, capture):
    hashes = {extend(table, rows, schema, 5).table.hash for rows in (capture(9), capture(9, 1))}
    relabelled = capture(9).assign(target="Gentoo")
    hashes.add(extend(table, relabelled, schema, 5).table.hash)
    assert len(hashes | {table.hash}) == 4


def test_what_cannot_be_used_is_left_out_and_counted(table, schema, capture):
    rows = capture(50)
    rows.loc[0, "target"] = "Dodo"
    rows.loc[1, "body_mass_g"] = 50_000.0
    rows.loc[2, ["target", "body_mass_g"]] = ["Dodo", 50_000.0]

    extended = extend(table, rows, schema, 10)

    assert extended.captured == 47
    assert list(extended.left_out.values()) == [2, 1]
    assert not extended.table.rows["id"].isin(["request-0-0", "request-0-1", "request-0-2"]).any()


def test_too_few_rows(table, schema, capture):
    with pytest.raises(DatasetError, match=r"^0 captured rows have .* asks for 5; attach labels"):
        extend(table, capture(0), schema, 5)
    rows = capture(5)
    rows.loc[3, "target"] = "Dodo"
    with pytest.raises(
        DatasetError, match=r"^4 captured rows .* asks for 5; 1 whose label is no class; attach"
    ):
        extend(table, rows, schema, 5)


def test_the_tables_rows_stay_in_their_folds(table, schema, capture):
    usual = fitting.split(schema, table.rows, 5, seed=1)
    captured = capture(203)
    # none is the copy of another
    captured["body_mass_g"] += np.arange(203) / 1000
    rows = extend(table, captured, schema, 52).table.rows

    parts = fitting.split(schema, rows, 5, seed=1)

    for (_, before), (training, evaluation) in zip(usual, parts, strict=True):
        assert set(evaluation[evaluation < 344]) == set(before)
        assert 40 <= (evaluation >= 344).sum() <= 42
        assert 10 <= rows[CURRENT].iloc[evaluation].sum() <= 11
        assert sorted([*training, *evaluation]) == list(range(len(rows)))


def test_copies_stay_together_so_that_no_network_is_scored_on_what_it_has_seen(
    table, schema, capture
):
    rows = extend(table, capture(500), schema, 500).table.rows
    values = rows[list(schema.features)].astype(str).agg("|".join, axis=1)
    for training, evaluation in fitting.split(schema, rows, 5, seed=1):
        assert not set(values.iloc[training]) & set(values.iloc[evaluation])


def test_equal_rows_of_categories_alone_are_different_things(table, schema):
    features = {name: schema.features[name] for name in schema.categories}
    categories = Schema(target=schema.target, classes=schema.classes, features=features)
    rows = table.rows[[*features, schema.target]]
    values = rows[list(features)].astype(str).agg("|".join, axis=1)
    [(training, evaluation), _] = fitting.split(categories, rows, 2, seed=1)
    assert set(values.iloc[training]) & set(values.iloc[evaluation])


def test_copies_of_too_few_rows_cannot_be_shared_among_the_folds(table, schema, capture):
    copies = pd.concat([capture(2)] * 20, ignore_index=True)
    copies["id"] = [f"request-{row}" for row in copies.index]
    rows = extend(table, copies, schema, 40).table.rows
    with pytest.raises(DatasetError, match=r"^40 rows to score .* fall into [12] of 5 folds"):
        fitting.split(schema, rows, 5, seed=1)


@pytest.mark.integration
def test_older_rows_count_fully_while_they_are_still_true(table, schema, capture):
    rows = extend(table, capture(200), schema, 200).table.rows
    assert older_weight(schema, rows, seed=1) == 1


@pytest.mark.integration
def test_older_rows_count_little_when_they_are_true_no_more(table, schema, capture):
    rows = extend(table, capture(200, swap=True), schema, 200).table.rows
    assert older_weight(schema, rows, seed=1) < 1


def test_the_reference_says_which_rows_are_current(table, schema, capture):
    rows = extend(table, capture(60), schema, 20).table.rows
    parts = np.array_split(np.arange(len(rows)), 2)
    results = [
        fitting.FoldResult(fold, part, np.full((len(part), 3), 1 / 3), {}, {})
        for fold, part in enumerate(parts)
    ]

    reference = fitting.reference(schema, rows, results)

    assert reference[CURRENT].sum() == 20
    assert reference["id"].notna().sum() == 60
    assert set(reference[ORIGIN]) == {"table", "captured"}
