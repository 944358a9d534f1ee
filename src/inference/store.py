"""The SQLite database of what was answered."""

import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inference.backend import Captured
from inference.errors import BackendError
from inference.schema import Schema

if TYPE_CHECKING:
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
CREATE INDEX IF NOT EXISTS predictions_time ON predictions (time);
CREATE INDEX IF NOT EXISTS predictions_request ON predictions (request_id, row);
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

SHOWN = 5


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
            sqlite3.Error: The file cannot be opened, or is not a database.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(f"PRAGMA synchronous={sync}")
            self._connection.executescript(TABLE)
        except sqlite3.Error:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

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
            connection.executemany(INSERT, [astuple(row) for row in rows])

    def load(
        self, schema: Schema, limit: int, *, since: datetime | None, labelled: bool | None
    ) -> "pd.DataFrame":
        """Return the newest rows; see `Backend.load`."""
        conditions, values = ["1"], []
        if since is not None:
            conditions.append("time >= ?")
            values.append(since.timestamp())
        if labelled is not None:
            conditions.append(f"target IS {'NOT' if labelled else ''} NULL")
        rows = self._connection.execute(
            "SELECT request_id || '-' || row, time, model_version, features, prediction,"  # noqa: S608
            " confidence, probabilities, target FROM predictions"
            f" WHERE {' AND '.join(conditions)} ORDER BY time DESC, key DESC LIMIT ?",
            [*values, limit],
        ).fetchall()
        return to_frame(schema, rows)

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
        unknown, misspelt, count = [], [], 0
        with self.transaction() as connection:
            for identity, label in labels:
                request_id, _, row = identity.rpartition("-")
                found = connection.execute(
                    "SELECT key, probabilities FROM predictions WHERE request_id = ? AND row = ?",
                    (request_id, row),
                ).fetchall()
                if not found:
                    unknown.append(identity)
                for key, probabilities in found:
                    if label not in json.loads(probabilities):
                        misspelt.append(f"{label!r} of {identity}")
                    connection.execute(
                        "UPDATE predictions SET target = ? WHERE key = ?", (label, key)
                    )
                    count += 1
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
        return count


def first_of(names: Sequence[str]) -> str:
    """Return the first few names, and whether there are more."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def to_frame(schema: Schema, rows: Sequence[tuple[Any, ...]]) -> "pd.DataFrame":
    """Turn rows of the store into the table that `Backend.load` promises."""
    import pandas as pd  # noqa: PLC0415 - a server captures without it

    names = ["id", "time", "model_version", "features", "prediction", "confidence", "all", "target"]
    raw = pd.DataFrame(rows, columns=pd.Index(names))
    features = [json.loads(text) for text in raw.pop("features")]
    probabilities = [json.loads(text) for text in raw.pop("all")]
    table = pd.DataFrame(
        {
            "id": raw["id"].astype(object),
            "time": pd.to_datetime(raw["time"].astype(float), unit="s", utc=True).dt.round("us"),
            "model_version": raw["model_version"].astype(object),
        }
    )
    for name, feature in schema.features.items():
        kind = float if feature.kind == "number" else object
        table[name] = pd.Series([record.get(name) for record in features], dtype=kind)
    table["prediction"] = raw["prediction"].astype(object)
    table["confidence"] = raw["confidence"].astype(float)
    for name in schema.classes:
        table[f"probability {name}"] = pd.Series([p.get(name) for p in probabilities], dtype=float)
    table["target"] = raw["target"].astype(object)
    return table
