"""Where an index lies, what it says of itself, and how one takes the place of another."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import Field

from common import ROOT, embeddings
from common.retrieval.chunks import find_files
from inference.errors import RetrievalError
from inference.schema import Strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

FORMAT = 1
LOCATIONS = ("docs", "README.md")
MANIFEST = "manifest.json"
# What is beside an index for so many seconds is of a process that was killed; a younger folder may
# be another one's, which is to put it to use yet.
LEFT_SECONDS = 3600


class Manifest(Strict):
    """What an index says of itself.

    Attributes:
        format: Of the files.
        model: The embedding model.
        kind: How FAISS keeps the vectors.
        chunks: How many there are.
        unseen: How many of them the embedder was not fitted on.
        threshold: Smallest coverage of a question that the documents can answer.
        locations: What was read.
        sources: SHA-256 of each file that was read.
        corpus: SHA-256 of all chunks.
        files: SHA-256 of each file of the index.
    """

    format: int
    model: str
    kind: str
    chunks: int
    unseen: int
    threshold: float
    locations: tuple[str, ...]
    sources: dict[str, str]
    corpus: str
    files: dict[str, str] = Field(default_factory=dict)

    @property
    def command(self) -> str:
        """What makes this index anew."""
        command = "just index"
        if self.locations != LOCATIONS:
            command += f" --location {','.join(self.locations)}"
        if self.model != embeddings.EMBEDDED:
            command += f" --embedding-model {self.model}"
        return command


def index_folder(model: str | None = None) -> Path:
    """Return where the index made with an embedding model lies; EMBEDDING_MODEL's without one."""
    return ROOT / "data" / "index" / re.sub(r"[^\w.-]+", "-", model or embeddings.model_name())


def read_sources(locations: Iterable[str], root: Path = ROOT) -> dict[str, bytes]:
    """Read the files below some locations.

    Raises:
        RetrievalError: A location does not exist, or a file cannot be read.
    """
    return {name: read(file) for name, file in find_files(locations, root).items()}


def read(file: Path) -> bytes:
    """Read a file.

    Raises:
        RetrievalError: It cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise RetrievalError(f"{file} cannot be read ({error.strerror})") from error


def digest(content: bytes) -> str:
    """Return the SHA-256 of something."""
    return hashlib.sha256(content).hexdigest()


def staging(folder: Path) -> Path:
    """Return a new name beside a folder."""
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")


def replace(folder: Path, staged: Path) -> None:
    """Rename a folder into the place of another one; remove that, and what killed processes left.

    Raises:
        RetrievalError: There is nothing to put there, or another process does the same. The
            folder that is in use stays.
    """
    if not staged.exists():
        raise RetrievalError(
            f"{staged} is not there: it was put to use already, or removed; run `just index` again"
        )
    former = staging(folder)
    try:
        if folder.exists():
            folder.rename(former)
        staged.rename(folder)
    except OSError as error:
        # unless it was not renamed, or another process has put its own there
        with suppress(OSError):
            former.rename(folder)
        raise RetrievalError(
            f"{folder} cannot be replaced ({error.strerror}): is it being indexed elsewhere? Run"
            " `just index` again"
        ) from error
    for left in (former, *leftovers(folder)):
        shutil.rmtree(left, ignore_errors=True)


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield the folders that `staging` named and nobody has used for LEFT_SECONDS."""
    name = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}")
    for found in folder.parent.iterdir():
        # another process may remove it at the same time
        with suppress(FileNotFoundError):
            if name.fullmatch(found.name) and time.time() - found.stat().st_mtime > LEFT_SECONDS:
                yield found
