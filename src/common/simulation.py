"""Simulated production: rows drawn from the table, with or without drift, sent in batches."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from common.progress import progress
from inference.schema import Schema, to_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from inference.backend import Backend

BATCH_ROWS = 10
SHIFT_DEVIATIONS = 2.0


def drifting_feature(schema: Schema) -> str:
    """Return the feature that drifts: the last numeric one, or the last one."""
    return (schema.numbers or tuple(schema.features))[-1]


def describe_drift(schema: Schema) -> str:
    """Say what drift does."""
    name = drifting_feature(schema)
    if name in schema.numbers:
        return f"{name} shifted by {SHIFT_DEVIATIONS:g} standard deviations"
    return f"{name} always the value that was rarest"


def draw(
    schema: Schema, rows: pd.DataFrame, count: int, seed: int, *, drift: bool
) -> Sequence[Mapping[str, Any]]:
    """Draw rows with replacement.

    Args:
        schema: Names the features.
        rows: The table.
        count: Rows to draw.
        seed: Makes the draw reproducible.
        drift: Shift the last numeric feature up by two standard deviations, within its hard
            range; where there is none, make the last category its rarest value.

    Returns:
        One record a row, without the target.
    """
    drawn = rows[list(schema.features)].sample(count, replace=True, random_state=seed)
    if drift:
        name = drifting_feature(schema)
        feature = schema.features[name]
        if feature.kind == "number":
            low, high = feature.range or (-np.inf, np.inf)
            shift = SHIFT_DEVIATIONS * float(rows[name].std())
            drawn[name] = (drawn[name] + shift).clip(low, high)
        else:
            counts = rows[name].value_counts()
            drawn[name] = counts.index[-1]
    return to_records(drawn)


def truth(schema: Schema, rows: pd.DataFrame, count: int, seed: int) -> list[str]:
    """Return the classes of the rows that `draw` draws, for the same count and seed."""
    return rows[schema.target].sample(count, replace=True, random_state=seed).tolist()


def send(backend: Backend, records: Sequence[Mapping[str, Any]], connections: int) -> list[str]:
    """Send records in batches over several connections.

    Returns:
        The id of each record, by which it can be labelled: `<request id>-<row>`.

    Raises:
        BackendError: A request failed; those that were not sent by then are not sent.
    """
    starts = range(0, len(records), BATCH_ROWS)
    batches = [records[start : start + BATCH_ROWS] for start in starts]
    ids: list[str] = []
    with (
        progress("sending", len(records), "rows") as show,
        ThreadPoolExecutor(connections) as pool,
    ):
        try:
            for answer in pool.map(backend.invoke, batches):
                rows = range(len(answer.predictions))
                ids += [f"{answer.request_id}-{row}" for row in rows]
                show(len(ids))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return ids
