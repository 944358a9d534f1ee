"""The SQLite database of what was answered."""

import json
import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from inference.backend import Captured
from inference.frame import PIECE_ROWS, to_frame
from inference.labels import refuse
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


class Store:
    """The SQLite database of answered rows.

    Any number of processes may use it at once; threads that share an object must take turns.
    """

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
        self._connection = sqlite3.connect(
            path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
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
            "SELECT request_id || '-' || row, time, model_version, features, prediction,"  # noqa: S608 - conditions are this file's own, values are bound
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
        refuse(unknown, misspelt, len(labels))
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
