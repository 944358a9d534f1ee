"""The HTTP service: what a worker serves, how it follows deploys, and its endpoints."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Self

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from inference import metrics, wire
from inference.capture import Recorder
from inference.errors import RookeryError, UnavailableError
from inference.invocations import Invocations, Live
from inference.journal import Journal
from inference.limits import TOKEN_VARIABLE, Limits
from inference.live import LiveFolder, Pointer, Report
from inference.openapi import describe
from inference.predictor import Predictor

logger = logging.getLogger("rookery.server")

SETTINGS_VARIABLE = "ROOKERY_SERVER"
WATCH_SECONDS = 0.05
RETRY_SECONDS = 5.0


class ServerSettings(Limits):
    """What a worker needs to know; it reaches the workers as JSON in $ROOKERY_SERVER.

    Attributes:
        folder: The `LiveFolder` whose pointer the workers follow.
        database: Where answered rows are captured; None on SageMaker, which captures by itself.
    """

    folder: Path
    database: Path | None

    @classmethod
    def from_environment(cls) -> Self:
        """Read what the launcher hands over."""
        return cls.model_validate_json(os.environ[SETTINGS_VARIABLE])


def load_live(folder: LiveFolder, pointer: Pointer) -> Live:
    """Load the version that the pointer names, and let it answer once."""
    predictor = Predictor.load(folder.model(pointer.version))
    predictor.try_out()
    return Live(pointer, predictor)


class Service:
    """One worker: the live model, its capture, and the endpoints that tell of them."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.folder = LiveFolder(settings.folder)
        self.recorder = (
            Recorder(settings.database, settings.capture_sync, settings.retention_days)
            if settings.database
            else None
        )
        self.live: Live | None = None
        self._generation = 0

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
            if self.recorder:
                self.recorder.close()
            self.folder.withdraw(os.getpid())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._follow()
                if self.recorder:
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

    def require_live(self) -> Live:
        """Return what is live.

        Raises:
            UnavailableError: Nothing is.
        """
        if not self.live:
            raise UnavailableError("no model is loaded yet")
        return self.live

    async def ping(self, _: Request) -> Response:
        """Answer 200 where a model is loaded, 503 where none is."""
        return Response(b"\n", 200 if self.live else 503, media_type=wire.JSON)

    async def version(self, _: Request) -> Response:
        """Say what is live."""
        return json_response(identity(self.require_live()))

    async def metrics(self, _: Request) -> Response:
        """Give the counts of all workers to Prometheus."""
        model = identity(self.live) if self.live else {}

        def collect() -> bytes:
            waiting = self.recorder.waiting if self.recorder else 0
            return metrics.exposition(metrics.Present(model, waiting))

        return Response(await asyncio.to_thread(collect), media_type=metrics.CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """Describe the service for the live model."""
        live = self.require_live()
        protected = bool(os.environ.get(TOKEN_VARIABLE))
        return json_response(
            describe(
                live.predictor.schema,
                live.pointer.version,
                self.settings.max_rows,
                protected=protected,
            )
        )


def identity(live: Live) -> dict[str, str]:
    """Return what is live, in words."""
    return {
        "model_version": live.pointer.version,
        "run_id": live.pointer.run_id,
        "engine": live.predictor.engine.name,
        "schema_hash": live.predictor.schema.hash,
    }


def json_response(content: object, status: int = 200) -> Response:
    """Return content as a JSON response."""
    return Response(orjson.dumps(content), status, media_type=wire.JSON)


def refused(_: Request, error: Exception) -> Response:
    """Answer with an error of this project."""
    assert isinstance(error, RookeryError)  # noqa: S101 - the only kind this is registered for
    return json_response(error.answer(), error.status)


def misdirected(_: Request, error: Exception) -> Response:
    """Answer a request to an address or with a method that there is not."""
    assert isinstance(error, HTTPException)  # noqa: S101 - the only kind this is registered for
    code = HTTPStatus(error.status_code).name.lower()
    message = f"{error.detail}; ask POST /invocations, or see GET /openapi.json"
    response = json_response({"error": {"code": code, "message": message}}, error.status_code)
    response.headers.update(error.headers or {})
    return response


def failed(_: Request, error: Exception) -> Response:  # noqa: ARG001 - it goes to the log, not out
    """Answer a request that went wrong here."""
    return json_response(RookeryError("the service failed; its log says why").answer(), 500)


def create_app() -> ASGIApp:
    """Make a worker's application from $ROOKERY_SERVER."""
    settings = ServerSettings.from_environment()
    service = Service(settings)
    counts = metrics.Metrics()
    routes = [
        Route(
            "/invocations",
            Invocations(settings, lambda: service.live, service.recorder, counts),
            methods=["POST"],
        ),
        Route("/ping", service.ping),
        # MLflow's other name for it
        Route("/health", service.ping),
        Route("/version", service.version),
        Route("/metrics", service.metrics),
        Route("/openapi.json", service.openapi),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={
            RookeryError: refused,
            HTTPException: misdirected,
            Exception: failed,
        },
        lifespan=service.lifespan,
    )
    return Journal(app, counts, frozenset(route.path for route in routes))
