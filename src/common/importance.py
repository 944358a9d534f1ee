"""How much a model needs each column: what is lost when its values are shuffled among the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pandas as pd

REPEATS = 10
# More rows change the mean less than the repeats differ, and take time.
MEASURED_ROWS = 5_000


@dataclass(frozen=True)
class Drops:
    """What shuffling the columns of one fold costs, column by column and repeat by repeat.

    Attributes:
        columns: Names, in the order of the rows of both arrays.
        accuracy: Accuracy before minus accuracy after, shape (columns, repeats).
        loss: Log loss after minus log loss before, shape (columns, repeats).
        rows: Rows it was measured on.
    """

    columns: tuple[str, ...]
    accuracy: np.ndarray
    loss: np.ndarray
    rows: int


@dataclass(frozen=True)
class Importance:
    """What shuffling one column costs.

    Attributes:
        accuracy: Mean drop of accuracy; below 0 where chance made the answers better.
        accuracy_deviation: Standard deviation over folds and repeats.
        loss: Mean rise of log loss.
        loss_deviation: Standard deviation over folds and repeats.
    """

    column: str
    accuracy: float
    accuracy_deviation: float
    loss: float
    loss_deviation: float


def permutation_drops(
    predict: Callable[[pd.DataFrame], np.ndarray],
    features: pd.DataFrame,
    truth: np.ndarray,
    seed: int,
    repeats: int = REPEATS,
) -> Drops:
    """Measure permutation importance, as scikit-learn defines it (Breiman, "Random forests", 2001).

    On the evaluation rows of a fold, with that fold's network, it says what the columns are worth
    for rows that were never seen. Columns that say nearly the same stand in for one another: each
    of them alone then looks less important than both together are. All repeats of a column are
    predicted at once: asked for one by one, they take six times as long.

    Args:
        predict: Returns probabilities, shape (rows, classes), for a table of features.
        features: One column a feature, as `predict` takes them.
        truth: Class positions, shape (rows,).
        seed: Makes the shuffles reproducible.
        repeats: Shuffles a column.
    """
    import pandas as pd  # noqa: PLC0415 - a second

    rng = np.random.default_rng(seed)
    if len(features) > MEASURED_ROWS:
        chosen = rng.choice(len(features), MEASURED_ROWS, replace=False)
        features, truth = features.iloc[chosen], truth[chosen]
    before = score(predict(features), truth, 1)
    drops = []
    for name in features.columns:
        values = features[name].to_numpy()
        shuffled = pd.concat([features] * repeats, ignore_index=True)
        shuffled[name] = np.concatenate([rng.permutation(values) for _ in range(repeats)])
        drops.append(before - score(predict(shuffled), truth, repeats))
    accuracy, loss = np.moveaxis(np.array(drops), 1, 0)
    return Drops(tuple(map(str, features.columns)), accuracy, loss, len(features))


def score(probabilities: np.ndarray, truth: np.ndarray, repeats: int) -> np.ndarray:
    """Return accuracy and negative log loss of each repeat, shape (2, repeats).

    Args:
        probabilities: Shape (repeats * rows, classes).
        truth: Class positions, shape (rows,).
        repeats: How often the rows occur, one repeat after the other.
    """
    answers = probabilities.reshape(repeats, len(truth), -1)
    given = answers[:, np.arange(len(truth)), truth]
    # as scikit-learn's log_loss does, so that a certain and wrong answer costs a finite sum
    given = np.maximum(given, np.finfo(given.dtype).eps)
    right = answers.argmax(axis=2) == truth
    return np.array([right.mean(axis=1), np.log(given, dtype=float).mean(axis=1)])


def summarize(folds: Sequence[Drops]) -> list[Importance]:
    """Return mean and spread over all folds and repeats, the most important column first.

    Every repeat of every fold counts the same, as the folds' scores do.
    """
    if not folds:
        return []
    accuracy, loss = (
        np.concatenate([getattr(fold, name) for fold in folds], axis=1)
        for name in ("accuracy", "loss")
    )
    found = [
        Importance(name, *map(float, (a.mean(), a.std(), b.mean(), b.std())))
        for name, a, b in zip(folds[0].columns, accuracy, loss, strict=True)
    ]
    return sorted(found, key=lambda one: one.loss, reverse=True)
