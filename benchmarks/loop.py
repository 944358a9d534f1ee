"""Measures the loop: quality over seeds, and the time of training and monitoring.

Machines differ and share their cores, so times stand beside that of `import keras` in the same
run: the ratio is what can be compared.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

from machine import describe, write

from common import ROOT, fitting, settings
from common.dataset import SHUFFLE_SEED, read_table
from inference import launcher
from inference.local import Local

SEEDS = range(1, 6)
PACKAGES = ("evidently", "keras", "metaflow", "mlflow", "onnxruntime", "scikit-learn", "tensorflow")


def seconds(*words: str, environment: dict[str, str] | None = None) -> float:
    """Return the wall time of a Python command.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    started = time.perf_counter()
    subprocess.run(  # noqa: S603 - commands of this project
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=True,
        capture_output=True,
    )
    return round(time.perf_counter() - started, 1)


def measure_quality() -> list[dict[str, float]]:
    """Cross-validate at the default settings, once a seed."""
    loaded = settings.load()
    schema = loaded.dataset.schema
    rows = read_table(loaded.dataset).shuffled(SHUFFLE_SEED).rows
    found = []
    for seed in SEEDS:
        how = fitting.FitSettings(loaded.network, 50, 32, seed)
        parts = enumerate(fitting.split(schema, rows, 5, seed))
        summary = fitting.summarize([fitting.fit_fold(schema, rows, n, p, how) for n, p in parts])
        figures = {"seed": seed} | {
            name: round(summary[name], 4)
            for name in ("accuracy_mean", "accuracy_std", "f1_macro_mean", "loss_mean")
        }
        print(figures, flush=True)
        found.append(figures)
    return found


def measure_times(runs: int) -> dict[str, list[float]]:
    """Time `import keras`, training, and monitoring of 500 labelled rows, one after the other."""
    times: dict[str, list[float]] = {"import keras": [], "train": [], "deploy": [], "monitor": []}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "ROOKERY_STATE": folder,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": folder,
            "METAFLOW_CARD_LOCALROOT": folder,
            "ENDPOINT_URL": "http://127.0.0.1:8093",
        }
        os.environ.update(environment)
        backend = settings.load().create_backend()
        if not isinstance(backend, Local):
            raise TypeError("config/local.yml must name backend.Local")
        flow = "src/pipelines/{}.py".format
        try:
            for _ in range(runs):
                times["import keras"].append(seconds("-c", "import keras"))
                times["train"].append(seconds(flow("training"), "run"))
                times["deploy"].append(seconds(flow("deployment"), "run"))
                seconds(flow("traffic"), "run", "--samples", "500")
                seconds(flow("traffic"), "run", "--mode", "labels")
                times["monitor"].append(seconds(flow("monitoring"), "run", "--samples", "500"))
                print({name: values[-1] for name, values in times.items()}, flush=True)
        finally:
            launcher.stop(backend.folder)
    return times


def main() -> None:
    """Measure, print, and write the results with machine, versions and date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2, help="how often each time is taken")
    arguments = parser.parse_args()
    found = {"seconds": measure_times(arguments.runs), "quality": measure_quality()}
    write("loop", describe(PACKAGES) | found)


if __name__ == "__main__":
    main()
