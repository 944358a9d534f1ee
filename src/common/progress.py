"""How far long work is: a bar at a terminal, or a line in the log now and then."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("rookery")

# Between two lines in a log.
SECONDS = 10.0


@contextmanager
def progress(
    title: str, total: float | None = None, unit: str = ""
) -> Iterator[Callable[[float], None]]:
    """Show on stderr that work is under way, until the block ends.

    Where stderr is no terminal, such as in a flow's task, only work that tells how far it is gets a
    line in the log, every ten seconds.

    Args:
        title: What is done.
        total: How much there is to do; without it, only the time is shown.
        unit: What is counted; percent unless given.

    Yields:
        A function that is told how much is done.
    """
    if sys.stderr.isatty():
        with _bar(title, total, unit) as show:
            yield show
        return
    due = time.monotonic() + SECONDS

    def tell(done: float) -> None:
        nonlocal due
        if total and time.monotonic() >= due:
            due = time.monotonic() + SECONDS
            share = f"{done:,g} of {total:,g} {unit}" if unit else f"{done / total:.0%}"
            logger.info("%s: %s", title, share)

    yield tell


@contextmanager
def _bar(title: str, total: float | None, unit: str) -> Iterator[Callable[[float], None]]:
    from rich.console import Console  # noqa: PLC0415 - tasks have no terminal
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False)]
    if total:
        share = MofNCompleteColumn() if unit else TaskProgressColumn()
        columns += [BarColumn(), share, TextColumn(unit), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # a file is no place for what is above the bar
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
