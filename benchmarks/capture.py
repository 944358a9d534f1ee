"""Measures the store of what was answered, at a million rows: size, reading, writing, removing.

The rows are penguins as the server captures them; only their probabilities are made up.
"""

import argparse
import itertools
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, write

from common import ROOT, settings
from common.dataset import read_table
from common.simulation import draw
from inference.backend import Captured
from inference.capture import DAY, STEP_ROWS, Recorder
from inference.schema import Schema
from inference.spool import Spool
from inference.store import Store

PACKAGES = ("orjson", "pandas")
# one request alone, and requests that share a commit
COMMIT_ROWS = (1, 4, 16)
LIMIT = 10_000
LABELS = 1_000
SPOOLED = 100_000
# how often a server's worker does a step
TICK_SECONDS = 0.05
DIGITS = 7


class Traffic:
    """Endless requests of one row each."""

    def __init__(self, config: settings.Settings) -> None:
        schema = config.dataset.schema
        self._records = draw(schema, read_table(config.dataset).rows, 2000, 1, drift=False)
        shares = np.random.default_rng(1).dirichlet([0.3] * len(schema.classes), 2000)
        self._predictions = [predicted(schema, row) for row in shares.round(DIGITS).tolist()]
        self._next = 0

    def rows(self, count: int, version: str = "1") -> list[Captured]:
        """Answer some requests."""
        rows = []
        for _ in range(count):
            place = self._next % len(self._records)
            record, prediction = self._records[place], self._predictions[place]
            rows += Captured.from_answer(uuid.uuid4().hex, version, [record], [prediction])
            self._next += 1
        return rows

    def commits(self, count: int) -> Iterator[list[Captured]]:
        """Answer so many requests, in the sizes of commits."""
        for size in itertools.cycle(COMMIT_ROWS):
            yield self.rows(min(size, count))
            count -= size
            if count <= 0:
                return


def predicted(schema: Schema, shares: list[float]) -> dict[str, Any]:
    """Make a prediction from probabilities."""
    confidence = max(shares)
    return {
        "prediction": schema.classes[shares.index(confidence)],
        "confidence": confidence,
        "probabilities": dict(zip(schema.classes, shares, strict=True)),
    }


def seconds(work: Callable[[], object], times: int = 3) -> float:
    """Return the median of several times."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return round(statistics.median(taken), 4)


def spread(taken: list[float]) -> dict[str, float]:
    """Summarize times in ms."""
    p50, p99, longest = np.percentile(taken, [50, 99, 100]).tolist()
    return {
        "p50": round(1000 * p50, 2),
        "p99": round(1000 * p99, 2),
        "max": round(1000 * longest, 2),
    }


def fill(store: Store, traffic: Traffic, rows: int) -> list[dict[str, Any]]:
    """Save rows, tenth by tenth, and say of each when it began and how long saving took."""
    tenths = []
    for _ in range(10):
        began, saving, commits = time.time(), 0.0, 0
        for commit in traffic.commits(rows // 10):
            started = time.perf_counter()
            store.save(commit)
            saving += time.perf_counter() - started
            commits += 1
        rate, took = round(rows / 10 / saving), round(1000 * saving / commits, 3)
        print(f"{rate} rows/s, {took} ms a commit", flush=True)
        tenths.append({"began": began, "rows_per_second": rate, "commit_ms": took})
    return tenths


def size(database: Path) -> float:
    """Return the size of the file, in MB, with all that stood in the log beside it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return round(database.stat().st_size / 1e6, 1)


def measure_reading(
    store: Store, schema: Schema, folder: Path, since: datetime
) -> dict[str, float]:
    """Time what reads the store, in seconds."""

    def load(**filters: Any) -> Callable[[], object]:  # noqa: ANN401 - load's own
        return lambda: store.load(schema, LIMIT, **{"since": None, "labelled": None} | filters)

    command = [sys.executable, str(ROOT / "src" / "scripts" / "captures.py")]
    environment = {**os.environ, "ROOKERY_STATE": str(folder)}
    found = {
        "load": seconds(load()),
        "load since": seconds(load(since=since)),
        "load labelled": seconds(load(labelled=True)),
        "load unlabelled": seconds(load(labelled=False)),
        "load labelled since": seconds(load(since=since, labelled=True)),
        "counts": seconds(store.counts),
        "just sqlite": seconds(
            lambda: subprocess.run(command, env=environment, check=True, capture_output=True),  # noqa: S603 - our own
            5,
        ),
    }
    print(found, flush=True)
    return found


