"""What was answered, kept: a SQLite store, and a spool for when the store refuses."""

import fcntl
import json
import logging
import os
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inference.backend import Captured
from inference.errors import BackendError, UnavailableError
from inference.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

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

LOCK_TIMEOUT = 0.1
RETRY_AFTER = 1.0
SHOWN = 5
MEMORY_ROWS = 100_000


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


class Spool:
    """An append-only file beside the database, for rows that the database refused."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".spool")

    def __len__(self) -> int:
        """Number of rows that wait for their replay."""
        try:
            with self.path.open("rb") as file:
                return sum(1 for _ in file)
        except FileNotFoundError:
            return 0

    @property
    def empty(self) -> bool:
        """Whether no row waits."""
        try:
            return self.path.stat().st_size == 0
        except FileNotFoundError:
            return True

    def append(self, rows: Sequence[Captured]) -> None:
        """Add rows durably, or none of them.

        Raises:
            OSError: The file cannot be written.
        """
        text = "".join(
            json.dumps([row.key.hex(), *astuple(row)[1:]], ensure_ascii=False) + "\n"
            for row in rows
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(os.O_CREAT | os.O_RDWR) as descriptor:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            # half a line, such as a process leaves that is killed, would hide the next one
            cut = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            try:
                with os.fdopen(os.dup(descriptor), "wb") as file:
                    file.write(b"\n" * cut + text.encode())
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise

    def replay(self, store: Store) -> int:
        """Move all rows into the store and empty the file; each row ends up there once.

        A crash between the two leaves the rows in both, and the next replay skips what the store
        has.

        Returns:
            The number of rows replayed.
        """
        try:
            with self._locked(os.O_RDWR) as descriptor:
                with os.fdopen(os.dup(descriptor), encoding="utf-8", errors="replace") as file:
                    lines = file.readlines()
                rows, damaged = [], []
                for line in lines:
                    try:
                        rows.append(read_line(line))
                    except (ValueError, TypeError):
                        damaged.append(line)
                store.save(rows)
                if damaged:
                    aside = self.path.with_name(self.path.name + ".damaged")
                    with aside.open("a", encoding="utf-8") as file:
                        file.writelines(damaged)
                    logger.error("%d damaged lines of the spool moved to %s", len(damaged), aside)
                os.ftruncate(descriptor, 0)
        except FileNotFoundError:
            return 0
        return len(rows)

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def read_line(line: str) -> Captured:
    """Read a line of the spool.

    Raises:
        ValueError, TypeError: The line is damaged.
    """
    key, *values = json.loads(line)
    if not all(isinstance(value, str | int | float) for value in values):
        raise TypeError("the store takes text and numbers only")
    return Captured(bytes.fromhex(key), *values)


class Recorder:
    """Saves rows durably come what may: to the store, else to the spool, else in memory.

    Only rows in memory can be lost with the process; they are there only while neither the
    database nor the spool beside it takes them, as on a full disk.
    """

    def __init__(self, database: Path, sync: Literal["normal", "full"] = "normal") -> None:
        self.database = database
        self.spool = Spool(database)
        self._sync: Literal["normal", "full"] = sync
        self._store: Store | None = None
        self._retry_at = 0.0
        self._failing = False
        self._spool_failing = False
        self._memory: list[Captured] = []
        self.saved = 0

    def save(self, rows: Sequence[Captured]) -> None:
        """Make rows durable.

        Raises:
            UnavailableError: Nothing takes them, and memory holds as many as it may.
        """
        if not self._failing or time.monotonic() >= self._retry_at:
            try:
                self._open().save(rows)
                self.saved += len(rows)
            except (sqlite3.Error, OSError) as error:
                self._fail(error)
            else:
                if self._failing:
                    self.recover()
                return
        self._keep(rows)
        self.saved += len(rows)

    def recover(self) -> int:
        """Try to move into the store what waits, and return how many rows were moved."""
        try:
            store = self._open()
            store.save(self._memory)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return 0
        replayed = len(self._memory)
        self._memory = []
        try:
            replayed += self.spool.replay(store)
            self._spool_failing = False
        except sqlite3.Error as error:
            self._fail(error)
            return replayed
        except OSError:
            # what is in it must wait; what comes now needs no spool
            if not self._spool_failing:
                logger.exception("spool %s cannot be replayed; trying again", self.spool.path)
            self._spool_failing = True
            self._retry_at = time.monotonic() + RETRY_AFTER
        if self._failing or replayed:
            logger.warning("capture store %s is back: %d rows replayed", self.database, replayed)
        self._failing = False
        return replayed

    def tick(self) -> None:
        """Recover if it is time to; called regularly by a server, so that no traffic is needed."""
        if time.monotonic() >= self._retry_at and (self._failing or not self.spool.empty):
            self.recover()

    @property
    def waiting(self) -> int:
        """Number of rows that wait for their replay."""
        return len(self.spool) + len(self._memory)

    def close(self) -> None:
        """Close the store, after a last attempt to move into it what waits."""
        if self._failing:
            self.recover()
        if self._store:
            self._store.close()
            self._store = None

    def _open(self) -> Store:
        if self._store is None:
            self._store = Store(self.database, self._sync, timeout=LOCK_TIMEOUT)
        return self._store

    def _fail(self, error: Exception) -> None:
        if not self._failing:
            logger.error(
                "capture store %s refuses (%s); rows go to %s and are replayed later",
                self.database,
                error,
                self.spool.path,
            )
        self._failing = True
        self._retry_at = time.monotonic() + RETRY_AFTER
        if self._store:
            with closing(self._store):
                self._store = None

    def _keep(self, rows: Sequence[Captured]) -> None:
        try:
            self.spool.append(rows)
        except OSError as error:
            if len(self._memory) + len(rows) > MEMORY_ROWS:
                raise UnavailableError(
                    "predictions cannot be captured now, so none are made; try again later"
                ) from error
            if not self._memory:
                logger.exception("spool %s refuses too; rows are kept in memory", self.spool.path)
            self._memory.extend(rows)
