"""A file for rows that the database refused, until it takes them."""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import orjson

from inference.backend import Captured
from inference.store import Store

logger = logging.getLogger(__name__)

# Some 400 rows of the penguins: a server that moves so many at once keeps no client waiting long.
BLOCK = 2**17


class Spool:
    """An append-only file beside the database, for rows that the database refused."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".spool")
        self.damaged_path = self.path.with_name(self.path.name + ".damaged")

    def __len__(self) -> int:
        """Number of rows that wait for their replay."""
        try:
            with self.path.open("rb") as file:
                return sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
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
        lines = b"".join(
            orjson.dumps([row.key.hex(), *row[1:]], option=orjson.OPT_APPEND_NEWLINE)
            for row in rows
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(os.O_CREAT | os.O_RDWR) as descriptor:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            # half a line, such as a process leaves that is killed, would hide the next one
            cut = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
            try:
                with os.fdopen(os.dup(descriptor), "wb") as file:
                    file.write(b"\n" * cut + lines)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise

    def replay(self, store: Store) -> tuple[int, int]:
        """Move the last rows, as many as fit into a block, into the store; each ends up there once.

        Taken from the end, they need no mark of how far the replay has come: the file just becomes
        shorter. A crash before that leaves the rows in both, and the next replay skips what the
        store has.

        Returns:
            The number of rows moved, and of damaged lines that were set aside.

        Raises:
            sqlite3.Error: The store refuses.
            OSError: The file cannot be read or written.
        """
        try:
            with (
                self._locked(os.O_RDWR) as descriptor,
                os.fdopen(os.dup(descriptor), "rb") as file,
            ):
                start, lines = last_lines(file)
                rows, damaged = [], []
                for line in lines:
                    try:
                        rows.append(read_line(line))
                    except (ValueError, TypeError):
                        damaged.append(line)
                store.save(rows)
                if damaged:
                    with self.damaged_path.open("ab") as aside:
                        aside.writelines(line + b"\n" for line in damaged)
                    logger.error("damaged lines of %s moved to %s", self.path, self.damaged_path)
                os.ftruncate(descriptor, start)
        except FileNotFoundError:
            return 0, 0
        return len(rows), len(damaged)

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def last_lines(file: BinaryIO) -> tuple[int, list[bytes]]:
    """Return where the last whole lines that fit into a block begin, and these lines.

    A line that is longer than a block is returned all the same.
    """
    end = file.seek(0, os.SEEK_END)
    size = BLOCK
    while True:
        start = file.seek(max(0, end - size))
        block = file.read()
        # a block that does not begin with the file begins within a line
        first = block.find(b"\n") + 1 if start else 0
        if start == 0 or 0 < first < len(block):
            return start + first, [line for line in block[first:].split(b"\n") if line]
        size *= 2


def read_line(line: bytes) -> Captured:
    """Read a line of the spool.

    Raises:
        ValueError, TypeError: The line is damaged.
    """
    key, *values = orjson.loads(line)
    if not all(isinstance(value, str | int | float) for value in values):
        raise TypeError("the store takes text and numbers only")
    return Captured(bytes.fromhex(key), *values)