def measure_labels(store: Store, rows: int) -> dict[str, float]:
    """Label some rows by id, spread over the whole store; in seconds."""
    with store.transaction() as connection:
        labels = connection.execute(
            "SELECT request_id || '-' || row, prediction FROM predictions"
            " WHERE abs(random()) % ? < ?",
            (rows, LABELS),
        ).fetchall()
    found = {"labels": len(labels), "all": seconds(lambda: store.label_known(labels), 1)}
    found["one"] = seconds(lambda: store.label_known(labels[:1]))
    print(found, flush=True)
    return found


def measure_retention(database: Path, traffic: Traffic, before: float) -> dict[str, Any]:
    """Remove rows as fast as it goes, then at a server's pace while another thread writes."""
    days = (time.time() - before) / DAY
    steps = []
    with closing(Store(database)) as store:
        for _ in range(200):
            started = time.perf_counter()
            store.remove_oldest(before, STEP_ROWS)
            steps.append(time.perf_counter() - started)
    found: dict[str, Any] = {
        "rows_per_second": round(len(steps) * STEP_ROWS / sum(steps)),
        "step_ms": spread(steps),
    }
    end = threading.Event()

    def tick() -> None:
        with closing(Recorder(database, retention_days=days)) as recorder:
            while not end.wait(TICK_SECONDS):
                recorder.tick()

    with closing(Recorder(database)) as writer:
        writer.save(traffic.rows(1))
        for name, ticking in [("commit_ms alone", False), ("commit_ms meanwhile", True)]:
            thread = threading.Thread(target=tick)
            if ticking:
                thread.start()
            taken = []
            for rows in traffic.commits(20_000):
                started = time.perf_counter()
                writer.save(rows)
                taken.append(time.perf_counter() - started)
            found[name] = spread(taken)
            if ticking:
                end.set()
                thread.join()
        found["rows spooled"] = writer.waiting
    print(found, flush=True)
    return found


def measure_spool(folder: Path, traffic: Traffic) -> dict[str, Any]:
    """Time spooling, counting and replaying."""
    spool = Spool(folder / "other.db")
    appends = []
    for _ in range(200):
        rows = traffic.rows(4)
        started = time.perf_counter()
        spool.append(rows)
        appends.append(time.perf_counter() - started)
    spool.append(traffic.rows(SPOOLED))
    found: dict[str, Any] = {
        "append of 4 rows_ms": spread(appends),
        f"count of {SPOOLED} rows": seconds(lambda: len(spool)),
    }
    steps, moved = [], 0
    with closing(Store(folder / "other.db")) as store:
        while not spool.empty:
            started = time.perf_counter()
            moved += spool.replay(store)[0]
            steps.append(time.perf_counter() - started)
    found |= {"replay rows_per_second": round(moved / sum(steps)), "replay step_ms": spread(steps)}
    print(found, flush=True)
    return found


def measure(rows: int) -> dict[str, Any]:
    """Fill a store in a folder of its own, and measure it."""
    config = settings.load()
    schema, traffic = config.dataset.schema, Traffic(config)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = folder / "captured.db"
        found: dict[str, Any] = {"rows": rows}
        with closing(Store(database)) as store:
            tenths = fill(store, traffic, rows)
            found |= {"writing": tenths, "file_mb": size(database)}
            since = datetime.fromtimestamp(tenths[-1]["began"], UTC)
            found["label_seconds"] = measure_labels(store, rows)
            found["seconds"] = measure_reading(store, schema, folder, since)
            with store.transaction() as connection:
                connection.execute(
                    "UPDATE predictions SET model_version = '2' WHERE time >= ?",
                    [tenths[len(tenths) // 2]["began"]],
                )
            found["seconds with 2 versions"] = measure_reading(store, schema, folder, since)
        found["retention"] = measure_retention(database, traffic, time.time())
        found["spool"] = measure_spool(folder, traffic)
    return found


def main() -> None:
    """Measure, print, and write the results with machine, versions and date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to fill the store with")
    arguments = parser.parse_args()
    about = describe(PACKAGES)
    about["versions"]["sqlite"] = sqlite3.sqlite_version
    write("capture", about | measure(arguments.rows))


if __name__ == "__main__":
    main()
