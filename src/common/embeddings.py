"""Text as vectors: hashed TF-IDF, which is embedded, or any embedding model that LiteLLM knows."""

from __future__ import annotations

import hashlib
import math
import os
import re
import sqlite3
import zlib
from array import array
from collections import Counter
from contextlib import closing
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from common import ROOT
from common.progress import progress
from common.terms import terms
from inference.errors import RetrievalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

EMBEDDED = "embedded/tfidf"
STATE = "embedding.npz"
# Hashed terms and parts of terms share so many places.
FEATURES = 2**16
PART_LENGTH = 4


class Embedder(Protocol):
    """Turns texts into vectors whose scalar product says how alike two texts are."""

    name: str
    # whether it learns from the texts that are searched
    fits: bool
    # how much its ranking counts beside BM25's
    weight: float

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the texts that will be searched, where the method needs it."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector of length 1 for each text, or of length 0 where nothing in it is known.

        Raises:
            RetrievalError: The model does not answer.
        """
        ...

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Return the vector of a question, of which nothing is kept."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `fit` learnt."""

    def load(self, folder: Path) -> None:
        """Read it."""


def model_name() -> str:
    """Return the name that EMBEDDING_MODEL sets."""
    return os.environ.get("EMBEDDING_MODEL") or EMBEDDED


def create_embedder(model: str) -> Embedder:
    """Make the embedder of this name.

    Raises:
        RetrievalError: A name starts with embedded/, and is not the one that exists.
    """
    if model == EMBEDDED:
        return TfIdf()
    if model.startswith("embedded/"):
        raise RetrievalError(
            f"EMBEDDING_MODEL: {model} does not exist; the embedded one: {EMBEDDED}"
        )
    return LiteLlm(model)


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Scale each row to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return np.ascontiguousarray(scaled, dtype=np.float32)


# most terms of a text have come before
@lru_cache(maxsize=100_000)
def features(term: str) -> tuple[int, ...]:
    """Return the places of a term and of its parts, which related words share."""
    word = f"<{term}>"
    ends = range(PART_LENGTH, len(word) + 1) if len(word) > PART_LENGTH + 1 else ()
    parts = (term, *(word[end - PART_LENGTH : end] for end in ends))
    return tuple(zlib.crc32(part.encode()) % FEATURES for part in parts)


