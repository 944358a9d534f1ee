"""Answering a request for predictions: read, check, predict, capture, and only then answer."""

import asyncio
import hmac
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from inference import wire
from inference.backend import Captured
from inference.capture import Recorder
from inference.errors import (
    SHOWN_PROBLEMS,
    OverloadedError,
    RookeryError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedFormatError,
)
from inference.limits import TOKEN_VARIABLE
from inference.live import Pointer
from inference.metrics import Metrics
from inference.predictor import Predictor

if TYPE_CHECKING:
    from inference.server import ServerSettings

logger = logging.getLogger("rookery.invocations")

# Larger bodies are read and predicted in a thread, so that small requests need not wait for them.
BYTES_IN_LOOP = 32_768
# Rows in one commit: a few milliseconds in which a worker does nothing else.
ROWS_IN_COMMIT = 500
# Bodies of the largest size that a worker holds at a time.
LARGE_BODIES = 20

VERSION_HEADER = b"x-model-version"
# the only header of a container's that SageMaker hands on to the client
SAGEMAKER_HEADER = b"x-amzn-sagemaker-custom-attributes"

Headers = dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Live:
    """What a worker serves now; replaced as a whole by a swap."""

    pointer: Pointer
    predictor: Predictor


class Invocations:
    """The endpoint for predictions: an ASGI application, for nothing may stand in its way."""

    def __init__(
        self,
        settings: "ServerSettings",
        live: Callable[[], Live | None],
        recorder: Recorder | None,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._live = live
        self._metrics = metrics
        self._commits = GroupCommit(recorder, metrics) if recorder else None
        self._token = os.environ.get(TOKEN_VARIABLE, "").encode()
        self._large = ThreadPoolExecutor(1, "large-requests")
        self._waiting = 0
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request_id = scope["state"]["request_id"]
        status, headers = 200, []
        try:
            async with asyncio.timeout(self._settings.timeout):
                version, body = await self._answer(dict(scope["headers"]), receive, request_id)
            headers = [(VERSION_HEADER, version.encode())]
            if not self._commits:
                headers.append((SAGEMAKER_HEADER, b"model_version=" + version.encode()))
        except ClientDisconnect:
            return
        except TimeoutError:
            limit = self._settings.timeout
            error = UnavailableError(f"the request was not sent and answered within {limit:g} s")
            # what is still to come of the request must not be taken for the next one
            status, headers, body = refusal(error, (b"connection", b"close"))
        except RookeryError as error:
            status, headers, body = refusal(error)
        except Exception:  # the client hears of it too, but not what it was
            logger.exception("request %s failed", request_id)
            status, headers, body = refusal(RookeryError("the service failed; its log says why"))
        await respond(send, status, headers, body)

    async def _answer(
        self, headers: Headers, receive: Receive, request_id: str
    ) -> tuple[str, bytes]:
        """Return the version that predicted and the body to answer."""
        self._authorize(headers)
        body = bytearray()
        try:
            await self._read(body, headers, receive)
            live = self._live()
            if not live:
                raise UnavailableError("no model is loaded yet")
            # after the body, so that slow senders take no place from quick ones
            if self._waiting >= self._settings.max_waiting:
                raise OverloadedError(f"{self._waiting} requests wait already; try again later")
            self._waiting += 1
            try:
                content_type = headers.get(b"content-type", b"").decode("latin-1")
                job = (live, bytes(body), content_type, self._settings.max_rows, request_id)
                if len(body) <= BYTES_IN_LOOP:
                    predicted = predict(*job)
                else:
                    loop = asyncio.get_running_loop()
                    predicted = await loop.run_in_executor(self._large, predict, *job)
                if self._commits:
                    await self._commits.save(predicted.rows)
            finally:
                self._waiting -= 1
        finally:
            self._held_bytes -= len(body)
        self._metrics.predicted(len(predicted.rows), predicted.unseen)
        return live.pointer.version, predicted.answer

    def _authorize(self, headers: Headers) -> None:
        if not self._token:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # compared in a time that does not tell how much of it is right
        if not (hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer"):
            raise UnauthorizedError("this service asks for `Authorization: Bearer <token>`")

    async def _read(self, body: bytearray, headers: Headers, receive: Receive) -> None:
        limit = self._settings.max_bytes
        if int(headers.get(b"content-length", 0)) > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedFormatError("compressed bodies are not read")
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            body += chunk
            self._held_bytes += len(chunk)
            if len(body) > limit:
                raise TooLargeError(f"the body is larger than {limit} bytes")
            if self._held_bytes > LARGE_BODIES * limit:
                raise OverloadedError("too many large requests at once; try again later")
            more = message.get("more_body", False)


class GroupCommit:
    """Makes rows durable; requests that come together share one commit.

    The commit is made in the event loop: handing it to a thread takes longer than the commit.
    """

    def __init__(self, recorder: Recorder, metrics: Metrics) -> None:
        self._recorder = recorder
        self._metrics = metrics
        self._pending: list[tuple[Sequence[Captured], asyncio.Future[None]]] = []

    async def save(self, rows: Sequence[Captured]) -> None:
        """Return once the rows are durable."""
        for start in range(0, len(rows), ROWS_IN_COMMIT):
            await self._join(rows[start : start + ROWS_IN_COMMIT])

    def _join(self, rows: Sequence[Captured]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._pending.append((rows, done))
        if len(self._pending) == 1:
            loop.call_soon(self._commit)
        return done

    def _commit(self) -> None:
        batch, self._pending = self._pending, []
        waiting = [done for _, done in batch if not done.done()]
        rows = [row for rows, _ in batch for row in rows]
        try:
            self._recorder.save(rows)
        except Exception as error:  # noqa: BLE001 - every waiting request must hear of it
            for done in waiting:
                done.set_exception(error)
        else:
            self._metrics.captured(len(rows))
            for done in waiting:
                done.set_result(None)


@dataclass(frozen=True, slots=True)
class Predicted:
    """A request's rows to capture, its body to answer, and its unseen categories by feature."""

    rows: list[Captured]
    answer: bytes
    unseen: dict[str, int]


def predict(
    live: Live, body: bytes, content_type: str, max_rows: int, request_id: str
) -> Predicted:
    """Read, check and predict the records of a request; see `wire.parse` for what may be wrong."""
    predictor, schema = live.predictor, live.predictor.schema
    # of what does not fit, no more than the answer shows: small bodies can hold thousands of rows
    records = schema.check_some(wire.parse(body, content_type, schema, max_rows), SHOWN_PROBLEMS)
    predictions = predictor.predict(records)
    return Predicted(
        Captured.from_answer(request_id, live.pointer.version, records, predictions),
        orjson.dumps({"predictions": predictions}),
        schema.count_unseen(records),
    )


Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


def refusal(error: RookeryError, *headers: tuple[bytes, bytes]) -> Answer:
    """Return status, headers and body that tell the client of an error."""
    extra = list(headers)
    if isinstance(error, UnavailableError):
        extra.append((b"retry-after", b"1"))
    if isinstance(error, UnauthorizedError):
        extra.append((b"www-authenticate", b"Bearer"))
    return error.status, extra, orjson.dumps(error.answer())


async def respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a JSON answer."""
    fixed = [
        (b"content-type", wire.JSON.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fixed + headers})
    await send({"type": "http.response.body", "body": body})
