"""The gunicorn worker that runs the service, and how it reads HTTP."""

import asyncio
import os
import resource
import signal
from types import FrameType
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker

from inference.errors import MalformedRequestError
from inference.server import ServerSettings

MAX_HEADER_BYTES = 65_536
MAX_PIPELINED = 100
BODY_HEADERS = {b"content-length", b"transfer-encoding"}


class Protocol(HttpToolsProtocol):
    """HTTP as uvicorn reads it, but not for as long and as much as the client likes.

    A connection is cut when its client takes longer than the service's timeout to send a whole
    request, or to take an answer, when the headers, or what follows a body's last byte, are larger
    than 64 KiB, and when more than 100 requests wait for the answer to the one before. While the
    service itself waits for a request's body, its own timeout holds, and the client gets an answer.
    """

    timeout: ClassVar[float]
    _partial = True
    _header_bytes = 0
    _without_body = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] - uvicorn's
        """Wait for the first request."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._disarm()

    def data_received(self, data: bytes) -> None:
        """Read a part of the stream."""
        self._without_body = True
        super().data_received(data)
        if self._partial and self._without_body:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self.send_400_response(f"the headers are larger than {MAX_HEADER_BYTES} bytes")
        if self._partial and not self._timer:
            self._arm()

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        if len(self.pipeline) > MAX_PIPELINED:
            self.transport.abort()
            # the parser would go on to the end of what was received
            raise ConnectionAbortedError
        super().on_message_begin()
        self._partial = True
        self._header_bytes = 0

    def on_headers_complete(self) -> None:
        """Refuse a request whose body would not be read."""
        upgrade = self.parser and self.parser.should_upgrade()
        if upgrade and BODY_HEADERS & {name for name, _ in self.headers}:
            # the parser leaves the body unread, and would take it for the next request
            self.send_400_response("no other protocol is spoken here; send this without Upgrade")
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; what comes after it is counted from here."""
        super().on_body(body)
        self._without_body = False
        self._header_bytes = 0

    def on_message_complete(self) -> None:
        """Note that a request is here."""
        super().on_message_complete()
        self._partial = False
        self._disarm()

    def pause_writing(self) -> None:
        """Wait until the client takes more of its answer."""
        super().pause_writing()
        self._arm()

    def resume_writing(self) -> None:
        """Go on with the answer."""
        super().resume_writing()
        self._disarm()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP in the form of all errors."""
        body = orjson.dumps(MalformedRequestError(msg).answer())
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _arm(self) -> None:
        self._disarm()
        self._timer = self.loop.call_later(self.timeout, self._cut)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self._timer = None
        answering = self.cycle and not self.cycle.response_complete
        if answering and not self.flow.write_paused:
            # the service's own timeout is at work
            self._arm()
        else:
            self.transport.abort()


class Worker(UvicornWorker):
    """A uvicorn worker that also follows a quick stop, and ends with its master.

    gunicorn stops its workers with SIGQUIT when its master alone gets SIGINT; uvicorn's worker
    notes that and goes on, until gunicorn kills it half a minute later. Of a killed master it
    takes no note at all, and would hold the port for ever.
    """

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "timeout_notify": 1,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gunicorn's
        super().__init__(*args, **kwargs)
        Protocol.timeout = ServerSettings.from_environment().timeout

    def init_process(self) -> None:
        """Take as many connections as this process may; the usual limit is a thousand."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        super().init_process()

    async def callback_notify(self) -> None:
        """Tell the master that this worker lives, once a second; end if there is no master."""
        await super().callback_notify()
        if os.getppid() != self.ppid:
            self.handle_exit(signal.SIGTERM, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - gunicorn's
        """Finish what is in flight, then end."""
        signal.raise_signal(signal.SIGTERM)
