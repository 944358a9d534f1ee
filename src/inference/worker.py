"""The gunicorn worker that runs the service."""

import signal
from types import FrameType

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):
    """A uvicorn worker that also follows a quick stop.

    gunicorn stops its workers with SIGQUIT when its master alone gets SIGINT; uvicorn's worker
    notes that and goes on, until gunicorn kills it half a minute later.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - gunicorn's
        """Finish what is in flight, then end."""
        signal.raise_signal(signal.SIGTERM)
