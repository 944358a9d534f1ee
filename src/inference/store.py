"""The SQLite database of what was answered."""

import json
import os
import random
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from inference.backend import Captured
from inference.errors import BackendError
from inference.schema import Schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

TABLE = """
CREATE TABLE IF NOT EXISTS predictions (
    key BLOB PRIMARY KEY,
    request_id TEXT NOT NULL,
    row INTEGER NOT NULL,
    time REAL NOT NULL,
    model_version TEXT NOT NULL,
    features TEXT NOT NULL,
    prediction TEXT NOT NULL,
    confidence REAL NOT NULL,
    probabilities TEXT NOT NULL,
    target TEXT
) WITHOUT ROWID;
-- Keys grow with time, so a new row goes to the end of the table and, as it has no label yet, into
-- no index: a commit stays equally cheap however many rows there are.
CREATE INDEX IF NOT EXISTS predictions_labelled ON predictions (key) WHERE target IS NOT NULL;
-- of earlier versions of this project
DROP INDEX IF EXISTS predictions_time;
DROP INDEX IF EXISTS predictions_request;
"""
# A row that is replayed twice is stored once.
INSERT = """
INSERT INTO predictions
    (key, request_id, row, time, model_version, features, prediction, confidence, probabilities)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO NOTHING
"""
COUNTS = """
SELECT model_version, COUNT(*), COUNT(target) FROM predictions GROUP BY model_version
"""
NAMED = """
SELECT request_id || '-' || row, key, probabilities FROM predictions
WHERE request_id || '-' || row IN (SELECT value FROM json_each(?))
"""
REMOVE_OLDEST = """
DELETE FROM predictions
WHERE key IN (SELECT key FROM predictions WHERE key < ? ORDER BY key LIMIT ?)
"""

SHOWN = 5
# Rows that are Python objects at once while a table is made of them; with more, the caches of the
# processor no longer hold them, and it takes twice as long.
PIECE_ROWS = 2_000


class Store:
    """The SQLite database of answered rows. Any number of processes may use it at once."""

    def __init__(
        self, path: Path, sync: Literal["normal", "full"] = "normal", timeout: float = 30.0
    ) -> None:
        """Open the database, and make it where there is none.

        Args:
            path: The database file.
            sync: normal survives the death of any process, full also a power cut.
            timeout: Seconds to wait for another process's lock.

        Raises:
            sqlite3.Error, OSError: The file cannot be opened, or is not a database.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
        try:
            self._file = path.stat()
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(f"PRAGMA synchronous={sync}")
            self._connection.executescript(TABLE)
        except (sqlite3.Error, OSError):
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def require_in_place(self) -> None:
        """Stop if what is saved now would go into a file that nobody finds any more.

        Raises:
            FileNotFoundError: The file was removed or replaced since it was opened.
        """
        try:
            in_place = os.path.samestat(self._file, self._path.stat())
        except FileNotFoundError:
            in_place = False
        if not in_place:
            raise FileNotFoundError("its file was removed or replaced, and what it held with it")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the write lock; commit at the end, or roll back on any error."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            # some errors, such as a full disk, have already rolled back
            with suppress(sqlite3.OperationalError):
                self._connection.execute("ROLLBACK")
            raise

    def save(self, rows: Sequence[Captured]) -> None:
        """Store rows in one commit; rows that are there already stay as they are."""
        with self.transaction() as connection:
            connection.executemany(INSERT, rows)

    def load(
        self, schema: Schema, limit: int, *, since: datetime | None, labelled: bool | None
    ) -> "pd.DataFrame":
        """Return the newest rows; see `Backend.load`.

        Raises:
            sqlite3.Error: The file is damaged.
            BackendError: A row holds what cannot have been captured.
        """
        conditions, values = ["1"], []
        if since is not None:
            # the key finds the place, but its time is not rounded
            conditions.append("key >= ? AND time >= ?")
            values += [first_key(since.timestamp() - 1e-3), since.timestamp()]
        if labelled is not None:
            conditions.append(f"target IS {'NOT' if labelled else ''} NULL")
        rows = self._connection.execute(
            "SELECT request_id || '-' || row, time, model_version, features, prediction,"  # noqa: S608
            " confidence, probabilities, target FROM predictions"
            f" WHERE {' AND '.join(conditions)} ORDER BY key DESC LIMIT ?",
            [*values, limit],
        )
        return to_frame(schema, iter(lambda: rows.fetchmany(PIECE_ROWS), []))

    def counts(self) -> list[tuple[str, int, int]]:
        """Return (model version, rows, labelled rows) for each version."""
        return self._connection.execute(COUNTS).fetchall()

    def label_simulated(self, quality: float, seed: int | None) -> int:
        """Give every unlabelled row a simulated ground truth; see `Backend.label`."""
        rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        with self.transaction() as connection:
            rows = connection.execute(
                "SELECT key, prediction, probabilities FROM predictions WHERE target IS NULL"
                " ORDER BY key"
            ).fetchall()
            labels = []
            for key, prediction, probabilities in rows:
                others = [name for name in json.loads(probabilities) if name != prediction]
                right = rng.random() < quality
                labels.append((prediction if right else rng.choice(others), key))
            connection.executemany("UPDATE predictions SET target = ? WHERE key = ?", labels)
        return len(labels)

    def label_known(self, labels: Sequence[tuple[str, str]]) -> int:
        """Attach ground truth by id, all of it or nothing.

        Args:
            labels: (id, label) pairs; an id is `<request_id>-<row>`.

        Raises:
            BackendError: An id is not in the store, or a label is no class of the model.
        """
        names = json.dumps([identity for identity, _ in labels])
        found: dict[str, list[tuple[bytes, str]]] = {}
        # this reads the whole table, so it comes before the lock that keeps writers out
        for identity, key, probabilities in self._connection.execute(NAMED, [names]):
            found.setdefault(identity, []).append((key, probabilities))
        unknown = [identity for identity, _ in labels if identity not in found]
        misspelt = [
            f"{label!r} of {identity}"
            for identity, label in labels
            if any(label not in json.loads(text) for _, text in found.get(identity, []))
        ]
        if unknown:
            raise BackendError(
                f"{len(unknown)} of {len(labels)} ids were never captured: {first_of(unknown)};"
                " nothing was labelled. Take ids from the X-Request-Id of the answer:"
                " <request id>-<row>"
            )
        if misspelt:
            raise BackendError(
                f"{len(misspelt)} of {len(labels)} labels are no class of the model that"
                f" answered: {first_of(misspelt)}; nothing was labelled"
            )
        pairs = [(label, key) for identity, label in labels for key, _ in found[identity]]
        with self.transaction() as connection:
            connection.executemany("UPDATE predictions SET target = ? WHERE key = ?", pairs)
        return len(pairs)

    def remove_oldest(self, before: float, most: int) -> int:
        """Remove the oldest rows in one commit.

        Args:
            before: Rows of this time, in seconds since the epoch, and later ones stay.
            most: Remove at most this many.

        Returns:
            The number of rows removed.
        """
        return self._connection.execute(REMOVE_OLDEST, (first_key(before), most)).rowcount


def first_key(time: float) -> bytes:
    """Return what the keys of rows of this time, in seconds since the epoch, begin with."""
    return min(max(0, int(time * 1e9)), 2**64 - 1).to_bytes(8, "big")


def first_of(names: Sequence[str]) -> str:
    """Return the first few names, and whether there are more."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


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

    try:
        return np.array(values, dtype=float)
    except ValueError:
        return objects(values)
