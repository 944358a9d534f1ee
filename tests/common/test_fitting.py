"""Folds, scores and the reference; what needs TensorFlow is in test_packaging."""

import numpy as np
import pandas as pd
import pytest

from common import fitting, settings
from common.dataset import read_table


@pytest.fixture(scope="module")
def rows():
    return read_table(settings.load().dataset).rows


def test_given_a_seed_then_folds_are_stratified_disjoint_and_reproducible(schema, rows):
    parts = fitting.split(schema, rows, 5, seed=3)

    evaluated = np.concatenate([evaluation for _, evaluation in parts])
    assert sorted(evaluated) == list(range(len(rows)))
    for training, evaluation in parts:
        assert not set(training) & set(evaluation)
        share = (rows.iloc[evaluation]["species"] == "Chinstrap").mean()
        assert share == pytest.approx(68 / 344, abs=0.02)
    again = fitting.split(schema, rows, 5, seed=3)
    assert all((a[1] == b[1]).all() for a, b in zip(parts, again, strict=True))
    assert any(
        (a[1] != b[1]).any() for a, b in zip(parts, fitting.split(schema, rows, 5, 4), strict=False)
    )


def test_given_a_training_part_then_nothing_of_the_evaluation_part_is_learnt(schema, rows):
    training, evaluation = rows.iloc[:200], rows.iloc[200:]
    alone = fitting.build_transformers(schema).fit(fitting.frame(schema, training))
    scaler = alone.named_transformers_["numbers"].named_steps["standardscaler"]

    assert scaler.mean_[0] == pytest.approx(training["culmen_length_mm"].mean(), rel=1e-4)
    assert scaler.mean_[0] != pytest.approx(rows["culmen_length_mm"].mean(), rel=1e-4)
    transformed = alone.transform(fitting.frame(schema, evaluation))
    assert np.isfinite(transformed).all()


def test_given_an_unknown_category_then_its_columns_are_zero(schema, rows):
    transformers = fitting.build_transformers(schema).fit(fitting.frame(schema, rows))
    odd = rows.head(1).assign(island="Atlantis")

    assert transformers.transform(fitting.frame(schema, odd))[0, 4:7].tolist() == [0, 0, 0]


def test_given_probabilities_then_scores_are_those_of_the_definitions(schema):
    truth = np.array([0, 0, 1, 2])
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32
    )

    scores = fitting.score(schema, truth, probabilities)

    assert scores["accuracy"] == 0.75
    assert scores["loss"] == pytest.approx(-np.log([0.8, 0.2, 0.8, 0.8]).mean(), abs=1e-6)
    assert scores["recall_Adelie"] == 0.5
    assert scores["recall_Gentoo"] == 1.0
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_given_a_class_that_is_absent_then_nothing_is_said_of_it(schema):
    scores = fitting.score(schema, np.array([0, 0]), np.array([[1.0, 0, 0], [0.9, 0.1, 0]]))

    assert set(scores) == {"accuracy", "loss", "f1_macro", "recall_Adelie"}
    assert scores["f1_macro"] == 1
    folds = [
        fitting.FoldResult(fold, np.arange(2), np.eye(3)[:2], {"recall_Gentoo": value}, {})
        for fold, value in enumerate([1.0, 0.5])
    ]
    without = fitting.FoldResult(2, np.arange(2), np.eye(3)[:2], scores, {})
    summary = fitting.summarize([without, *folds])
    assert (summary["recall_Gentoo_mean"], summary["recall_Adelie_mean"]) == (0.75, 1.0)


def test_given_folds_then_the_reference_holds_each_rows_own_out_of_fold_prediction(schema, rows):
    halves = [np.arange(0, 344, 2), np.arange(1, 344, 2)]
    results = [
        fitting.FoldResult(
            fold, part, np.tile(np.eye(3, dtype=np.float32)[fold], (len(part), 1)), {"a": fold}, {}
        )
        for fold, part in enumerate(halves)
    ]

    table = fitting.reference(schema, rows, results)

    assert (table["prediction"].iloc[0::2] == "Adelie").all()
    assert (table["prediction"].iloc[1::2] == "Chinstrap").all()
    pd.testing.assert_series_equal(table["target"], rows["species"], check_names=False)
    assert fitting.summarize(results) == {"a_mean": 0.5, "a_std": 0.5}
