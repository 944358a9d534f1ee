"""Measures monitoring: time and memory of the whole run, at 500 and at a million captured rows.

Where machines are shared, seconds of the processor tell more than seconds of the clock.

The model is the real one, trained for this. The rows are penguins with a little noise, so that few
of them are equal; the model predicts them, and every one has a label. Then come the odd windows of
a million rows: the same row a million times, and rows that no schema allows.
"""

import argparse
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import pandas as pd
from machine import describe, write
from predict import prepare

from common import ROOT, registry, settings
from common.dataset import read_table
from inference.backend import Captured
from inference.predictor import Predictor
from inference.schema import to_records
from inference.store import Store

PACKAGES = ("evidently", "metaflow", "mlflow", "orjson", "pandas", "pyarrow", "scikit-learn")
MILLION = 1_000_000
FEW = 500
PIECE = 50_000
# of a column's deviation
NOISE = 0.1
QUALITY = 0.97
POLL_SECONDS = 0.05


def fill(database: Path, predictor: Predictor, version: str, rows: int, *, same: bool) -> None:
    """Fill a new database with answered and labelled rows.

    Args:
        database: Its file.
        predictor: Answers them.
        version: The model version that they name.
        rows: How many.
        same: Whether they are all one and the same.
    """
    dataset = settings.load().dataset
    table = read_table(dataset).rows
    rng, labels = np.random.default_rng(1), random.Random(1)  # noqa: S311 - a simulation
    one = to_records(table.iloc[:1][list(dataset.features)]) if same else None
    with closing(Store(database)) as store:
        for start in range(0, rows, PIECE):
            count = min(PIECE, rows - start)
            records = list(one) * count if one else draw(dataset, table, count, rng)
            predictions = predictor.predict(predictor.check(records))
            commit: list[Captured] = []
            for number, (record, prediction) in enumerate(zip(records, predictions, strict=True)):
                name = f"request-{start + number}"
                commit += Captured.from_answer(name, version, [record], [prediction])
            store.save(commit)
        store.label_simulated(QUALITY, labels.randrange(2**32))
        with store.transaction() as connection:
            connection.execute("ANALYZE")


def draw(
    dataset: settings.DatasetSettings, table: pd.DataFrame, count: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Draw rows of the table, with noise on their numbers."""
    drawn = table[list(dataset.features)].sample(count, replace=True, random_state=rng)
    for name, feature in dataset.features.items():
        if feature.kind != "number":
            continue
        low, high = feature.range or (-np.inf, np.inf)
        noise = rng.normal(0, NOISE * table[name].std(), count)
        drawn[name] = (drawn[name] + noise).round(2).clip(low, high)
    return [dict(record) for record in to_records(drawn)]


def narrow(database: Path) -> None:
    """Give every row a number that its schema does not allow."""
    dataset = settings.load().dataset
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE predictions SET features = json_set(features, ?, -1)",
            [f'$."{dataset.numbers[0]}"'],
        )


class Memory:
    """The most memory that a process and those below it held."""

    def __init__(self, root: int) -> None:
        self._root, self._peaks, self._sum = root, {}, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def largest(self) -> int:
        """Peak of the largest process, in MB."""
        return round(max(self._peaks.values()) * 1024 / 1e6)

    @property
    def together(self) -> int:
        """Peak of all processes at one moment, in MB; pages that they share count twice."""
        return round(self._sum * 1024 / 1e6)

    def _watch(self) -> None:
        while not self._end.wait(POLL_SECONDS):
            now = 0
            for process in family(self._root):
                # it may end at any moment
                with suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{process}/status").read_text().splitlines()
                    now += kilobytes(lines, "VmRSS")
                    self._peaks[process] = kilobytes(lines, "VmHWM")
            self._sum = max(self._sum, now)


def kilobytes(lines: Sequence[str], name: str) -> int:
    """Return a figure of /proc/<process>/status."""
    return int(next(line.split()[1] for line in lines if line.startswith(name)))


def family(root: int) -> list[int]:
    """Return a process and all below it."""
    found = [root]
    for process in found:
        with suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def processor_seconds() -> float:
    """Return what all processes that this one started and that ended took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(rows: int) -> dict[str, Any]:
    """Run monitoring once."""
    command = [sys.executable, "src/pipelines/monitoring.py", "run", "--samples", str(rows)]
    started, before = time.perf_counter(), processor_seconds()
    process = subprocess.Popen(  # noqa: S603 - a command of this project
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with Memory(process.pid) as memory:
        output, _ = process.communicate()
    taken = round(time.perf_counter() - started, 1)
    told = [line for line in output.splitlines() if "verdict: " in line]
    if not told:
        raise RuntimeError(f"monitoring of {rows} rows gave no verdict:\n{output}")
    found = {
        "seconds": taken,
        "processor_seconds": round(processor_seconds() - before, 1),
        "peak_mb": memory.largest,
        "peak_mb_of_all_processes": memory.together,
        "verdict": told[-1].split("verdict: ")[1],
    }
    print(found, flush=True)
    return found


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=MILLION)
    parser.add_argument("--rounds", type=int, default=3, help=f"runs at {FEW} rows")
    parser.add_argument("--folder", type=Path, help="keep the trained model here, and use it again")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        predictor = prepare(folder)
        project = settings.load().project
        version = registry.version_by_alias(project, registry.CHAMPION) or registry.newest(project)
        mlflow.MlflowClient().set_registered_model_alias(
            project, registry.CHAMPION, version.version
        )
        database = folder / "captured.db"
        for kind, same in ((", all labelled", False), (", all the same", True)):
            for file in folder.glob("captured.db*"):
                file.unlink()
            fill(database, predictor, str(version.version), arguments.rows, same=same)
            if not same:
                found[f"{FEW} rows"] = [measure(FEW) for _ in range(arguments.rounds)]
            found[f"{arguments.rows} rows{kind}"] = measure(arguments.rows)
        narrow(database)
        found[f"{arguments.rows} rows, none as the schema allows"] = measure(arguments.rows)
    write("monitoring", describe(PACKAGES) | found)


if __name__ == "__main__":
    main()
