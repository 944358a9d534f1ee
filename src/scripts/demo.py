"""The whole circle once, in a folder of its own: train, serve, watch, drift, alarm, repair."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from rich.table import Table

from common import ROOT, settings
from common.dataset import read_table
from common.interruption import finishing
from common.simulation import draw, drifting_feature
from inference import launcher
from inference.errors import RookeryError
from inference.local import Local
from scripts.command_line import one_line_errors
from scripts.steps import console, free_port, python, run_step

STATE = ROOT / ".demo"
ROWS = 300
LATENCY_REQUESTS = 100
SHOWN_FAILURES = 3


@dataclass
class Demo:
    """One run of the demo: its environment, and what came of each part."""

    environment: Mapping[str, str]
    started: float

    def run(self, title: str, *words: str) -> str:
        """Run a command of the project, with its output in a log file.

        Returns:
            What the command printed.

        Raises:
            BackendError: The command failed; the message holds the end of its log.
        """
        return run_step(title, python(*words), self.environment, STATE / "logs")

    def flow(self, title: str, name: str, *words: str) -> str:
        """Run a flow, and return its Metaflow run id."""
        file = STATE / "run-id"
        self.run(title, f"src/pipelines/{name}.py", "run", "--run-id-file", str(file), *words)
        return file.read_text(encoding="utf-8").strip()

    def observe(self, title: str, seed: int, *words: str) -> None:
        """Send rows, and label them with what is true of them, once they are answered."""
        file = STATE / "truth.csv"
        rows = ("--samples", str(ROWS), "--seed", str(seed), "--truth", str(file))
        self.flow(title, "traffic", *rows, *words)
        self.flow(f"labels of the {title}", "traffic", "--mode", "labels", "--labels", str(file))


@contextmanager
def alarm_bell() -> Iterator[tuple[str, list[str]]]:
    """Listen for alarms; yield the address that they are to be sent to, and the titles received."""
    titles: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            titles.append(str(json.loads(body)["title"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"json://127.0.0.1:{server.server_port}", titles
        finally:
            server.shutdown()
            thread.join()


def environment() -> dict[str, str]:
    """Return an environment in which every trace of a run goes into the demo's folder."""
    return {
        **os.environ,
        "ROOKERY_STATE": str(STATE),
        "MLFLOW_TRACKING_URI": f"sqlite:///{STATE / 'mlflow.db'}",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(STATE),
        # any value: it sends the cards where the rest of a run goes, not into the current folder
        "METAFLOW_CARD_LOCALROOT": str(STATE),
        "METAFLOW_DEFAULT_DATASTORE": "local",
        "METAFLOW_DEFAULT_METADATA": "local",
        "KERAS_HOME": str(STATE / "cache" / "keras"),
        "MPLCONFIGDIR": str(STATE / "cache" / "matplotlib"),
        "ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
    }


def measure_latency(backend: Local, records: Sequence[Mapping[str, Any]]) -> float:
    """Return the median milliseconds of a request of one row over one connection."""
    times = []
    for record in records:
        began = time.perf_counter()
        backend.invoke([record])
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def artifact(flow: str, run_id: str, name: str) -> Any:  # noqa: ANN401 - whatever the flow stored
    """Return an artifact of a finished run's last step."""
    from metaflow import Run, namespace  # noqa: PLC0415 - reads its settings when it is imported

    namespace(None)
    return getattr(Run(f"{flow}/{run_id}").data, name)


def describe(run_id: str) -> str:
    """Say what a monitoring run found."""
    failed = [c for c in artifact("Monitoring", run_id, "checks") if c["verdict"] == "fail"]
    verdict = str(artifact("Monitoring", run_id, "verdict"))
    sentences = [check["sentence"] for check in failed[:SHOWN_FAILURES]]
    if len(failed) > SHOWN_FAILURES:
        sentences.append(f"… and {len(failed) - SHOWN_FAILURES} more")
    return "\n".join([verdict, *sentences])


def describe_training(run_id: str) -> str:
    """Say how good a model is."""
    metrics = artifact("Training", run_id, "metrics")
    accuracy = f"{metrics['accuracy_mean']:.3f} ± {metrics['accuracy_std']:.3f}"
    return f"accuracy {accuracy} (cross-validated)"


def main() -> None:
    """Run the demo; whatever happens, no server of it stays behind."""
    argparse.ArgumentParser(
        prog="just demo",
        description="Go through the whole loop once, in .demo, beside your real work.",
    ).parse_args()
    os.environ.update(environment())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with one_line_errors():
        loaded = settings.load()
        backend = loaded.create_backend("backend.Local")
        if not isinstance(backend, Local):
            raise RookeryError("the demo runs on this machine only")
        launcher.stop(backend.folder)
        shutil.rmtree(STATE, ignore_errors=True)
        STATE.mkdir()
        with alarm_bell() as (bell, alarms):
            demo = Demo({**os.environ, "ALERT_URLS": bell}, time.monotonic())
            try:
                circle(demo, loaded, backend, alarms)
            finally:
                with finishing("no server is left"):
                    launcher.stop(backend.folder)


def circle(demo: Demo, loaded: settings.Settings, backend: Local, alarms: Sequence[str]) -> None:
    """Go through the loop, and print what came of it."""
    console.print(f"The whole loop in [bold]{STATE.relative_to(ROOT)}[/], each step with its log\n")
    training = demo.flow("train", "training")
    demo.flow("deploy", "deployment")
    print(demo.run("sample", "src/scripts/sample.py"), end="")

    schema = loaded.dataset.schema
    rows = read_table(loaded.dataset).rows
    latency = measure_latency(backend, draw(schema, rows, LATENCY_REQUESTS, seed=7, drift=False))
    watched = ("--samples", str(ROWS))
    demo.observe("usual traffic", 1)
    usual = demo.flow("monitor", "monitoring", *watched)
    demo.observe("drifted traffic", 2, "--drift")
    drifted = demo.flow("monitor again", "monitoring", *watched)
    retraining = demo.flow("retrain", "training", "--captured", "--reference-rows", str(ROWS))
    demo.flow("deploy what was retrained", "deployment")
    demo.observe("more of the drifted traffic", 3, "--drift")
    repaired = demo.flow("monitor once more", "monitoring", *watched)

    counts = backend.counts()
    table = Table("", "what came of it", title="Rookery, the whole circle", show_header=False)
    table.add_row("version 1", describe_training(training))
    table.add_row("latency", f"{latency:.1f} ms p50, one row a request, captured before answered")
    table.add_row("usual traffic", describe(usual))
    table.add_row(f"{drifting_feature(schema)} shifted", describe(drifted))
    table.add_row("alarms", "\n".join(alarms))
    table.add_row(f"version {backend.status().version}", describe_training(retraining))
    table.add_row("more of that traffic", describe(repaired))
    table.add_row(
        "captured", f"{sum(c[1] for c in counts)} rows, {sum(c[2] for c in counts)} labelled"
    )
    table.add_row("reports", f"{STATE.relative_to(ROOT)}/reports/{drifted} and …/{repaired}")
    table.add_row("runs and models", "MLFLOW_TRACKING_URI=sqlite:///.demo/mlflow.db ./justw mlflow")
    table.add_row("took", f"{time.monotonic() - demo.started:.0f} s")
    console.print(table)


if __name__ == "__main__":
    main()
