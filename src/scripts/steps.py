"""What the demo and the rehearsal share: a project's command as a step, with its log."""

import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from common import ROOT
from common.progress import progress
from inference.errors import BackendError
from scripts.command_line import stop_all

LOG_TAIL = 15

console = Console()


def run_step(
    title: str,
    words: list[str],
    environment: Mapping[str, str],
    logs: Path,
) -> str:
    """Run a command of the project from its root, with its output in a log file.

    Args:
        title: What the step is called; also its log file.
        words: The command.
        environment: All its variables.
        logs: Folder of the log file.

    Returns:
        What the command printed.

    Raises:
        BackendError: The command failed; the message holds the end of its log.
    """
    log = logs / f"{title.replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with progress(title), log.open("w+", encoding="utf-8") as output:
        process = subprocess.Popen(  # noqa: S603 - commands of this project
            words,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            # a recipe's commands have commands of their own
            stop_all(process)
            raise
        output.seek(0)
        text = output.read()
    took = time.monotonic() - began
    if code:
        tail = "\n".join(text.rstrip().split("\n")[-LOG_TAIL:])
        raise BackendError(f"{title} failed after {took:.0f} s:\n{tail}\n(all in {log})")
    console.print(f"[green]✓[/] {title} [dim]{took:.0f} s[/]")
    return text


def python(*words: str) -> list[str]:
    """Return the command of a script of this project."""
    return [sys.executable, *words]


def free_port() -> int:
    """Return a port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
