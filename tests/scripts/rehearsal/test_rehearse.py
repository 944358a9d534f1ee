import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from common import ROOT

pytestmark = pytest.mark.integration

# the recipes of the circle, in its order
CIRCLE = [
    "aws-setup",
    "aws-mlflow",
    "train",
    "sagemaker-deploy",
    "sagemaker-sample",
    "sagemaker-traffic",
    "sagemaker-labels",
    "sagemaker-monitor",
    "aws-train",
    "sagemaker-deploy of version 2",
    "sagemaker-rollback",
    "sagemaker-delete",
    "aws-teardown",
]


@pytest.fixture
def script(tmp_path):
    """Return a script of the rehearsal's, and the environment in which it is started."""
    environment = os.environ | {"ROOKERY_STATE": str(tmp_path), "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()

    def command(name: str, *words: str) -> dict:
        return {
            "args": [sys.executable, f"src/scripts/rehearsal/{name}.py", *words],
            "cwd": ROOT,
            # uv's store of packages is this machine's
            "env": environment | {"UV_CACHE_DIR": str(Path.home() / ".cache" / "uv")},
            "stdin": subprocess.DEVNULL,
            "text": True,
        }

    return command


def test_the_whole_circle(script, tmp_path):
    done = subprocess.run(
        **script("rehearse", "all"), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    assert done.returncode == 0, done.stdout
    steps = re.findall(r"^✓ (.+?) \d+ s$", done.stdout, flags=re.MULTILINE)
    assert steps == CIRCLE
    assert "nothing is left in AWS" in done.stdout
    assert re.search(r"none of [3-9] secrets is in \d+ files", done.stdout)
    assert not list((tmp_path / "home").iterdir())


def test_a_recipe_runs_on_the_local_aws_that_is_there(script, free_port, ended):
    port = free_port()
    server = subprocess.Popen(
        **script("serve", "--port", str(port), "--empty"), stdout=subprocess.PIPE
    )
    try:
        said = [server.stdout.readline() for _ in range(3)]
        assert f"http://127.0.0.1:{port}" in said[0]
        assert said[2].startswith("export AWS_")
        running = psutil.Process(server.pid).children(recursive=True)

        done = subprocess.run(
            **script("rehearse", "aws-setup", "somebody", "--yes"),
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

        assert done.returncode == 0, done.stdout
        assert "rookery-123456789012-us-east-1" in done.stdout
        second = subprocess.run(
            **script("serve"), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert second.returncode == 1
        assert "is running already" in second.stdout
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate()
    assert server.returncode == 0
    assert ended(running)


def test_the_exit_code_of_a_recipe_comes_through(script):
    # nobody is there to agree
    done = subprocess.run(
        **script("rehearse", "aws-setup", "somebody"),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    assert done.returncode == 1
    assert "nobody is there to ask" in done.stdout
