"""Processes that end with the local AWS, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from scripts.rehearsal import undertaker

# what a process may know of this machine; nothing of anyone's accounts
INHERITED = ("LANG", "LC_ALL", "PATH", "TZ", "UV_SYSTEM_CERTS")


class Processes:
    """Starts processes in groups of their own, and ends them all.

    Attributes:
        folder: Temporary folder for their files; it is removed with them.
    """

    def __init__(self, *others: Path) -> None:
        """Make the folder.

        Args:
            others: Folders that are to be removed with it.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="rookery-rehearsal-"))
        self._lock = threading.Lock()
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._closed = False
        self._undertaker = subprocess.Popen(  # noqa: S603 - a file of this project
            [sys.executable, "-I", "-S", undertaker.__file__, self.folder, *others],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a command in a group of its own, with its output appended to a log file.

        Args:
            command: Words of the command.
            folder: Where it runs; also its HOME and its TMPDIR, so that it leaves nothing behind.
            environment: Its variables beyond those.
            log: File for stdout and stderr.

        Raises:
            OSError: It cannot be started, or everything is being ended.
        """
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        variables |= {"HOME": str(folder), "TMPDIR": str(folder / "tmp"), **environment}
        with self._lock, log.open("ab") as output:
            if self._closed:
                raise InterruptedError("the local AWS is being stopped")
            process = subprocess.Popen(  # noqa: S603 - what a job or container is made of
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running[process.pid] = process
            self._tell(f"+{process.pid}")
        return process

    def stop(self, process: subprocess.Popen[bytes], grace: float = 10) -> int:
        """End a process and its group: politely first, by force after `grace` seconds.

        Returns:
            Its exit code, negative for a signal.
        """
        if process.poll() is None:
            signal_group(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        signal_group(process.pid, signal.SIGKILL)
        code = process.wait()
        with self._lock:
            if self._running.pop(process.pid, None):
                self._tell(f"-{process.pid}")
        return code

    def close(self) -> None:
        """End everything, and remove the folder."""
        with self._lock:
            self._closed = True
            running = list(self._running.values())
        for process in running:
            signal_group(process.pid, signal.SIGTERM)
        for process in running:
            self.stop(process, grace=5)
        assert self._undertaker.stdin  # noqa: S101 - it was made with a pipe
        self._undertaker.stdin.close()
        self._undertaker.wait()

    def _tell(self, line: str) -> None:
        assert self._undertaker.stdin  # noqa: S101 - it was made with a pipe
        self._undertaker.stdin.write(line + "\n")
        self._undertaker.stdin.flush()


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to what is left of a process group."""
    with suppress(ProcessLookupError):
        os.killpg(group, number)
