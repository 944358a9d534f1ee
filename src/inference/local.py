"""Local: an HTTP server and a SQLite database on this machine."""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator

from inference.answers import message, read_predictions
from inference.backend import Answer, Backend, Captured, Release, Status
from inference.capture import Recorder
from inference.errors import BackendError
from inference.labels import read_label_file, require_one_source
from inference.limits import TOKEN_VARIABLE, Limits
from inference.live import LiveFolder
from inference.predictor import ARTIFACT, Predictor
from inference.schema import Schema
from inference.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from inference.server import ServerSettings

ARTIFACTS = Path("artifacts") / ARTIFACT
FOLLOW_SECONDS = 30.0


class LocalSettings(Limits):
    """The `backend:` section of the config file, for Local.

    Attributes:
        database: SQLite file with what was answered.
        serving: Folder with the served versions and the pointer to the live one.
        target: URL of the service.
        workers: Processes that answer; one a core by default.
    """

    database: Path
    serving: Path
    target: str = "http://127.0.0.1:8080"
    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, gt=0)

    @field_validator("target")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "http" or not parts.hostname or not parts.port:
            msg = f"expected http://HOST:PORT, not {value!r}"
            raise ValueError(msg)
        return value.rstrip("/")


class Local(Backend):
    """Serves, captures and labels on this machine."""

    Settings: ClassVar[type[BaseModel]] = LocalSettings

    def __init__(self, settings: LocalSettings) -> None:
        self.settings = settings
        self.folder = LiveFolder(settings.serving)
        self._recorder: Recorder | None = None
        self._saving = threading.Lock()
        self._threads = threading.local()

    def load(
        self,
        schema: Schema,
        limit: int,
        *,
        since: datetime | None = None,
        labelled: bool | None = None,
    ) -> "pd.DataFrame":
        """Return captured rows, newest first; see `Backend.load`."""
        with self._store() as store:
            return store.load(schema, limit, since=since, labelled=labelled)

    def save(self, rows: Sequence[Captured]) -> None:
        """Store answered rows, or spool them beside the database where it refuses."""
        # MLflow's server predicts in threads
        with self._saving:
            if self._recorder is None:
                limits = self.settings
                self._recorder = Recorder(
                    limits.database, limits.capture_sync, limits.retention_days
                )
            self._recorder.save(rows)
            self._recorder.tick()

    def label(
        self, *, quality: float | None = None, file: Path | None = None, seed: int | None = None
    ) -> int:
        """Attach ground truth to captured rows; see `Backend.label`."""
        require_one_source(quality, file)
        labels = read_label_file(file) if file else []
        with self._store() as store:
            if quality is not None:
                return store.label_simulated(quality, seed)
            return store.label_known(labels)

    def counts(self) -> list[tuple[str, int, int]]:
        """Return (model version, captured rows, labelled rows) for each version."""
        with self._store() as store:
            return store.counts()

    def invoke(self, records: Sequence[Mapping[str, Any]]) -> Answer:
        """Ask the service for predictions; see `Backend.invoke`."""
        import requests  # noqa: PLC0415 - a served model that only captures needs none

        if not hasattr(self._threads, "session"):
            self._threads.session = requests.Session()
            self._threads.session.trust_env = False
        url = f"{self.settings.target}/invocations"
        try:
            body = json.dumps({"dataframe_records": list(records)}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BackendError(f"these records cannot be sent as JSON: {error}") from error
        try:
            response = self._threads.session.post(
                url,
                data=body.encode(),
                headers={"content-type": "application/json"} | credentials(),
                timeout=60,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise BackendError(
                f"{url} does not answer ({reason(error)}); start the server with `just deploy` or"
                " `just serve`"
            ) from error
        if response.status_code != requests.codes.ok:
            raise BackendError(
                f"{url} answered {response.status_code}: {message(response.content)}"
            )
        return Answer(
            read_predictions(response.content, len(records), url),
            response.headers.get("x-model-version", ""),
            response.headers.get("x-request-id", ""),
        )

    def deploy(self, release: Release) -> None:
        """Swap the version into the running server, or start one with it; see `Backend.deploy`."""
        # before anything is touched: a version that cannot answer here never goes live
        source = release.path / ARTIFACTS
        Predictor.load(source).try_out()
        with self.folder.locked():
            self.folder.add_model(release.version, source)
            self._go_live(release.version, release.run_id)
            self.folder.drop_old_models()

    def prepare(self, release: Release | None = None) -> str:
        """Make a version the one that `serve` will serve.

        Args:
            release: The version; without it, the one that was deployed last.

        Returns:
            Its number.

        Raises:
            BackendError: A server runs already, the port is in use, or nothing was deployed.
            ModelError: The version does not load.
        """
        from inference import launcher  # noqa: PLC0415 - see status

        with self.folder.locked():
            launcher.require_stopped(self.folder)
            launcher.require_free_port(self.settings.target)
            if release:
                source = release.path / ARTIFACTS
                Predictor.load(source).try_out()
                self.folder.add_model(release.version, source)
                return self.folder.point(release.version, release.run_id).version
            pointer = self.folder.pointer()
            if not pointer:
                raise BackendError("nothing was deployed here; `just deploy` does it")
            Predictor.load(self.folder.model(pointer.version)).try_out()
            return pointer.version

    def serve(self) -> NoReturn:
        """Serve in the foreground: this process becomes the server."""
        from inference import launcher  # noqa: PLC0415 - see status

        launcher.become_server(
            self.folder, self.server_settings(), self.settings.target, self.settings.workers
        )

    def rollback(self) -> str:
        """Serve the version before this one again; see `Backend.rollback`."""
        with self.folder.locked():
            before = self.folder.pointer()
            if not (before and before.previous):
                raise BackendError("no version was live before this one; nothing to roll back to")
            self._go_live(before.previous, before.previous_run_id or "")
            return before.previous

    def status(self) -> Status:
        """Return what is served now."""
        from inference import launcher  # noqa: PLC0415 - a served model that only captures needs none

        pointer = self.folder.pointer()
        running = launcher.running(self.folder) is not None
        return Status(
            version=pointer.version if pointer else None,
            previous=pointer.previous if pointer else None,
            running=running,
            target=self.settings.target,
            state="running" if running else "stopped",
            instances=self.settings.workers if running else 0,
        )

    def server_settings(self) -> "ServerSettings":
        """Return what the server's workers need to know."""
        from inference.server import ServerSettings  # noqa: PLC0415 - see status

        return ServerSettings(
            folder=self.settings.serving,
            database=self.settings.database,
            **self.settings.model_dump(include=set(Limits.model_fields)),
        )

    def _go_live(self, version: str, run_id: str) -> None:
        from inference import launcher  # noqa: PLC0415 - see status

        before = self.folder.pointer()
        pointer = self.folder.point(version, run_id)
        started = False
        try:
            if not launcher.running(self.folder):
                launcher.start(
                    self.folder, self.server_settings(), self.settings.target, self.settings.workers
                )
                started = True
            self.folder.wait_for_workers(pointer, FOLLOW_SECONDS)
        except BaseException:
            if started:
                launcher.stop(self.folder)
            self.folder.restore(before)
            raise

    @contextmanager
    def _store(self) -> Iterator[Store]:
        import sqlite3  # noqa: PLC0415 - only to name its errors

        try:
            store = Store(self.settings.database, self.settings.capture_sync)
            try:
                yield store
            finally:
                store.close()
        except (sqlite3.Error, OSError) as error:
            raise BackendError(
                f"capture database {self.settings.database}: {error}; if it is damaged, move it"
                " away and a new one is made"
            ) from error


def credentials() -> dict[str, str]:
    """Return the header that opens a service with a token, where the environment holds one."""
    token = os.environ.get(TOKEN_VARIABLE)
    return {"authorization": f"Bearer {token}"} if token else {}


def reason(error: Exception) -> str:
    """Return the innermost cause of a failed request, in a few words."""
    while error.__cause__ or error.__context__:
        inner = error.__cause__ or error.__context__
        if not isinstance(inner, Exception):
            break
        error = inner
    return str(error)
