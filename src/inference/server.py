"""The HTTP service: validate, predict, capture, and only then answer."""

import asyncio
import logging
import os
import re
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import orjson
from pydantic import Field
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from inference import wire
from inference.backend import Captured
from inference.capture import Recorder
from inference.errors import (
    RookeryError,
    TooLargeError,
    UnavailableError,
    UnsupportedFormatError,
)
from inference.live import LiveFolder, Pointer, Report
from inference.predictor import Predictor
from inference.schema import Strict

logger = logging.getLogger("rookery.server")

SETTINGS_VARIABLE = "ROOKERY_SERVER"
WATCH_SECONDS = 0.05
RETRY_SECONDS = 5.0
REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
# Larger requests are predicted in a thread, so that small ones need not wait for them.
ROWS_IN_LOOP = 200


class ServerSettings(Strict):
    """What a worker needs to know; it reaches the workers as JSON in $ROOKERY_SERVER.

    Attributes:
        folder: The `LiveFolder` whose pointer the workers follow.
        database: Where answered rows are captured.
        capture_sync: normal survives the death of any process, full also a power cut.
        max_bytes: Largest request body.
        max_rows: Most rows in a request.
        timeout: Seconds a client may take to send its request.
    """

    folder: Path
    database: Path
    capture_sync: Literal["normal", "full"] = "normal"
    max_bytes: int = Field(default=5_000_000, gt=0)
    max_rows: int = Field(default=10_000, gt=0)
    timeout: float = Field(default=30.0, gt=0)


@dataclass(frozen=True, slots=True)
class Live:
    """What a worker serves now; replaced as a whole by a swap."""

    pointer: Pointer
    predictor: Predictor


def load_live(folder: LiveFolder, pointer: Pointer) -> Live:
    """Load the version that the pointer names, and let it answer once."""
    predictor = Predictor.load(folder.model(pointer.version))
    predictor.try_out()
    return Live(pointer, predictor)


