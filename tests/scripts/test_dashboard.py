"""The dashboard: Evidently's own UI over the workspace, on this machine alone."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import requests

from common import ROOT
from common.monitoring import workspace
from inference.errors import ConfigurationError
from scripts import dashboard

SCRIPT = str(ROOT / "src" / "scripts" / "dashboard.py")
CHECK = {"name": "accuracy", "figure": 0.9, "limit": 0.8, "verdict": "pass", "column": None}
OUTCOME = {
    "project": "penguins",
    "version": "1",
    "verdict": "pass",
    "checks": [{**CHECK, "sentence": "accuracy 0.9"}],
}


def test_given_no_run_then_it_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no monitoring run .* run `just monitor`"):
        dashboard.require_runs(tmp_path / "evidently")


@pytest.mark.integration
def test_a_run_is_shown_until_ctrl_c(tmp_path, free_port):
    workspace.add(tmp_path / "evidently", "1", OUTCOME, {})
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "--port", str(port)],
        env={**os.environ, "ROOKERY_STATE": str(tmp_path)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_it_answers(f"{url}/api/version", process)
        [project] = requests.get(f"{url}/api/projects", timeout=30).json()
        assert project["name"] == "penguins"
        runs = requests.get(f"{url}/api/projects/{project['id']}/reports", timeout=30).json()
        assert [run["name"] for run in runs] == ["checks of run 1"]
        listening = {
            connection.laddr.ip
            for connection in psutil.Process(process.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}

        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert f"on {url} (Ctrl-C ends it)" in output
    assert "Traceback" not in output


@pytest.mark.integration
def test_given_a_port_in_use_then_one_line_names_the_option(tmp_path):
    workspace.add(tmp_path / "evidently", "1", OUTCOME, {})

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, SCRIPT, "--port", str(taken.getsockname()[1])],
            env={**os.environ, "ROOKERY_STATE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot listen on 127.0.0.1:")
    assert "--port" in done.stderr


def wait_until_it_answers(url: str, process: subprocess.Popen) -> None:
    """Wait for a server that starts."""
    deadline = time.monotonic() + 120
    while True:
        try:
            requests.get(url, timeout=5).raise_for_status()
        except requests.RequestException:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)
        else:
            return
