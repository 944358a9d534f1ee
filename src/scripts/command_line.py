"""What the scripts share: their settings, and errors in one line."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from common import settings
from inference.errors import ConfigurationError, RookeryError
from inference.local import Local

CONFIG_HELP = "Config file of the project."


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error of this project, or of a file, into one line on stderr and exit code 1."""
    try:
        yield
    except (RookeryError, OSError) as error:
        if os.environ.get("ROOKERY_TRACE") == "1":
            traceback.print_exc()
        more = "" if isinstance(error, RookeryError) else "; `just doctor` may know more"
        fail(f"{error}{more}")


def show_progress() -> None:
    """Let what this project logs be seen on stderr, and not what libraries log."""
    own = logging.getLogger("rookery")
    own.addHandler(logging.StreamHandler())
    own.setLevel(logging.INFO)


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
