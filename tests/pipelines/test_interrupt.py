"""Ctrl-C, as a terminal sends it, in the middle of each long recipe: nothing is left half done."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import psutil
import pytest
import requests

from common import ROOT, registry
from common.simulation import draw, send
from inference import launcher
from inference.backend import Release

pytestmark = pytest.mark.integration

EXIT_CODE = 130
# what ends by itself has gone by then
SECONDS = 15
FEW_LINES = 4
# Metaflow prints it when a step's process starts; the imports alone take some seconds then
STARTS = r"/start/1 .*Task is starting"
WORKING = 3.0


@pytest.fixture
def shop(workshop_class, make_version, reference, release, schema, tmp_path, monkeypatch):
    """A workshop of its own: version 1 is champion, is served and has answered; 2 challenges it."""
    # in the folder of make_version's store
    made = workshop_class(tmp_path)
    made.enter(monkeypatch)
    champion = make_version(reference=reference)
    try:
        made.backend.deploy(Release("1", str(champion.run_id), release("1").path))
        registry.promote(champion, "the first one", {})
        send(made.backend, draw(schema, reference, 300, seed=1, drift=False), connections=2)
        make_version(reference=reference)
        yield made
    finally:
        launcher.stop(made.backend.folder)


def press_ctrl_c(words, environment, when, delay) -> tuple[int, str]:
    """Run a recipe in a session of its own, and interrupt it some time after it printed `when`.

    Returns:
        The exit code, and what was printed after that.
    """
    with subprocess.Popen(
        [ROOT / "justw", *words],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            before = []
            for line in process.stdout:
                before.append(line)
                if re.search(when, line):
                    break
            else:
                raise AssertionError("".join(before))
            time.sleep(delay)
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)
            rest, _ = process.communicate(timeout=90)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, rest


def running(variable: str, value: str) -> Iterator[list[str]]:
    """Find the commands of processes that were given a variable, but for the server's."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value and "gunicorn" not in process.cmdline():
                yield process.cmdline()
        except psutil.Error:
            continue


def wait_until_nothing_runs(variable: str, value: str) -> None:
    deadline = time.monotonic() + SECONDS
    while found := list(running(variable, value)):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def interrupt(shop, words, *, when=STARTS, delay=WORKING) -> None:
    """Interrupt a recipe of the workshop, and check what holds after each of them."""
    code, said = press_ctrl_c(words, shop.environment, when, delay)
    assert code == EXIT_CODE, said
    assert "Traceback" not in said
    _, found, after = said.partition("interrupted")
    assert found, said
    assert after.strip().count("\n") < FEW_LINES, said
    wait_until_nothing_runs("ROOKERY_STATE", str(shop.folder))

    client = mlflow.MlflowClient(shop.tracking_uri)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED", "KILLED"}
    assert len(client.search_model_versions("name='penguins'")) == 2
    served = requests.get(f"{shop.backend.settings.target}/version", timeout=10).json()
    assert str(registry.champion("penguins").version) == served["model_version"]


@pytest.mark.parametrize(("when", "delay"), [(STARTS, 1), (r"/fit/2 .*Task is starting", 6)])
def test_train(shop, when, delay):
    interrupt(shop, ["train"], when=when, delay=delay)


def test_deploy(shop):
    interrupt(shop, ["deploy"])


def test_traffic(shop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    words = ["traffic", "--samples", "1000000", "--truth", str(folder / "truth.csv")]
    interrupt(shop, words)
    assert list(folder.iterdir()) == []


def test_monitor(shop):
    interrupt(shop, ["monitor"])
    reports = Path(shop.folder) / "reports"
    assert all((folder / "verdict.json").exists() for folder in reports.glob("*"))


def test_demo(tmp_path):
    for name in ("config", "data", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    variables = {"ROOKERY_ROOT": str(tmp_path)}
    code, said = press_ctrl_c(["demo"], variables, "The whole loop in", 12)
    assert code == EXIT_CODE, said
    assert "interrupted" in said
    assert "Traceback" not in said
    wait_until_nothing_runs("ROOKERY_ROOT", str(tmp_path))
