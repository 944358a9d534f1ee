"""Measures `just predict` on files of many rows: rows a second, and memory.

The model is the real one, trained for this; the rows are the penguins', drawn at random. Reading is
timed by itself as well, for it depends on the file's kind and not on the model.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from machine import describe, write

from common import ROOT, registry, scoring, settings
from inference.local import ARTIFACTS
from inference.predictor import Predictor

PACKAGES = ("numpy", "onnxruntime", "pyarrow")
PIECE = 100_000
MILLION = 1_000_000
BAD_SHARE = 0.01
# the peak of this process alone: what a parent is told of its child may be the parent's own
WITH_PEAK = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def prepare(folder: Path) -> Predictor:
    """Train a model below a folder, unless that was done before, and load it."""
    store = folder / "mlflow.db"
    os.environ.update(
        ROOKERY_STATE=str(folder),
        MLFLOW_TRACKING_URI=f"sqlite:///{store}",
        METAFLOW_DATASTORE_SYSROOT_LOCAL=str(folder),
        METAFLOW_CARD_LOCALROOT=str(folder),
    )
    if not store.exists():
        subprocess.run(
            [sys.executable, "src/pipelines/training.py", "run"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    with tempfile.TemporaryDirectory() as scratch:
        release = registry.choose(settings.load().project, None, Path(scratch) / "model")
        return Predictor.load(release.path / ARTIFACTS)


def make_file(path: Path, count: int, bad: float = 0.0) -> Path:
    """Write penguins drawn at random, each with an id.

    Args:
        path: A CSV or Parquet file.
        count: How many rows.
        bad: Share of rows with a number out of its range.
    """
    dataset = settings.load().dataset
    missing = pa.csv.ConvertOptions(strings_can_be_null=True)
    drawn_from = pa.csv.read_csv(ROOT / dataset.path, convert_options=missing)
    rng = np.random.default_rng(1)
    writer = None
    for start in range(0, count, PIECE):
        size = min(PIECE, count - start)
        rows = drawn_from.take(pa.array(rng.integers(0, len(drawn_from), size)))
        place = rows.schema.get_field_index(dataset.numbers[0])
        name, column = dataset.numbers[0], rows.column(place)
        spoiled = pa.compute.if_else(pa.array(rng.random(size) < bad), -1.0, column)
        rows = rows.set_column(place, name, spoiled)
        rows = rows.add_column(0, "id", pa.array(range(start, start + size)))
        if writer is None:
            kind = pa.csv.CSVWriter if path.suffix == ".csv" else pa.parquet.ParquetWriter
            writer = kind(path, rows.schema)
        writer.write_table(rows)
    if writer:
        writer.close()
    return path


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_speed(path: Path, count: int, predictor: Predictor, rounds: int) -> dict[str, Any]:
    """Read a file, and score it, several times in turn; return rows a second."""
    files = scoring.open_files(path)
    reading, total = [], []
    for _ in range(rounds):
        reading.append(seconds(lambda: [None for _ in files.rows]))
        total.append(seconds(lambda: scoring.score(files, predictor)))
    summary = scoring.score(files, predictor)
    apart = [count / (whole - read) for read, whole in zip(reading, total, strict=True)]
    return {
        "reading_rows_s": round(count / statistics.median(reading)),
        "total_rows_s": round(count / statistics.median(total)),
        "apart_from_reading_rows_s": round(statistics.median(apart)),
        "apart_from_reading_rows_s_worst": round(min(apart)),
        "rounds": rounds,
        "rejected": summary.rejected,
    }


def peak_megabytes(path: Path) -> int:
    """Run the command on a file, and return the most memory that it held."""
    output = subprocess.run(  # noqa: S603 - a command of this project
        [sys.executable, "-c", WITH_PEAK, "src/scripts/predict.py", str(path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return round(int(output.split()[-1]) * 1024 / 1e6)


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the trained model here, and use it again")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        predictor = prepare(folder)
        cases = [("CSV", "csv", 0.0), ("Parquet", "parquet", 0.0)]
        cases.append(("CSV, every 100th row bad", "csv", BAD_SHARE))
        for name, suffix, bad in cases:
            path = make_file(Path(scratch) / f"rows.{suffix}", MILLION, bad)
            found[name] = measure_speed(path, MILLION, predictor, arguments.rounds)
            if not bad:
                found[name]["peak_mb_1m_rows"] = peak_megabytes(path)
                make_file(path, 5 * MILLION)
                found[name]["peak_mb_5m_rows"] = peak_megabytes(path)
            print(name, found[name], flush=True)
    write("predict", describe(PACKAGES) | found)


if __name__ == "__main__":
    main()
