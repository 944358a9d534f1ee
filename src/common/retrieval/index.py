"""The index: built from files, saved at once or not at all, and searched in two ways."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
from pydantic import ValidationError

from common import ROOT, embeddings
from common.retrieval.chunks import Chunk, section_name, split_all
from common.retrieval.storage import (
    FORMAT,
    LOCATIONS,
    MANIFEST,
    Manifest,
    digest,
    read,
    read_sources,
    replace,
    staging,
)
from common.terms import is_common, terms
from inference.errors import RetrievalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import bm25s
    import faiss
    from numpy.typing import NDArray

CHUNKS, VECTORS, WORDS = "chunks.jsonl", "vectors.faiss", "words"
# Below it, a question is compared with every vector, which takes up to 15 ms and misses nothing;
# beyond, with those that HNSW's graph leads to (0.3 ms, 6 % of the nearest 50 are missed).
FLAT_LIMIT = 150_000
# Of the graph: edges of a node, candidates while building and while searching.
NEIGHBOURS, EFFORT = 32, (80, 128)
# An embedder that was fitted is fitted again once so many of the chunks are not those it has seen.
REFIT = 0.1
# Of BM25. Chunks are all of similar length, so b says little more than that tables are longer.
K1, B = 1.2, 0.4
# Of so many chunks for each section that is asked for, those of one section come together.
PER_SECTION = 2
# A rare word that everybody uses is still no topic.
COMMON_WEIGHT = 0.25
# A page of the guide goes before the reference that lists the same: a chunk from a folder of this
# name counts as one some seven places further down.
REFERENCE, REFERENCE_WEIGHT = "reference", 0.9
# So many candidates of each way are fused; k as in Cormack, Clarke and Büttcher (2009).
DEPTH, RANK_OFFSET = 50, 60
# Terms of a question; nobody asks in more, and the time of a search grows with them.
QUESTION_TERMS = 200
# For documents that evals/questions.yaml has no questions about, most often without keywords.
THRESHOLD = 0.5


class Passage(NamedTuple):
    """What was found in a section: one chunk, or several in their order.

    Attributes:
        source: The file, from the repository's root.
        heading: What it stands under: "Title > Section".
        text: The chunks.
        score: By what it was ranked; comparable within one search only.
    """

    source: str
    heading: str
    text: str
    score: float

    @property
    def section(self) -> str:
        """Where it stands, as file#heading."""
        return section_name(self.source, self.heading)


