"""Training on more than the table: rows that were captured and have their truth by now."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from common.fitting import CURRENT, ORIGIN, build_transformers, codes, frame
from inference.errors import DatasetError, InvalidRecordsError
from inference.schema import to_records

if TYPE_CHECKING:
    import pandas as pd

    from common.dataset import Table
    from inference.backend import Backend
    from inference.schema import Schema

logger = logging.getLogger("rookery")

# More of them would not fit into a laptop's memory beside TensorFlow.
MAX_CAPTURED_ROWS = 200_000
# What an older row may count, beside 1 for a current one: as much, little, hardly anything.
OLDER_WEIGHTS = (1.0, 0.1, 0.01)
TREES = 50
FOLDS = 5
PIECE_ROWS = 10_000
SMALLEST_PROBABILITY = 1e-3


@dataclass(frozen=True)
class Extended:
    """The table with captured rows behind it.

    Attributes:
        table: All rows, each with its origin ("table" or "captured"), its id and time if it was
            captured, and whether it is current: one of the newest captured rows, which stand for
            production as it is now.
        captured: Number of captured rows among them.
        left_out: Number of captured rows that are not, by reason.
    """

    table: Table
    captured: int
    left_out: dict[str, int]


def add_captured_rows(
    table: Table, backend: Backend, schema: Schema, current: int, seed: int
) -> tuple[Table, float]:
    """Return the table with captured rows behind it, and what its older rows should count.

    Raises:
        DatasetError: See `extend`.
    """
    extended = extend(
        table, backend.load(schema, MAX_CAPTURED_ROWS, labelled=True), schema, current
    )
    for why, count in extended.left_out.items():
        if count:
            logger.warning("%d captured rows %s are left out", count, why)
    weight = older_weight(schema, extended.table.rows, seed)
    logger.info(
        "%d captured rows are added, of which the newest %d stand for production; an older row"
        " counts %g of one of these",
        extended.captured,
        current,
        weight,
    )
    return extended.table, weight


def extend(table: Table, captured: pd.DataFrame, schema: Schema, current: int) -> Extended:
    """Add captured rows to the table.

    Args:
        table: The table.
        captured: Labelled rows as `Backend.load` returns them, newest first.
        schema: Says which of them can be used.
        current: So many of the newest are current.

    Raises:
        DatasetError: Fewer than so many can be used.
    """
    import pandas as pd  # noqa: PLC0415 - a second that only steps which read a table pay

    known = captured["target"].isin(schema.classes).to_numpy()
    fits = fitting_rows(schema, captured)
    left_out = {
        "whose label is no class": int((~known).sum()),
        "that do not fit the schema": int((known & ~fits).sum()),
    }
    usable = captured[known & fits].iloc[::-1]
    if len(usable) < current:
        reasons = "".join(f"; {count} {why}" for why, count in left_out.items() if count)
        raise DatasetError(
            f"{len(usable)} captured rows have ground truth, and --reference-rows asks for"
            f" {current}{reasons}; attach labels with `just labels`, or ask for fewer"
        )
    new = usable[[*schema.features, "id", "time"]].assign(**{table.target: usable["target"]})
    new[ORIGIN] = "captured"
    new[CURRENT] = np.arange(len(new)) >= len(new) - current
    never = pd.Series(pd.NaT, table.rows.index, dtype=new["time"].dtype)
    old = table.rows.assign(**{"id": None, "time": never, ORIGIN: "table", CURRENT: False})
    rows = pd.concat([old, new[old.columns]], ignore_index=True)
    told = "\n".join([table.hash, *usable["id"], *usable["target"]])
    digest = hashlib.sha256(told.encode()).hexdigest()
    return Extended(replace(table, rows=rows, hash=digest), len(new), left_out)


def fitting_rows(schema: Schema, rows: pd.DataFrame) -> np.ndarray:
    """Return which rows the schema allows, shape (rows,)."""
    fits = np.ones(len(rows), dtype=bool)
    # as records, all of them at once would take a gigabyte
    for start in range(0, len(rows), PIECE_ROWS):
        piece = rows[list(schema.features)].iloc[start : start + PIECE_ROWS]
        try:
            schema.check(to_records(piece))
        except InvalidRecordsError as error:
            fits[[start + problem["row"] for problem in error.problems]] = False
    return fits


def older_weight(schema: Schema, rows: pd.DataFrame, seed: int) -> float:
    """Return how much rows that are not current should count in training.

    Where the world has changed, older rows teach what is true no more; where it has not, leaving
    them out would waste them. A random forest, which needs a second, tries the weights: the
    largest counts that predicts the current rows as well as the best does, within one standard
    error of the difference (the rule of Breiman et al., Classification and Regression Trees, 1984).

    Args:
        schema: Names features and classes.
        rows: Those of `Extended.table`.
        seed: Of folds and forest.
    """
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - 3 s
    from sklearn.model_selection import KFold  # noqa: PLC0415

    features = build_transformers(schema).fit_transform(frame(schema, rows))
    truth = codes(schema, rows[schema.target])
    current = np.flatnonzero(rows[CURRENT])
    older = np.flatnonzero(~rows[CURRENT])
    losses = np.zeros((len(OLDER_WEIGHTS), len(current)))
    for learnt, tried in KFold(FOLDS, shuffle=True, random_state=seed).split(current):
        part = np.concatenate([older, current[learnt]])
        for place, weight in enumerate(OLDER_WEIGHTS):
            forest = RandomForestClassifier(TREES, min_samples_leaf=2, random_state=seed)
            weights = np.concatenate([np.full(len(older), weight), np.ones(len(learnt))])
            forest.fit(features[part], truth[part], sample_weight=weights)
            shares = np.zeros((len(tried), len(schema.classes)))
            shares[:, forest.classes_] = forest.predict_proba(features[current[tried]])
            right = shares[np.arange(len(tried)), truth[current[tried]]]
            losses[place, tried] = -np.log(np.maximum(right, SMALLEST_PROBABILITY))
    best = losses[losses.mean(axis=1).argmin()]
    for weight, loss in zip(OLDER_WEIGHTS, losses, strict=True):
        difference = loss - best
        if difference.mean() <= difference.std() / np.sqrt(len(current)):
            return weight
    raise AssertionError("the best differs from itself by nothing")
