"""Around the process that launches a flow's tasks: how Ctrl-C ends them, and colour."""

import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import psutil
from metaflow import Step, current, namespace
from metaflow.system_context import ExecutionPhase, system_context

from common import interruption, tracking
from common.settings import Settings
from inference.errors import RookeryError

logger = logging.getLogger("rookery")

# What this project has logged.
OURS = re.compile(r" rookery(\.\w+)*: ")
# Folder of the temporary files of a run on this machine.
SCRATCH = "ROOKERY_SCRATCH"
# Metaflow gives its tasks five seconds before it kills them.
PATIENCE = 10.0


@contextmanager
def launched(*, keeps_runs: bool) -> Iterator[None]:
    """Run Metaflow's command line in this block.

    Metaflow ends its tasks on Ctrl-C, and tells a dozen lines of it. Here one line is told, what
    the run has left open in MLflow is marked, and the exit code is 130.

    Args:
        keeps_runs: Whether there may be something open in MLflow.
    """
    if os.environ.get("NO_COLOR"):
        # Metaflow goes by the terminal alone
        sys.stdout, sys.stderr = Colourless(sys.stdout), Colourless(sys.stderr)
    ending = Ending(keeps_runs=keeps_runs)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, ending.begin)
    with one_scratch():
        try:
            yield
        finally:
            if ending.began:
                ending.complete()


@contextmanager
def one_scratch() -> Iterator[None]:
    """Let all temporary files of a run's tasks go where its end removes them.

    Metaflow forgets some of a task that is interrupted, and one that is killed leaves its own.
    """
    if os.environ.get(SCRATCH):
        # not by TMPDIR, for a server that a task starts outlives the run
        tempfile.tempdir = os.environ[SCRATCH]
        yield
        return
    with tempfile.TemporaryDirectory(prefix="rookery-", ignore_cleanup_errors=True) as folder:
        os.environ[SCRATCH] = folder
        yield


class Stream:
    """Stands before a stream that text goes to."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - whatever has taken its place
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - see __init__
        """Return what is the stream's own."""
        return getattr(self._stream, name)


class Colourless(Stream):
    """Says that it is no terminal."""

    def isatty(self) -> bool:
        """Return what makes programs leave colours out."""
        return False


class Unheard(Stream):
    """Passes on what this project has logged, and nothing else."""

    def write(self, text: str) -> int:
        """Write a line, or a part of one, if it is ours."""
        if OURS.search(text):
            self._stream.write(text)
        return len(text)


class Ending:
    """The end of a run by Ctrl-C.

    Attributes:
        began: When it was pressed; 0 until then.
    """

    def __init__(self, *, keeps_runs: bool) -> None:
        self.began = 0.0
        self._keeps_runs = keeps_runs
        self._streams = sys.stdout, sys.stderr

    def begin(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        """Interrupt Metaflow; while it ends its tasks, who loses patience would leave some."""
        if system_context.phase not in (None, ExecutionPhase.LAUNCH):
            # a task: the process that launched it tells
            raise KeyboardInterrupt
        now = time.monotonic()
        if not self.began:
            interruption.tell("interrupted: ending what is under way")
            sys.stdout, sys.stderr = map(Unheard, self._streams)
        elif now - self.began < PATIENCE:
            return
        self.began = self.began or now
        raise KeyboardInterrupt

    def complete(self) -> None:
        """End whoever is left, mark what is open in MLflow, and leave with exit code 130."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout, sys.stderr = self._streams
        with suppress(KeyboardInterrupt):
            end(psutil.Process().children(recursive=True))
            flow, run = system_context.flow, current.run_id
            if self._keeps_runs and flow and run:
                mark(flow.name, str(run), flow.settings)
        raise SystemExit(interruption.EXIT_CODE)


def end(processes: Sequence[psutil.Process]) -> None:
    """End processes that had the time to do so by themselves."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


def mark(flow: str, run: str, settings: Settings) -> None:
    """Mark what a run has left open in MLflow as killed, or say why that cannot be done."""
    namespace(None)
    parameters = Step(f"{flow}/{run}/_parameters").task
    if parameters and (given := parameters["mlflow_tracking_uri"].data):
        settings = settings.model_copy(update={"mlflow_tracking_uri": given})
    uri = settings.tracking_uri
    try:
        tracking.require_reachable(uri)
        os.environ["MLFLOW_TRACKING_URI"] = uri
        tracking.mark_killed(flow, run)
    except RookeryError as error:
        interruption.tell(f"MLflow goes on calling run {run} running: {error}")
