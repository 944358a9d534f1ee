"""Ctrl-C: one line instead of a stack trace, and nothing left half done."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

logger = logging.getLogger("rookery")

# What a shell makes of a command that ended by Ctrl-C.
EXIT_CODE = 128 + signal.SIGINT


def hide_trace(
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
    others: Callable[..., object] = sys.excepthook,
) -> None:
    """Say in a word that a command was interrupted where nothing else has, such as at an import."""
    if issubclass(kind, KeyboardInterrupt) and os.environ.get("ROOKERY_TRACE") != "1":
        tell("interrupted")
    else:
        others(kind, error, trace)


def tell(text: str) -> None:
    """Write a line to standard error, from a signal's handler too: those must not use `print`."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


@contextmanager
def finishing(what: str) -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block, which must not be left half done; not a second one.

    Args:
        what: What is true after the block, for the line that says what has become of it.

    Raises:
        KeyboardInterrupt: After the block, if Ctrl-C was pressed meanwhile.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    pressed = False

    def wait(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's signature
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        logger.warning("interrupted, but %s", what)
        raise KeyboardInterrupt
