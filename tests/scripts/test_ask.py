"""What costs money asks first: at a terminal, without one, and with --yes."""

import os
import pty
import subprocess
import sys

import pytest

from common import ROOT

WORDS = [sys.executable, str(ROOT / "src" / "scripts" / "ask.py"), "deploys"]
COMMAND = ["-c", "import sys; print('done', *sys.argv[1:])", "a b"]


@pytest.mark.parametrize(
    ("answer", "done"),
    # the last is Ctrl-D
    [("y", True), ("yes", True), ("n", False), ("", False), ("\x04", False)],
)
def test_asks_at_a_terminal(answer, done):
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    asked = subprocess.run(
        [*WORDS, *COMMAND], stdin=theirs, capture_output=True, text=True, check=False
    )
    os.close(ours)
    os.close(theirs)
    assert asked.stdout.startswith("deploys\nGo on? [y/N] ")
    assert ("done a b" in asked.stdout) is done
    assert asked.returncode == (0 if done else 1)
    assert asked.stderr == ("" if done else "error: nothing was done\n")


def test_does_not_ask_where_it_is_told_yes():
    done = subprocess.run(
        [*WORDS, *COMMAND, "--yes"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "deploys\ndone a b\n")


def test_refuses_where_nobody_can_be_asked():
    done = subprocess.run(
        [*WORDS, *COMMAND], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "deploys\n")
    assert done.stderr == "error: nobody is there to ask; --yes does it without asking\n"


def test_exit_code_is_the_commands():
    words = [*WORDS, "-c", "raise SystemExit(2)", "--yes"]
    assert subprocess.run(words, capture_output=True, check=False).returncode == 2


def test_who_wants_help_is_not_asked_and_nothing_is_uploaded():
    shows = "import sys; print(sys.argv[1:])"
    words = [*WORDS[:2], "deploys", "src/scripts/upload.py", "-c", shows, "run", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['run', '--help']\n"


@pytest.mark.integration
@pytest.mark.parametrize("words", ["run", "step-functions create"])
def test_help_asks_for_no_variable_and_no_shared_store(words):
    flow = ["src/pipelines/deployment.py", "--config", "project", "config/sagemaker.yml"]
    none = dict.fromkeys(("AWS_REGION", "BUCKET", "SAGEMAKER_ROLE", "SERVING_IMAGE"), "")
    done = subprocess.run(
        [*WORDS[:2], "deploys", *flow, *words.split(), "--help"],
        cwd=ROOT,
        env=os.environ | none,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: deployment.py" in done.stdout
