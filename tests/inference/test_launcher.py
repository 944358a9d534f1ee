"""Finding, starting and refusing to start the service's process."""

import json
import os
import signal
import socket

import psutil
import pytest

from inference import launcher
from inference.errors import BackendError
from inference.live import LiveFolder


@pytest.fixture
def folder(tmp_path):
    return LiveFolder(tmp_path)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("http://localhost:9", ("localhost", 9)),
        ("http://localhost", ("localhost", 80)),
    ],
)
def test_address(target, expected):
    assert launcher.address(target) == expected


def test_process_is_remembered(folder):
    launcher.remember(folder, os.getpid(), "http://127.0.0.1:8080")
    assert launcher.running(folder).pid == os.getpid()
    with pytest.raises(BackendError, match=rf"runs already \(process {os.getpid()}\)"):
        launcher.require_stopped(folder)


@pytest.mark.parametrize(
    "change",
    [
        # its id belongs to another process now
        {"started": 1e9},
        {"pid": max(psutil.pids()) + 100_000},
    ],
)
def test_process_that_has_ended(folder, change):
    launcher.remember(folder, os.getpid(), "http://127.0.0.1:8080")
    told = json.loads(folder.server_file.read_text())
    folder.server_file.write_text(json.dumps(told | change))
    assert launcher.running(folder) is None
    launcher.require_stopped(folder)
    assert not launcher.stop(folder)
    assert not folder.server_file.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "started": 1}', '{"pid": 1}'])
def test_damaged_file(folder, text):
    folder.server_file.write_text(text)
    with pytest.raises(BackendError, match=r"server\.json: damaged .*; remove it"):
        launcher.running(folder)


def test_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        target = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BackendError, match="Address already in use"):
            launcher.require_free_port(target)
    launcher.require_free_port(target)
    assert not launcher.answers(target)


def test_address_of_another_machine():
    with pytest.raises(BackendError, match=r"192\.0\.2\.1:8080 cannot be used"):
        launcher.require_free_port("http://192.0.2.1:8080")


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", "it left no word"),
        ("a\nb  \n\n", "b"),
        ("\xff", "\N{REPLACEMENT CHARACTER}"),
        ("Traceback:\n  a.py\na.BError: why\n\n[ERROR] a worker failed\n", "a.BError: why"),
    ],
)
def test_last_words(folder, log, expected):
    folder.log_file.write_text("OldError: x\n" + log, encoding="latin-1")
    words = launcher.last_words(folder, start=len("OldError: x\n"))
    assert words == f"{expected} (all in {folder.log_file})"


@pytest.mark.integration
def test_server_that_ends_at_once(local):
    folder = local.folder
    folder.path.mkdir()
    folder.pointer_file.write_text("damaged")
    with pytest.raises(BackendError, match=r"ended at once: .*live\.json: damaged") as caught:
        launcher.start(folder, local.server_settings(), local.settings.target, workers=1)
    assert "\n" not in str(caught.value)
    assert str(folder.log_file) in str(caught.value)
    assert launcher.running(folder) is None
    launcher.require_free_port(local.settings.target)


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_to_the_master_alone_ends_the_whole_server_soon(local, release, number):
    local.deploy(release("1"))
    master = launcher.running(local.folder)
    family = [master, *master.children(recursive=True)]
    master.send_signal(number)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
