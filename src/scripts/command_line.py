"""What the scripts share: their settings, errors in one line, and an end by Ctrl-C."""

import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from common import settings
from common.interruption import EXIT_CODE
from inference.errors import ConfigurationError, RookeryError
from inference.local import Local

CONFIG_HELP = "Config file of the project."
# A command that is told to stop gets this long to do so.
STOP_SECONDS = 20.0


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error of this project, or of a file, into one line on stderr and exit code 1.

    Ctrl-C becomes a line and exit code 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(EXIT_CODE) from None
    except (RookeryError, OSError) as error:
        if os.environ.get("ROOKERY_TRACE") == "1":
            traceback.print_exc()
        more = "" if isinstance(error, RookeryError) else "; `just doctor` may know more"
        fail(f"{error}{more}")


def show_progress() -> None:
    """Let what this project logs be seen on stderr, and not what libraries log."""
    own = logging.getLogger("rookery")
    own.addHandler(logging.StreamHandler(Stderr()))
    own.setLevel(logging.INFO)


class Stderr:
    """Whatever standard error is by then: a bar that is shown there takes its place."""

    def write(self, text: str) -> int:
        """Write a text there."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Write out what waits."""
        sys.stderr.flush()


def stop_all(process: "subprocess.Popen[Any]") -> None:
    """End a command that leads a session of its own, with all that it has started there."""
    # who loses patience meanwhile would leave some behind
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


def fail(message: str) -> NoReturn:
    """Say why, and end with exit code 1."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)


def local_backend(config: Path) -> tuple[settings.Settings, Local]:
    """Read a config file whose backend must be Local.

    Raises:
        ConfigurationError: It is another one.
    """
    loaded = settings.load(config)
    backend = loaded.create_backend()
    if not isinstance(backend, Local):
        raise ConfigurationError(
            f"{config}: this command needs backend.Local, not {loaded.backend['module']}"
        )
    return loaded, backend
