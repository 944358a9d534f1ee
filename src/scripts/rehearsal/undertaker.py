"""Outlives the local AWS by a moment: ends what it started, and removes its temporary folders.

It runs as a process of its own and needs nothing but the standard library. The local AWS writes
`+GROUP` and `-GROUP` for process groups that begin and end; however it dies, its end of the pipe
is closed then.
"""

import os
import shutil
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Wait for the end of standard input, and clear up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for folder in sys.argv[1:]:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