class Service:
    """One worker: the live model, its capture, and the requests that wait for a commit."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.folder = LiveFolder(settings.folder)
        self.recorder = Recorder(settings.database, settings.capture_sync)
        self.live: Live | None = None
        self._generation = 0
        self._master = os.getppid()
        self._pending: list[tuple[list[Captured], asyncio.Future[None]]] = []

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Follow the pointer from start to end of the worker."""
        await self._follow()
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            self.recorder.close()
            self.folder.withdraw(os.getpid())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if os.getppid() != self._master:
                # killed, and nobody else would stop this worker, which holds the port
                os.kill(os.getpid(), signal.SIGTERM)
                return
            try:
                await self._follow()
                self.recorder.tick()
            except Exception:  # the watch must outlive anything, or no deploy reaches this worker
                logger.exception("watching for a new version failed; trying again")
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        """Load what the pointer names beside the live model, swap, and report."""
        pointer = self.folder.pointer()
        if pointer is None or pointer.generation == self._generation:
            return
        self._generation = pointer.generation
        error = None
        try:
            self.live = await asyncio.to_thread(load_live, self.folder, pointer)
            logger.info("serving version %s", pointer.version)
        except RookeryError as reason:
            error = str(reason)
            logger.exception("version %s does not load", pointer.version)
        self.folder.report(Report(os.getpid(), pointer.generation, pointer.version, error))

    async def ping(self, _: Request) -> Response:
        """Answer 200 where a model is loaded, 503 where none is."""
        return Response(b"\n", 200 if self.live else 503, media_type=wire.JSON)

    async def version(self, _: Request) -> Response:
        """Say what is live."""
        if not self.live:
            return failure(UnavailableError("no model is loaded yet"), "")
        pointer, predictor = self.live.pointer, self.live.predictor
        return json_response(
            {
                "model_version": pointer.version,
                "run_id": pointer.run_id,
                "engine": predictor.engine.name,
                "schema_hash": predictor.schema.hash,
            }
        )

    async def invocations(self, request: Request) -> Response:
        """Answer one request for predictions."""
        given = request.headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        try:
            return await self._predict(request, request_id)
        except RookeryError as error:
            return failure(error, request_id)
        except ClientDisconnect:
            raise
        except Exception:  # the client hears of it too, but not what it was
            logger.exception("request %s failed", request_id)
            return failure(RookeryError("the service failed; its log says why"), request_id)

    async def _predict(self, request: Request, request_id: str) -> Response:
        body = await self._body(request)
        live = self.live
        if not live:
            raise UnavailableError("no model is loaded yet")
        records = wire.parse(
            body,
            request.headers.get("content-type", ""),
            live.predictor.schema,
            self.settings.max_rows,
        )
        if len(records) <= ROWS_IN_LOOP:
            rows, answer = predict(live, records, request_id)
        else:
            rows, answer = await asyncio.to_thread(predict, live, records, request_id)
        await self._captured(rows)
        return Response(
            answer,
            media_type=wire.JSON,
            headers={"x-request-id": request_id, "x-model-version": live.pointer.version},
        )

    async def _body(self, request: Request) -> bytes:
        limit = self.settings.max_bytes
        if int(request.headers.get("content-length", 0)) > limit:
            raise TooLargeError(f"the body is larger than {limit} bytes")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedFormatError("compressed bodies are not read")
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.timeout):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise TooLargeError(f"the body is larger than {limit} bytes")
        except TimeoutError as error:
            raise UnavailableError(
                f"the request was not sent within {self.settings.timeout:g} s"
            ) from error
        return bytes(body)

    async def _captured(self, rows: list[Captured]) -> None:
        """Return once the rows are durable; requests that come together share one commit."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._pending.append((rows, done))
        if len(self._pending) == 1:
            loop.call_soon(self._commit)
        await done

    def _commit(self) -> None:
        batch, self._pending = self._pending, []
        waiting = [done for _, done in batch if not done.done()]
        try:
            self.recorder.save([row for rows, _ in batch for row in rows])
        except Exception as error:  # noqa: BLE001 - every waiting request must hear of it
            for done in waiting:
                done.set_exception(error)
        else:
            for done in waiting:
                done.set_result(None)


def predict(live: Live, records: wire.Records, request_id: str) -> tuple[list[Captured], bytes]:
    """Check and predict records; return the rows to capture and the body to answer."""
    checked = live.predictor.check(records)
    predictions = live.predictor.predict(checked)
    rows = Captured.from_answer(request_id, live.pointer.version, checked, predictions)
    return rows, orjson.dumps({"predictions": predictions})


def json_response(content: object, status: int = 200) -> Response:
    """Return content as a JSON response."""
    return Response(orjson.dumps(content), status, media_type=wire.JSON)


def failure(error: RookeryError, request_id: str) -> Response:
    """Return an error as a JSON response."""
    response = json_response(error.answer(), error.status)
    response.headers["x-request-id"] = request_id
    return response


def misdirected(_: Request, error: Exception) -> Response:
    """Answer a request to an address or with a method that there is not."""
    assert isinstance(error, HTTPException)  # noqa: S101 - the only kind this is registered for
    code = HTTPStatus(error.status_code).name.lower()
    message = f"{error.detail}; ask POST /invocations, GET /ping or GET /version"
    response = json_response({"error": {"code": code, "message": message}}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def create_app() -> Starlette:
    """Make a worker's application from $ROOKERY_SERVER."""
    settings = ServerSettings.model_validate_json(os.environ[SETTINGS_VARIABLE])
    service = Service(settings)
    return Starlette(
        routes=[
            Route("/invocations", service.invocations, methods=["POST"]),
            Route("/ping", service.ping),
            Route("/version", service.version),
        ],
        exception_handlers={HTTPException: misdirected},
        lifespan=service.lifespan,
    )