@dataclasses.dataclass(frozen=True)
class Index:
    """Chunks, their vectors, and their words."""

    manifest: Manifest
    chunks: Sequence[Chunk]
    embedder: embeddings.Embedder
    vectors: faiss.Index
    words: bm25s.BM25

    @classmethod
    def build(
        cls,
        sources: Mapping[str, bytes],
        locations: Iterable[str] = LOCATIONS,
        model: str = embeddings.EMBEDDED,
        earlier: Index | None = None,
    ) -> tuple[Index, int]:
        """Make an index of files.

        Args:
            sources: Content of each file, by its name from the repository's root.
            locations: Where they were found.
            model: The embedding model.
            earlier: An index made with the same model; chunks that it has are not embedded again.

        Returns:
            The index, and how many chunks were embedded for it.

        Raises:
            RetrievalError: There is nothing to index, or the embedding model does not answer.
        """
        chunks = split_all(sources)
        if not chunks:
            raise RetrievalError(f"there is nothing to index in {', '.join(locations)}")
        embedder, known, unseen = _reuse(earlier, chunks) or (None, {}, 0)
        if embedder is None:
            embedder = embeddings.create_embedder(model)
            embedder.fit([chunk.content for chunk in chunks])
        new = list(dict.fromkeys(chunk for chunk in chunks if chunk not in known))
        if new:
            made = embedder.embed([chunk.content for chunk in new])
            if known and made.shape[1] != len(next(iter(known.values()))):
                # another model of the same name
                return cls.build(sources, locations, model)
            known = {**known, **dict(zip(new, made, strict=True))}
        vectors = index_vectors(np.stack([known[chunk] for chunk in chunks]))
        manifest = Manifest(
            format=FORMAT,
            model=model,
            kind=type(vectors).__name__,
            chunks=len(chunks),
            unseen=unseen,
            threshold=THRESHOLD,
            locations=tuple(locations),
            sources={source: digest(content) for source, content in sources.items()},
            corpus=digest(orjson.dumps([tuple(chunk) for chunk in chunks])),
        )
        return cls(manifest, chunks, embedder, vectors, index_words(chunks)), len(new)

    @classmethod
    def load(cls, folder: Path, model: str | None = None, root: Path = ROOT) -> Index:
        """Read an index that is fit to be searched.

        Args:
            folder: Where it lies.
            model: The embedding model that it must be made with; EMBEDDING_MODEL's without it.
            root: What the names of its sources start from.

        Raises:
            RetrievalError: See `read`; or it was made with another model, or its sources have
                changed since. Names the command that mends it.
        """
        index = cls.read(folder)
        manifest, model = index.manifest, model or embeddings.model_name()
        if manifest.model != model:
            raise RetrievalError(
                f"the index in {folder} was made with the embedding model {manifest.model}, not"
                f" {model}: run `{manifest.model_copy(update={'model': model}).command}`"
            )
        try:
            sources = read_sources(manifest.locations, root)
        except RetrievalError as error:
            raise RetrievalError(
                f"the index in {folder} is stale: {error}: run `just index`"
            ) from error
        now = {name: digest(content) for name, content in sources.items()}
        changed = sorted(dict(now.items() ^ manifest.sources.items()))
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise RetrievalError(
                f"the index in {folder} is stale: {changed[0]}{more} changed since: run"
                f" `{manifest.command}`"
            )
        return index

    @classmethod
    def read(cls, folder: Path) -> Index:
        """Read an index, whatever has become of its sources.

        Raises:
            RetrievalError: There is none, or it is damaged, or of another format.
        """
        import bm25s  # noqa: PLC0415 - a second
        import faiss  # noqa: PLC0415 - a second

        try:
            text = (folder / MANIFEST).read_bytes()
        except FileNotFoundError as error:
            raise RetrievalError(f"there is no index in {folder}: run `just index`") from error
        try:
            manifest = Manifest.model_validate_json(text)
            wrong = [
                name for name, sha in manifest.files.items() if digest(read(folder / name)) != sha
            ]
        except (ValidationError, RetrievalError) as error:
            reason = MANIFEST if isinstance(error, ValidationError) else error
            raise RetrievalError(
                f"the index in {folder} is damaged or of another version ({reason}): run"
                " `just index`"
            ) from error
        if wrong or manifest.format != FORMAT:
            reason = f"{wrong[0]} is not what was saved" if wrong else f"format {manifest.format}"
            raise RetrievalError(
                f"the index in {folder} is damaged or of another version ({reason}): run"
                f" `{manifest.command}`"
            )
        lines = (folder / CHUNKS).read_bytes().splitlines()
        embedder = embeddings.create_embedder(manifest.model)
        embedder.load(folder)
        return cls(
            manifest,
            [Chunk(**orjson.loads(line)) for line in lines],
            embedder,
            faiss.read_index(str(folder / VECTORS)),
            bm25s.BM25.load(str(folder / WORDS)),
        )

    def with_threshold(self, threshold: float) -> Index:
        """Return the index with another threshold."""
        return dataclasses.replace(
            self, manifest=self.manifest.model_copy(update={"threshold": threshold})
        )

    def write(self, folder: Path) -> None:
        """Write all files of the index, the manifest last."""
        import faiss  # noqa: PLC0415 - a second

        folder.mkdir(parents=True)
        lines = [orjson.dumps(chunk._asdict()) for chunk in self.chunks]
        (folder / CHUNKS).write_bytes(b"\n".join(lines) + b"\n")
        faiss.write_index(self.vectors, str(folder / VECTORS))
        self.words.save(str(folder / WORDS), show_progress=False)
        self.embedder.save(folder)
        files = {
            file.relative_to(folder).as_posix(): digest(file.read_bytes())
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        manifest = self.manifest.model_copy(update={"files": files})
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def save(self, folder: Path) -> None:
        """Put the index where another one may lie; that one stays until this one is whole."""
        staged = staging(folder)
        self.write(staged)
        replace(folder, staged)

    def search(self, query: str, count: int = 4) -> list[Passage]:
        """Return the passages that answer a question best, or none if the documents do not.

        Raises:
            RetrievalError: The embedding model does not answer.
        """
        if not terms(query):
            return []
        passages, coverage = self.rank(query, self.embedder.embed_query(query), count)
        return passages if coverage >= self.manifest.threshold else []

    def rank(
        self,
        query: str,
        vector: NDArray[np.float32],
        count: int = 4,
        weights: tuple[float, float] | None = None,
    ) -> tuple[list[Passage], float]:
        """Return the best passages whatever the question is, and how much of it they cover.

        Args:
            query: The question.
            vector: That of the question.
            count: Of passages; each is of another section.
            weights: Of BM25 and of vectors; without them, 1 and what the embedder says.
        """
        asked = list(dict.fromkeys(terms(query)))[:QUESTION_TERMS]
        words, near = weights or (1.0, self.embedder.weight)
        fused = self._weigh(fuse([(words, self.matching(asked)), (near, self.nearest(vector))]))
        sections: dict[tuple[str, str], list[int]] = {}
        scores: dict[tuple[str, str], float] = {}
        for place, (row, score) in enumerate(fused):
            section = self.chunks[row][:2]
            scores.setdefault(section, score)
            rows = sections.setdefault(section, [])
            if not rows or place < PER_SECTION * count:
                rows.append(row)
        best = [
            (section, [self.chunks[row] for row in sorted(rows)])
            for section, rows in list(sections.items())[:count]
        ]
        passages = [
            Passage(*section, "\n\n".join(chunk.text for chunk in chunks), scores[section])
            for section, chunks in best
        ]
        texts = ("\n".join(chunk.content for chunk in chunks) for _, chunks in best)
        return passages, self.coverage(asked, texts)

    def _weigh(self, fused: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
        """Let chunks of the reference count less; returns rows and scores, best first."""
        weighed = [
            (
                row,
                score * REFERENCE_WEIGHT if f"/{REFERENCE}/" in self.chunks[row].source else score,
            )
            for row, score in fused
        ]
        return sorted(weighed, key=lambda item: -item[1])

    def nearest(self, vector: NDArray[np.float32]) -> list[int]:
        """Return the chunks with the nearest vectors.

        Raises:
            RetrievalError: The embedding model has other dimensions than it had.
        """
        if len(vector) != self.vectors.d:
            raise RetrievalError(
                f"{self.manifest.model} answers with {len(vector)} numbers, and the index has"
                f" {self.vectors.d}: run `{self.manifest.command}`"
            )
        import faiss  # noqa: PLC0415 - a second

        # threads that wait for each other cost one question more than they spare
        faiss.omp_set_num_threads(1)
        scores, rows = self.vectors.search(vector[None], min(DEPTH, len(self.chunks)))
        return [int(row) for row, score in zip(rows[0], scores[0], strict=True) if score > 0]

    def matching(self, asked: Sequence[str]) -> list[int]:
        """Return the chunks with the highest BM25 scores."""
        known = [term for term in asked if term in self.words.vocab_dict]
        if not known:
            return []
        scores = self.words.get_scores(known)
        best = np.flatnonzero(scores)
        if len(best) > DEPTH:
            best = best[np.argpartition(-scores[best], DEPTH)[:DEPTH]]
        return best[np.argsort(-scores[best], kind="stable")].tolist()

    def coverage(self, asked: Sequence[str], texts: Iterable[str]) -> float:
        """Return how much of a question stands in the best of some texts, from 0 to 1.

        Terms weigh by how rare they are.
        """
        weights = {term: self._weight(term) for term in asked}
        found = (weights.keys() & terms(text) for text in texts)
        covered = (sum(weights[term] for term in known) for known in found)
        return max(covered, default=0.0) / (sum(weights.values()) or 1)

    def _weight(self, term: str) -> float:
        """Return BM25's inverse document frequency, cut down where a term says little."""
        row = self.words.vocab_dict.get(term)
        if row is None and is_common(term):
            return 0.0
        # what is unknown is as rare as what stands once
        count = 1 if row is None else self._frequencies[row]
        rarity = math.log(1 + (len(self.chunks) - count + 0.5) / (count + 0.5))
        return rarity * COMMON_WEIGHT if is_common(term) else rarity

    @cached_property
    def _frequencies(self) -> NDArray[Any]:
        """In how many chunks each term stands."""
        return np.diff(self.words.scores["indptr"])


def _reuse(
    earlier: Index | None, chunks: Sequence[Chunk]
) -> tuple[embeddings.Embedder, dict[Chunk, NDArray[np.float32]], int] | None:
    """Return embedder and vectors of an earlier index, unless it has to be fitted anew."""
    if earlier is None:
        return None
    changed = len(set(chunks) ^ set(earlier.chunks))
    unseen = earlier.manifest.unseen + changed
    if earlier.embedder.fits and unseen > REFIT * len(chunks):
        return None
    vectors = earlier.vectors.reconstruct_n(0, len(earlier.chunks))
    return earlier.embedder, dict(zip(earlier.chunks, vectors, strict=True)), unseen


def index_vectors(vectors: NDArray[np.float32]) -> faiss.Index:
    """Put vectors into the kind of FAISS index that suits their number."""
    import faiss  # noqa: PLC0415 - a second

    count, dimensions = vectors.shape
    if count < FLAT_LIMIT:
        index = faiss.IndexFlatIP(dimensions)
    else:
        index = faiss.IndexHNSWFlat(dimensions, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = EFFORT
    index.add(vectors)
    return index


def index_words(chunks: Iterable[Chunk]) -> bm25s.BM25:
    """Count the terms of chunks for BM25."""
    import bm25s  # noqa: PLC0415 - a second

    words = bm25s.BM25(k1=K1, b=B)
    words.index([terms(chunk.content) for chunk in chunks], show_progress=False)
    return words


def fuse(rankings: Iterable[tuple[float, Sequence[int]]]) -> list[tuple[int, float]]:
    """Fuse weighted rankings by reciprocal rank; returns rows and scores, best first."""
    scores: dict[int, float] = {}
    for weight, ranking in rankings:
        if not weight:
            continue
        for place, row in enumerate(ranking, start=1):
            scores[row] = scores.get(row, 0) + weight / (RANK_OFFSET + place)
    return sorted(scores.items(), key=lambda item: -item[1])
