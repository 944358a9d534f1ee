"""What was answered, kept: in the database, or in a spool beside it while the database refuses."""

import logging
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Literal

from inference.backend import Captured
from inference.errors import UnavailableError
from inference.spool import Spool
from inference.store import Store

logger = logging.getLogger(__name__)

LOCK_TIMEOUT = 0.1
RETRY_AFTER = 1.0
MEMORY_ROWS = 100_000


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
