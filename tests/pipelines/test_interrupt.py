"""Ctrl-C, as a terminal sends it, in the middle of each long recipe: nothing is left half done."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import mlflow
import psutil
import pytest
import requests

from common import ROOT
from inference import launcher

pytestmark = pytest.mark.integration

EXIT_CODE = 130
# what ends by itself has gone by then
SECONDS = 15
FEW_LINES = 6


@pytest.fixture(scope="module")
def shop(tmp_path_factory, workshop_class):
    """A workshop of its own, in which version 1 is served."""
    made = workshop_class(tmp_path_factory.mktemp("interrupted"))
    quick = {"folds": 2, "training_epochs": 2, "accuracy_threshold": 0.1}
    for flow, parameters in (("training", quick), ("deployment", {})):
        fine, _, output = made.run(flow, **parameters)
        assert fine, output
    yield made
    launcher.stop(made.backend.folder)


def press_ctrl_c(words, environment, when, delay=0.0):
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
            os.killpg(process.pid, signal.SIGINT)
            rest, _ = process.communicate(timeout=90)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, rest


def left(name: str, value: str) -> list[list[str]]:
    """Return the commands of processes that have a variable of this value, but for the server's."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(name) == value and "gunicorn" not in process.cmdline():
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def wait_until_nothing_runs(name: str, value: str) -> None:
    deadline = time.monotonic() + SECONDS
    while found := left(name, value):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def interrupt(shop, words, when, delay):
    """Interrupt a recipe of the workshop, and check what holds for all of them."""
    variables = {**shop.environment, "METAFLOW_USER": "tester"}
    code, said = press_ctrl_c(words, variables, when, delay)
    assert code == EXIT_CODE, said
    assert "Traceback" not in said
    told = [line for line in said.splitlines() if line.strip() and "Task is starting" not in line]
    assert any("interrupted" in line for line in told), said
    assert len(told) <= FEW_LINES, said
    wait_until_nothing_runs("ROOKERY_STATE", shop.environment["ROOKERY_STATE"])

    client = mlflow.MlflowClient(shop.environment["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED", "KILLED"}
    [version] = client.search_model_versions("name='penguins'")
    assert client.get_registered_model("penguins").aliases == {"champion": version.version}
    answer = requests.get(f"{shop.backend.settings.target}/version", timeout=10).json()
    assert answer["model_version"] == version.version


@pytest.mark.parametrize(("when", "delay"), [("start/1 .*Task is start", 1), ("/fit/2 .*start", 6)])
def test_train(shop, when, delay):
    interrupt(shop, ["train", "--folds", "2"], when, delay)


def test_deploy(shop):
    interrupt(shop, ["deploy"], "start/1 .*Task is starting", 6)


def test_traffic(shop, tmp_path):
    truth = tmp_path / "truth.csv"
    words = ["traffic", "--samples", "1000000", "--truth", str(truth)]
    interrupt(shop, words, "start/1 .*Task is starting", 6)
    assert not truth.exists()
    assert list(tmp_path.iterdir()) == []


def test_monitor(shop):
    interrupt(shop, ["monitor"], "start/1 .*Task is starting", 6)
    reports = Path(shop.environment["ROOKERY_STATE"]) / "reports"
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
