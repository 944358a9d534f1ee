"""What shuffling a column costs, where the answer is known."""

import numpy as np
import pandas as pd
import pytest

from common import importance

ROWS = 400


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "decides": rng.choice([0.0, 1.0], ROWS),
            "a <b>hint</b>": rng.choice(["x", "y", ""], ROWS),
            "ignored": rng.normal(size=ROWS),
        }
    )


def predict(table: pd.DataFrame) -> np.ndarray:
    """Answer by the first column, a little surer where the second is x."""
    sure = np.where(table["a <b>hint</b>"] == "x", 0.99, 0.9)
    first = np.where(table["decides"] == 0, sure, 1 - sure)
    return np.column_stack([first, 1 - first]).astype(np.float32)


@pytest.fixture(scope="module")
def drops(table) -> importance.Drops:
    return importance.permutation_drops(predict, table, table["decides"].to_numpy(int), seed=1)


def test_given_one_deciding_column_then_shuffling_it_leaves_an_answer_to_chance(drops):
    one = dict(zip(drops.columns, drops.accuracy, strict=True))

    assert drops.accuracy.shape == drops.loss.shape == (3, importance.REPEATS)
    assert one["decides"].mean() == pytest.approx(0.5, abs=0.03)
    assert one["decides"].std() > 0


def test_given_a_column_that_is_not_looked_at_then_nothing_is_lost(drops):
    place = drops.columns.index("ignored")

    assert (drops.accuracy[place] == 0).all()
    assert drops.loss[place] == pytest.approx(0, abs=1e-12)


def test_given_the_same_model_then_scikit_learn_measures_the_same(table, drops):
    from sklearn.inspection import permutation_importance  # noqa: PLC0415 - 3 s, only this test
    from sklearn.metrics import accuracy_score, log_loss  # noqa: PLC0415

    class Fitted:
        def fit(self):
            """What scikit-learn asks for, and does not call."""

    def scores(_, rows, truth):
        answers = predict(rows).astype(float)
        right = accuracy_score(truth, answers.argmax(axis=1))
        return {"accuracy": right, "loss": -log_loss(truth, answers)}

    truth = table["decides"].to_numpy(int)
    found = permutation_importance(
        Fitted(), table, truth, scoring=scores, n_repeats=100, random_state=0
    )
    for name, own in (("accuracy", drops.accuracy), ("loss", drops.loss)):
        expected = found[name]
        # a mean of ten against one of a hundred
        chance = 4 * expected.importances_std / np.sqrt(importance.REPEATS)
        assert (np.abs(own.mean(axis=1) - expected.importances_mean) <= chance + 1e-9).all()


def test_given_an_answer_of_certainty_that_is_wrong_then_the_loss_stays_a_number(table):
    def certain(rows):
        return np.eye(2, dtype=np.float32)[rows["decides"].to_numpy(int)]

    found = importance.permutation_drops(certain, table, table["decides"].to_numpy(int), seed=1)

    assert np.isfinite(found.loss).all()
    assert found.loss[0].mean() > 5


def test_given_a_seed_then_the_shuffles_are_reproducible(table, drops):
    truth = table["decides"].to_numpy(int)

    again, other = (
        importance.permutation_drops(predict, table, truth, seed=seed) for seed in (1, 2)
    )

    np.testing.assert_array_equal(again.accuracy, drops.accuracy)
    assert (other.accuracy != drops.accuracy).any()


def test_given_more_rows_than_are_needed_then_a_sample_of_them_is_measured(table):
    many = pd.concat([table] * 20, ignore_index=True)

    found = importance.permutation_drops(
        predict, many, many["decides"].to_numpy(int), seed=1, repeats=2
    )

    assert found.rows == importance.MEASURED_ROWS < len(many)
    assert found.accuracy[0].mean() == pytest.approx(0.5, abs=0.05)


def test_given_folds_then_mean_and_spread_are_over_all_repeats_and_the_worst_loss_is_first():
    def fold(*values):
        array = np.array(values, dtype=float)
        return importance.Drops(("few", "much"), array, array * 2, 10)

    found = importance.summarize([fold([0, 0.2], [1, 1]), fold([0, 0.2], [0.5, 0.5])])

    assert [one.column for one in found] == ["much", "few"]
    assert found[0] == importance.Importance("much", 0.75, 0.25, 1.5, 0.5)
    assert found[1].accuracy == pytest.approx(0.1)
    assert importance.summarize([]) == []
