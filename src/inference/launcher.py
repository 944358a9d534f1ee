"""Starting and stopping the HTTP service: gunicorn over uvicorn workers on this machine."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlsplit

import psutil
import requests

from inference.errors import BackendError
from inference.live import LiveFolder, find_process, start_of, write_json
from inference.metrics import FOLDER_VARIABLE
from inference.server import SETTINGS_VARIABLE, ServerSettings

START_SECONDS = 30.0
STOP_SECONDS = 35.0
# A larger log is put aside when the server starts, in the place of the one before.
MAX_LOG_BYTES = 100_000_000
# how a traceback ends
ERROR_LINE = re.compile(r"[\w.]+(Error|Exception): ")


def address(target: str) -> tuple[str, int]:
    """Split the service's URL into host and port."""
    parts = urlsplit(target)
    return parts.hostname or "127.0.0.1", parts.port or 80


def command(target: str, workers: int) -> list[str]:
    """Return the command that runs the service."""
    host, port = address(target)
    return [
        sys.executable,
        *("-m", "gunicorn", "inference.server:create_app()"),
        *("--worker-class", "inference.worker.Worker"),
        *("--bind", f"{host}:{port}"),
        *("--workers", str(workers)),
        # clients that keep a connection must not meet one that is just being closed
        *("--keep-alive", "75"),
        *("--graceful-timeout", "30"),
        *("--logger-class", "inference.logs.Logger"),
        # it would stand in the user's home
        "--no-control-socket",
    ]


def environment(settings: ServerSettings) -> Mapping[str, str]:
    """Return the environment in which the service runs, with an empty folder for its counts."""
    counts = settings.folder / "metrics"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    return {
        **os.environ,
        SETTINGS_VARIABLE: settings.model_dump_json(),
        FOLDER_VARIABLE: str(counts.absolute()),
    }


def require_free_port(target: str) -> None:
    """Stop if something listens on the service's address.

    Raises:
        BackendError: The port is in use, or the address is not this machine's.
    """
    host, port = address(target)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BackendError(
                f"{host}:{port} cannot be used ({error.strerror}); stop what listens there"
                " (`just stop` for this project's server), or set ENDPOINT_URL to another port"
            ) from error


def remember(folder: LiveFolder, pid: int, target: str) -> None:
    """Write down which process serves; its start time tells it from a later one with its id."""
    started = start_of(pid)
    write_json(folder.server_file, {"pid": pid, "started": started, "target": target})


def running(folder: LiveFolder) -> psutil.Process | None:
    """Return the service's master process, or None where none runs."""
    try:
        told = json.loads(folder.server_file.read_text(encoding="utf-8"))
        return find_process(told["pid"], told["started"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BackendError(f"{folder.server_file}: damaged ({error}); remove it") from error


def stop(folder: LiveFolder, seconds: float = STOP_SECONDS) -> bool:
    """Stop the service once it has answered what it was asked; False where none runs.

    Args:
        folder: Says which process it is.
        seconds: How long it may take for that.
    """
    process = running(folder)
    if process:
        family = [process, *process.children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(family, timeout=seconds)
        for straggler in alive:
            straggler.kill()
        psutil.wait_procs(alive, timeout=5)
    folder.server_file.unlink(missing_ok=True)
    return process is not None


def require_stopped(folder: LiveFolder) -> None:
    """Stop if the service runs already.

    Raises:
        BackendError: It does.
    """
    process = running(folder)
    if process:
        raise BackendError(
            f"the server runs already (process {process.pid}); `just deploy` puts a new version"
            " into it, `just stop` ends it"
        )


def become_server(
    folder: LiveFolder, settings: ServerSettings, target: str, workers: int
) -> NoReturn:
    """Run the service in the place of this process, so that Ctrl-C reaches it."""
    remember(folder, os.getpid(), target)
    words = command(target, workers)
    os.execve(words[0], words, environment(settings))  # noqa: S606 - our own command


def start(folder: LiveFolder, settings: ServerSettings, target: str, workers: int) -> None:
    """Start the service in the background and return once it answers.

    Raises:
        BackendError: The port is in use, or the service ended before it answered.
    """
    require_free_port(target)
    if folder.log_file.exists() and folder.log_file.stat().st_size > MAX_LOG_BYTES:
        folder.log_file.replace(folder.log_file.with_suffix(".log.1"))
    with folder.log_file.open("ab") as log:
        before = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own command
            command(target, workers),
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        remember(folder, process.pid, target)
        await_answers(folder, process, target, before)
    except BaseException:
        # Ctrl-C does not reach it, and it was asked nothing
        stop(folder, seconds=1)
        raise


def await_answers(
    folder: LiveFolder, process: "subprocess.Popen[bytes]", target: str, log_start: int
) -> None:
    """Return once the service answers.

    Raises:
        BackendError: It ended before it did, or takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BackendError(f"the server ended at once: {last_words(folder, log_start)}")
        if answers(target):
            return
        time.sleep(0.05)
    raise BackendError(
        f"the server did not answer within {START_SECONDS:g} s: {last_words(folder, log_start)}"
    )


def answers(target: str) -> bool:
    """Whether something at the address answers HTTP, be it well or not."""
    with requests.Session() as session:
        # a proxy answers for addresses that do not
        session.trust_env = False
        try:
            session.get(f"{target}/ping", timeout=2)
        except requests.RequestException:
            return False
    return True


def last_words(folder: LiveFolder, start: int = 0) -> str:
    """Return the error, else the line, that the server's log ends with, and where the rest is."""
    text = folder.log_file.read_bytes()[start:].decode(errors="replace")
    lines = [spoken(line.strip()) for line in text.split("\n") if line.strip()]
    # what gunicorn says after it is that a worker failed
    errors = [line for line in lines if ERROR_LINE.match(line)]
    last = next(reversed(errors or lines), "it left no word")
    return f"{last} (all in {folder.log_file})"


def spoken(line: str) -> str:
    """Return what a line of the log says; where it is JSON, its error or else its message."""
    try:
        entry = json.loads(line)
        return entry.get("exception", entry["message"]).splitlines()[-1]
    except (ValueError, TypeError, AttributeError, LookupError):
        return line
