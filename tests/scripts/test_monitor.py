"""How monitoring ends, what it prints for machines, and how it is stopped."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from common import ROOT
from common.settings import DEFAULT_CONFIG
from inference.errors import ConfigurationError
from scripts import monitor

SCRIPT = str(ROOT / "src" / "scripts" / "monitor.py")


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """An environment in which nothing was ever trained."""
    return {
        **os.environ,
        "ROOKERY_STATE": str(tmp_path),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path),
        "METAFLOW_CARD_LOCALROOT": str(tmp_path),
    }


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600), ("0.5s", 0.5), ("1.5h", 5400)]
)
def test_interval(text, seconds):
    assert monitor.parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "0s", "-1m", "1d", "15 m", "nan", "1e9s"])
def test_an_interval_that_is_none_is_told_in_one_line(text):
    with pytest.raises(ConfigurationError, match=r"^--watch: expected .* 15m .*, not .*$"):
        monitor.parse_interval(text)


def test_words_that_every_flow_has_go_to_all_of_them():
    words = ["--samples", "10", "--backend", "backend.Local", "--dataset=x.csv", "--with", "retry"]
    assert monitor.shared_words(words) == ["--backend", "backend.Local", "--dataset=x.csv"]


def test_json_is_one_line_and_valid_whatever_the_figures_are():
    text = monitor.encode({"figure": math.nan, "limit": math.inf, "sentence": "é\n</script>"})
    assert text.count(b"\n") == 1
    assert json.loads(text) == {"figure": None, "limit": None, "sentence": "é\n</script>"}


def test_given_too_few_labels_then_retraining_says_how_many_are_missing(capsys):
    outcome = {"retraining": {"labels": 150, "needed": 200, "reference_rows": 500}}

    monitor.follow_up(monitor.Flows(DEFAULT_CONFIG, quiet=True), outcome, [], deploy=True)

    assert outcome["retraining"]["missing"] == 50
    assert outcome["retraining"]["version"] is None
    assert outcome["retraining"]["deployed"] is False
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "retraining: 150 rows have labels that no model was trained on, 50 more are needed"
        " (monitoring.retrain_labels)\n"
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--watch", "soon"], "--watch: expected a time such as 30s, 15m or 1h, not 'soon'"),
        (["--watch"], "Option '--watch' requires an argument."),
        (["--json=3"], "Option '--json' does not take a value."),
        (["--deploy"], "--deploy: needs --retrain, which makes the version to deploy"),
    ],
)
def test_wrong_usage_is_one_line_and_not_the_code_of_a_fail(environment, words, complaint):
    done = subprocess.run(
        [sys.executable, SCRIPT, *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"error: {complaint}\n"


@pytest.mark.integration
def test_help_says_what_the_exit_codes_mean(environment):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--help"],
        env={**environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    for word in ("Exits 0", "2 on fail", "--watch", "--json", "--retrain", "--deploy", "--samples"):
        assert word in done.stdout


@pytest.mark.integration
def test_given_no_champion_then_it_exits_1_and_says_nothing_to_machines(environment, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--json", "--samples", "100"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "run `just train`, then `just deploy`" in done.stderr
    assert done.stderr.endswith(
        "error: monitoring could not do its work; what it printed says why\n"
    )


@pytest.mark.integration
def test_given_ctrl_c_then_a_single_run_did_not_do_its_work(environment, tmp_path):
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, SCRIPT], env=environment, cwd=tmp_path, stdout=output, stderr=output
        )
    try:
        wait_for(log, "Task is starting", times=1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert log.read_text().endswith("stopped\n")


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_given_watch_then_a_failed_round_is_not_the_last_and_a_signal_leaves_nothing_behind(
    environment, tmp_path, number
):
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, "--watch", "1s"],
            env=environment,
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    children: list[psutil.Process] = []
    try:
        wait_for(log, "could not do its work", times=1)
        # in the middle of the second round, with a task of the flow at work
        wait_for(log, "Task is starting", times=2)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert children
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert log.read_text().endswith("stopped\n")


def wait_for(log: Path, text: str, times: int) -> None:
    """Wait until a text was logged so many times."""
    deadline = time.monotonic() + 240
    while log.read_text().count(text) < times:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