class TfIdf:
    """Latent semantic analysis of hashed TF-IDF.

    A truncated SVD, not a random projection: it brings terms together that occur together
    (Deerwester et al., 1990), and of a few hundred texts it takes a moment. Terms are hashed, so
    that no vocabulary is stored; not by scikit-learn, which takes seconds to import.
    """

    name = EMBEDDED
    fits = True
    # it sees little that BM25 does not
    weight = 0.4
    DIMENSIONS = 256
    # With as many dimensions as texts, the SVD would bring nothing together.
    TEXTS_PER_DIMENSION = 2
    # Of more texts, so many say how rare terms are and which of them occur together.
    SAMPLE = 10_000
    # Power iterations of the SVD; more change no ranking.
    ITERATIONS = 2

    def __init__(self) -> None:
        self._columns = np.zeros(0, dtype=np.int64)
        self._idf = np.zeros(0, dtype=np.float32)
        self._components = np.zeros((0, 1), dtype=np.float32)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn how rare each feature is, and which of them occur together."""
        from sklearn.utils.extmath import randomized_svd  # noqa: PLC0415 - 3 s

        if len(texts) > self.SAMPLE:
            chosen = np.random.default_rng(0).choice(len(texts), self.SAMPLE, replace=False)
            texts = [texts[int(place)] for place in chosen]
        counts = self._count(texts)
        frequency = np.bincount(counts.indices, minlength=FEATURES)
        self._columns = np.flatnonzero(frequency)
        # scikit-learn's smoothed formula
        idf = np.log((1 + len(texts)) / (1 + frequency[self._columns])) + 1
        self._idf = idf.astype(np.float32)
        weighted = self._weigh(counts)
        size = min(self.DIMENSIONS, *weighted.shape, 1 + len(texts) // self.TEXTS_PER_DIMENSION)
        _, _, components = randomized_svd(weighted, size, n_iter=self.ITERATIONS, random_state=0)
        self._components = np.ascontiguousarray(components.T, dtype=np.float32)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector for each text; see `Embedder`."""
        return unit(self._weigh(self._count(texts)) @ self._components)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Return the vector of a question."""
        return self.embed([query])[0]

    def save(self, folder: Path) -> None:
        """Write arrays alone: nothing that would have to be unpickled."""
        np.savez(folder / STATE, columns=self._columns, idf=self._idf, components=self._components)

    def load(self, folder: Path) -> None:
        """Read them."""
        with np.load(folder / STATE, allow_pickle=False) as state:
            self._columns, self._idf = state["columns"], state["idf"]
            self._components = state["components"]

    def _count(self, texts: Sequence[str]) -> csr_matrix:
        """Return 1 + log(count) of each feature in each text, shape (texts, FEATURES)."""
        from scipy.sparse import csr_matrix  # noqa: PLC0415 - 1 s

        places, values, ends = array("l"), array("f"), array("l", [0])
        for text in texts:
            counts = Counter(chain.from_iterable(map(features, terms(text))))
            places.extend(counts)
            values.extend(1 + math.log(count) for count in counts.values())
            ends.append(len(places))
        parts = (np.asarray(values), np.asarray(places), np.asarray(ends))
        return csr_matrix(parts, shape=(len(texts), FEATURES), dtype=np.float32)

    def _weigh(self, counts: csr_matrix) -> csr_matrix:
        """Return TF-IDF of the known features, each row of length 1."""
        weighted = counts[:, self._columns].multiply(self._idf).tocsr()
        lengths = np.sqrt(weighted.multiply(weighted).sum(axis=1)).A1
        repeats = np.repeat(np.maximum(lengths, 1e-12), np.diff(weighted.indptr))
        weighted.data /= repeats
        return weighted


class LiteLlm:
    """An embedding model by LiteLLM's name, such as openai/text-embedding-3-small.

    EMBEDDING_API_BASE says where it is, if not at its provider's.
    """

    fits = False
    weight = 1.0
    BATCH = 64
    # Models read up to 8,192 tokens; of a longer text, the beginning says what it is about.
    CHARACTERS = 20_000
    SECONDS = 30.0
    ATTEMPTS = 4
    # Seconds before the second attempt, doubled with each.
    FIRST_WAIT = 0.5

    def __init__(self, name: str, cache: Path | None = None) -> None:
        self.name = name
        state = ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery")
        self._cache = cache or state / "cache" / "embeddings.db"

    def fit(self, texts: Sequence[str]) -> None:
        """Learn nothing."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector for each text; what was paid once is read from the cache."""
        keys = [self._key(text) for text in texts]
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._cache, timeout=self.SECONDS)) as store:
            store.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB)")
            known: dict[bytes, bytes] = {}
            for key in set(keys):
                found = store.execute("SELECT vector FROM vectors WHERE key = ?", [key]).fetchone()
                if found:
                    known[key] = found[0]
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            with progress("embedding", len(set(keys)), "texts") as show:
                for batch in batches(list(missing), self.BATCH):
                    vectors = self._ask([missing[key] for key in batch])
                    pairs = zip(batch, vectors, strict=True)
                    rows = [(key, vector.tobytes()) for key, vector in pairs]
                    # batch by batch, so that a failure wastes nothing that was paid
                    with store:
                        store.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
                    known |= rows
                    show(len(known))
        return unit(np.stack([np.frombuffer(known[key], dtype=np.float32) for key in keys]))

    def embed_query(self, query: str) -> NDArray[np.float32]:
        """Return the vector of a question: people's questions are not kept."""
        return unit(self._ask([query]))[0]

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def load(self, folder: Path) -> None:
        """Read nothing."""

    def _key(self, text: str) -> bytes:
        base = os.environ.get("EMBEDDING_API_BASE", "")
        return hashlib.sha256(f"{self.name}\0{base}\0{text}".encode()).digest()

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Ask the model, again after a while where that may help; shape (texts, dimensions)."""
        from tenacity import (  # noqa: PLC0415 - only these models need it
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            wait_exponential_jitter,
        )

        litellm = import_litellm()
        base = os.environ.get("EMBEDDING_API_BASE") or None
        missing = missing_keys(self.name)
        if missing and not base:
            raise RetrievalError(f"embedding model {self.name} needs a key: set {missing} in .env")
        attempts = Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_exponential_jitter(self.FIRST_WAIT, max=20, jitter=self.FIRST_WAIT),
            stop=stop_after_attempt(self.ATTEMPTS),
            reraise=True,
        )
        try:
            answer = attempts(
                litellm.embedding,
                model=self.name,
                # most services refuse an empty text
                input=[text[: self.CHARACTERS] or " " for text in texts],
                api_base=base,
                timeout=self.SECONDS,
                max_retries=0,
                encoding_format="float",
                drop_params=True,
            )
            rows = [row["embedding"] for row in answer.data]
            vectors = np.asarray(rows, dtype=np.float32)
        except Exception as error:
            raise explain(error, self.name) from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():  # noqa: PLR2004 - a matrix
            raise RetrievalError(
                f"embedding model {self.name} answered {len(texts)} texts with"
                f" {vectors.shape} numbers: is it an embedding model?"
            )
        return vectors


def batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Yield a sequence in parts of `size`."""
    return (items[first : first + size] for first in range(0, len(items), size))


def import_litellm() -> Any:  # noqa: ANN401 - a module
    """Import LiteLLM without its download and its telemetry."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm  # noqa: PLC0415 - 5 s

    litellm.telemetry = False  # type: ignore[attr-defined] - read at run time
    litellm.suppress_debug_info = True
    # its embedding takes max_retries=0 for none given, and would try each attempt three times
    litellm.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined] - read at run time
    return litellm


def missing_keys(model: str) -> str:
    """Name the variables that the key of a model's provider is expected in, if they are not set."""
    missing = import_litellm().validate_environment(model)["missing_keys"]
    return " and ".join(key for key in missing if key.endswith(("_KEY", "_TOKEN")))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may be answered a moment later: status 429 or 5xx, or a time-out."""
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and (status in {408, 429} or status >= 500)  # noqa: PLR2004 - HTTP


def explain(error: Exception, model: str) -> RetrievalError:
    """Say in one line why a model did not answer, and what to set."""
    if isinstance(error, RetrievalError):
        return error
    reason = re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
    server = os.environ.get("EMBEDDING_API_BASE") or "its provider"
    status = getattr(error, "status_code", None)
    if status in {401, 403} or "api_key" in reason:
        keys = missing_keys(model) or "its API key"
        text = f"got no valid key: set {keys} in .env"
    elif "LLM Provider NOT provided" in reason:
        text = "names no provider: set EMBEDDING_MODEL to provider/model"
    elif is_transient(error):
        text = (
            f"did not answer at {server}: try again later, or set EMBEDDING_API_BASE to where it is"
            f" ({reason})"
        )
    else:
        text = f"failed at {server}: {reason}"
    return RetrievalError(f"embedding model {model} {text}")
