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
# Rows that are moved or removed at a time, so that neither this process nor others wait long.
STEP_ROWS = 500
# Seconds until old rows are looked for again, once none is left or the database was busy.
RETENTION_PAUSE = 60.0
DAY = 86_400.0


class Recorder:
    """Saves rows durably come what may: to the store, else to the spool, else in memory.

    Only rows in memory can be lost with the process; they are there only while neither the
    database nor the spool beside it takes them, as on a full disk. Threads must take turns.
    """

    def __init__(
        self,
        database: Path,
        sync: Literal["normal", "full"] = "normal",
        retention_days: float | None = None,
    ) -> None:
        """Prepare to save; nothing is opened yet.

        Args:
            database: The database file.
            sync: normal survives the death of any process, full also a power cut.
            retention_days: `tick` removes rows that are older; None keeps all.
        """
        self.database = database
        self.spool = Spool(database)
        self._sync: Literal["normal", "full"] = sync
        self._retention_days = retention_days
        self._store: Store | None = None
        self._retry_at = 0.0
        self._remove_at = 0.0
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
            except (sqlite3.Error, OSError) as error:
                self._fail(error)
            else:
                self.saved += len(rows)
                if self._failing or self._memory:
                    self._recover_some()
                return
        self._keep(rows)
        self.saved += len(rows)

    def recover(self) -> int:
        """Move into the store all that waits, if it can be; return how many rows were moved."""
        moved = self._recover_some()
        while not self._failing and (self._memory or (self._behind and not self._spool_failing)):
            moved += self._recover_some()
        return moved

    def tick(self) -> None:
        """Do one step of what there is to do besides saving.

        A server calls this many times a second, so that neither what waits nor old rows need
        traffic to be moved or removed.
        """
        now = time.monotonic()
        try:
            if self._store:
                self._store.require_in_place()
        except OSError as error:
            # also without traffic, for a process that keeps the old file open shares its -shm file
            # with those that have made a new one
            self._fail(error)
        if now >= self._retry_at and (self._failing or self._behind):
            self._recover_some()
        elif self._retention_days is not None and now >= self._remove_at and not self._failing:
            self._remove_some(self._retention_days)

    @property
    def waiting(self) -> int:
        """Number of rows that wait for their replay."""
        return len(self.spool) + len(self._memory)

    def close(self) -> None:
        """Close the store, after a last attempt to move into it what waits."""
        if self._failing or self._memory:
            self.recover()
        if self._store:
            self._store.close()
            self._store = None

    @property
    def _behind(self) -> bool:
        return bool(self._memory) or not self.spool.empty

    def _recover_some(self) -> int:
        """Move a few of the rows that wait; return how many."""
        try:
            store = self._open()
            some = self._memory[-STEP_ROWS:]
            store.save(some)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return 0
        moved = len(some)
        del self._memory[-STEP_ROWS:]
        try:
            if not self._memory:
                moved += self.spool.replay(store)[0]
                self._spool_failing = False
        except sqlite3.Error as error:
            self._fail(error)
            return moved
        except OSError:
            # what is in it must wait; what comes now needs no spool
            if not self._spool_failing:
                logger.exception("spool %s cannot be replayed; trying again", self.spool.path)
            self._spool_failing = True
            self._retry_at = time.monotonic() + RETRY_AFTER
        if self._failing or (moved and not self._behind):
            logger.warning(
                "capture store %s is back: %d rows replayed%s",
                self.database,
                moved,
                ", more wait" if self._behind else "",
            )
        self._failing = False
        return moved

    def _remove_some(self, days: float) -> None:
        """Remove a few of the rows that are older than so many days."""
        try:
            removed = self._open().remove_oldest(time.time() - days * DAY, STEP_ROWS)
        except (sqlite3.Error, OSError) as error:
            # no reason to spool: whether the store takes rows is for saving to find out
            logger.warning("old rows of %s stay for now: %s", self.database, error)
            removed = 0
        if removed < STEP_ROWS:
            self._remove_at = time.monotonic() + RETENTION_PAUSE

    def _open(self) -> Store:
        if self._store:
            self._store.require_in_place()
        else:
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
