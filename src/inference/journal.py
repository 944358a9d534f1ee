"""What every request leaves behind: an id in its answer, a line in the access log, and a count."""

import re
import time
import uuid

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.logs import AccessLog
from inference.metrics import Metrics

REQUEST_ID = re.compile(rb"[\w.:-]{1,64}", re.ASCII)
# A client that leaves before its answer gets none; this is how nginx logs it.
CLIENT_LEFT = 499


class Journal:
    """ASGI middleware around the whole service.

    Attributes:
        app: What answers. It finds the request's id in `scope["state"]`.
        paths: The service's own; any other counts as "other".
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app = app
        self.paths = paths
        self._metrics = metrics
        self._log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and write down how that went."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = identify(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status = CLIENT_LEFT

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if scope["path"] in self.paths else "other"
            self._metrics.answered(path, status, seconds)
            self._log.write(scope, request_id, status, seconds)


def identify(scope: Scope) -> str:
    """Return the id that the client gave its request, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if REQUEST_ID.fullmatch(value) else uuid.uuid4().hex
    return uuid.uuid4().hex
