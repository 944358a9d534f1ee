"""Measures search in 100,000 chunks: building, questions, memory, and the kinds of FAISS index.

The chunks are those of the Python packages that are installed, which are text of the kind that
`--location src` reads; a question is a few words in a row of one of them.
"""

import argparse
import math
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from machine import describe, write

from common.embeddings import TfIdf
from common.retrieval import Index
from common.retrieval.chunks import Chunk, split_all
from common.retrieval.index import index_words
from common.terms import terms

PACKAGES = ("bm25s", "faiss-cpu", "numpy", "scipy", "scikit-learn", "pystemmer")
QUESTIONS, WORDS = 200, 6
NEIGHBOURS = 50


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what something returns, and how many seconds it took."""
    started = time.perf_counter()
    return work(), round(time.perf_counter() - started, 2)


def peak() -> int:
    """Return the most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def read(count: int) -> dict[str, bytes]:
    """Read installed Python files that have about so many chunks, the same on every run."""
    packages = Path(np.__file__).parents[1]
    files = sorted(packages.rglob("*.py"))
    random.Random(0).shuffle(files)  # noqa: S311 - no secret
    sources: dict[str, bytes] = {}
    size = 0
    for file in files:
        content = file.read_bytes()
        # a chunk has some 600 characters
        if size > count * 600:
            break
        try:
            content.decode()
        except UnicodeDecodeError:
            continue
        sources[file.relative_to(packages).as_posix()] = content
        size += len(content)
    return sources


def questions(chunks: list[Chunk]) -> list[str]:
    """Take words out of chunks."""
    chance = random.Random(1)  # noqa: S311 - no secret
    found = []
    while len(found) < QUESTIONS:
        words = chance.choice(chunks).text.split()
        first = chance.randrange(max(1, len(words) - WORDS))
        question = " ".join(words[first : first + WORDS])
        if len(terms(question)) >= WORDS // 2:
            found.append(question)
    return found


def spread(seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99 in ms."""
    p50, p99 = np.percentile(seconds, [50, 99]).tolist()
    return {"p50": round(1000 * p50, 2), "p99": round(1000 * p99, 2)}


def compare(vectors: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
    """Measure each kind of FAISS index on the same vectors and questions."""
    count, dimensions = vectors.shape
    flat = faiss.IndexFlatIP(dimensions)
    flat.add(vectors)
    _, exact = flat.search(asked, NEIGHBOURS)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(os.cpu_count() or 1)
    hnsw = faiss.IndexHNSWFlat(dimensions, 32, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction, hnsw.hnsw.efSearch = 80, 128
    lists = int(4 * math.sqrt(count))
    ivf = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(dimensions), dimensions, lists, faiss.METRIC_INNER_PRODUCT
    )
    kinds: dict[str, Any] = {
        "flat": (flat, 0.0),
        "hnsw": (hnsw, timed(lambda: hnsw.add(vectors))[1]),
    }
    seconds = timed(lambda: (ivf.train(vectors), ivf.add(vectors)))[1]
    for probes in (16, 64):
        kinds[f"ivf, {probes} of {lists} lists"] = (ivf, seconds, probes)
    faiss.omp_set_num_threads(threads)
    found = {}
    for name, (index, seconds, *probes) in kinds.items():
        if probes:
            index.nprobe = probes[0]
        taken, shared = [], []
        for place, vector in enumerate(asked):
            started = time.perf_counter()
            _, rows = index.search(vector[None], NEIGHBOURS)
            taken.append(time.perf_counter() - started)
            shared.append(len(set(rows[0]) & set(exact[place])) / NEIGHBOURS)
        found[name] = {
            "build_seconds": seconds,
            "query_ms": spread(taken),
            "shared_with_flat": round(statistics.mean(shared), 3),
        }
        print(name, found[name], flush=True)
    return {"vectors": count, "dimensions": dimensions, "kinds": found}


def measure(count: int) -> dict[str, Any]:
    """Build an index, save it, load it, and ask it."""
    before = peak()
    sources, reading = timed(lambda: read(count))
    chunks, splitting = timed(lambda: split_all(sources))
    print(f"{len(chunks)} chunks, read in {reading} s, split in {splitting} s", flush=True)
    (index, _), building = timed(lambda: Index.build(sources, ("packages",)))
    found: dict[str, Any] = {
        "chunks": len(index.chunks),
        "characters": sum(len(chunk.text) for chunk in index.chunks),
        "kind": index.manifest.kind,
        "seconds": {"reading": reading, "splitting": splitting, "build, with splitting": building},
        "memory_mb": {"before": before, "peak of building": peak()},
    }
    print(found, flush=True)
    texts = [chunk.content for chunk in index.chunks]
    embedder = TfIdf()
    found["seconds"]["fitting"] = timed(lambda: embedder.fit(texts))[1]
    vectors, found["seconds"]["embedding"] = timed(lambda: embedder.embed(texts))
    found["seconds"]["BM25"] = timed(lambda: index_words(index.chunks))[1]
    asked = questions(list(index.chunks))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "index"
        _, found["seconds"]["saving"] = timed(lambda: index.save(folder))
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        found["index_mb"] = round(size / 1e6)
        loaded, found["seconds"]["loading"] = timed(lambda: Index.read(folder))
    loaded.search(asked[0])
    found["query_ms"] = spread([timed_exactly(lambda q=q: loaded.search(q)) for q in asked])
    print(found, flush=True)
    found["faiss"] = compare(vectors, embedder.embed(asked))
    return found


def timed_exactly(work: Callable[[], Any]) -> float:
    """Return how many seconds something took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure, print, and write the results with machine, versions and date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000, help="how many, about")
    arguments = parser.parse_args()
    found = measure(arguments.chunks)
    if sys.platform == "darwin":
        found["memory_mb"] = "not comparable: macOS counts in bytes"
    write("retrieval", describe(PACKAGES) | found)


if __name__ == "__main__":
    main()
