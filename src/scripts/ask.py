"""Run a flow that costs money or deletes, once somebody has agreed to it."""

import os
import sys
from typing import NoReturn

from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors

AGREED, HELP = "--yes", "--help"
UPLOAD = "src/scripts/upload.py"


def agree(what: str, *, agreed: bool) -> None:
    """Say what will be done, and ask unless it was agreed to.

    Raises:
        ConfigurationError: Somebody said no, or nobody is there to ask.
    """
    print(what)
    if agreed:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"nobody is there to ask; {AGREED} does it without asking")
    try:
        answer = input("Go on? [y/N] ")
    except EOFError:
        # Ctrl-D, which leaves the cursor in the line of the question
        print()
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ConfigurationError("nothing was done")


def main(what: str, *words: str) -> NoReturn:
    """Ask, then become Python with these words; who wants help only is not asked."""
    if HELP in words:
        # not what prepares the flow: the flow itself
        words = words[words[0] == UPLOAD :]
        # which `just aws-setup` may not have written yet
        os.environ.pop("METAFLOW_PROFILE", None)
    else:
        with one_line_errors():
            agree(what, agreed=AGREED in words)
    sys.stdout.flush()
    command = [sys.executable, *(word for word in words if word != AGREED)]
    os.execv(command[0], command)  # noqa: S606 - a command of our own


if __name__ == "__main__":
    main(*sys.argv[1:])
