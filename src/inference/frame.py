"""Captured rows as the table that `Backend.load` promises."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from inference.errors import BackendError
from inference.schema import Schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

# Rows that are Python objects at once while a table is made of them; with more, the caches of the
# processor no longer hold them, and it takes twice as long.
PIECE_ROWS = 2_000


def to_frame(schema: Schema, pieces: Iterable[Sequence[tuple[Any, ...]]]) -> "pd.DataFrame":
    """Turn rows of the store into the table that `Backend.load` promises.

    Args:
        schema: Names the features and gives them their types. A number column with values that
            are none, which another version captured, keeps them as they are.
        pieces: Rows, some at a time: a million of them as Python objects would take gigabytes.

    Raises:
        BackendError: A row holds what cannot have been captured.
    """
    import numpy as np  # noqa: PLC0415 - a server captures without it
    import pandas as pd  # noqa: PLC0415

    texts: dict[str, str] = {}
    parts = [read_piece(schema, piece, texts) for piece in pieces]
    # one piece without rows, for the types of its columns
    parts = parts or [read_piece(schema, [], texts)]
    columns = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    table = pd.DataFrame(columns, copy=False)
    table["time"] = table["time"].dt.tz_localize("UTC").dt.round("us")
    return table


def read_piece(
    schema: Schema, rows: Sequence[tuple[Any, ...]], texts: dict[str, str]
) -> dict[str, "np.ndarray"]:
    """Turn rows into columns.

    Args:
        schema: See `to_frame`.
        rows: As they come from the store.
        texts: Every text that occurred before, so that it is held once and not a million times.

    Raises:
        BackendError: A row holds what cannot have been captured.
    """
    import numpy as np  # noqa: PLC0415 - see to_frame
    import pandas as pd  # noqa: PLC0415

    def text(values: Iterable[Any]) -> np.ndarray:
        return objects([texts.setdefault(value, value) for value in values])

    names = ("id", "time", "model_version", "features", "prediction", "confidence", "all", "target")
    raw = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    try:
        records, shares = (read_objects(raw[name]) for name in ("features", "all"))
        times = pd.to_datetime(np.array(raw["time"], dtype=float), unit="s")
        columns = {"id": objects(raw["id"]), "time": times.to_numpy()}
        columns["model_version"] = text(raw["model_version"])
        for name, feature in schema.features.items():
            values = [record.get(name) for record in records]
            columns[name] = numbers(values) if feature.kind == "number" else text(values)
        columns["prediction"] = text(raw["prediction"])
        columns["confidence"] = np.array(raw["confidence"], dtype=float)
        for name in schema.classes:
            columns[f"probability {name}"] = np.array([s.get(name) for s in shares], dtype=float)
        columns["target"] = text(raw["target"])
    except (ValueError, TypeError, AttributeError) as error:
        raise BackendError(
            f"among the rows {rows[-1][0]} to {rows[0][0]}, one holds what cannot have been"
            f" captured ({error}); remove it, or move the database away"
        ) from error
    return columns


def read_objects(values: Sequence[str]) -> list[dict[str, Any]]:
    """Parse JSON objects, all at once because one by one takes longer.

    Raises:
        ValueError: A text is not JSON.
    """
    found = orjson.loads(f"[{','.join(values)}]")
    if len(found) != len(values):
        msg = "not one JSON object a row"
        raise ValueError(msg)
    return found


def objects(values: Sequence[Any]) -> "np.ndarray":
    """Return an array of Python objects, shape (len(values),)."""
    import numpy as np  # noqa: PLC0415 - see to_frame

    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def numbers(values: Sequence[Any]) -> "np.ndarray":
    """Return numbers as float64 with NaN for missing, or the values as they are if one is none."""
    import numpy as np  # noqa: PLC0415 - see to_frame

    # NumPy would take the category "1" of another version for a number
    if str in map(type, values):
        return objects(values)
    try:
        return np.array(values, dtype=float)
    except ValueError:
        return objects(values)
