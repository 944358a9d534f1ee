"""A file for rows that the database refused, until it takes them."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

from inference.backend import Captured
from inference.store import Store

logger = logging.getLogger(__name__)


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
