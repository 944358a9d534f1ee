"""The Backend interface, and how a name like backend.Local becomes an object."""

import importlib
import inspect
import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import orjson
from pydantic import BaseModel, ValidationError

from inference.errors import ConfigurationError
from inference.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

CONFIG_VARIABLE = "MODEL_BACKEND_CONFIG"


class Captured(NamedTuple):
    """One answered row, as it is stored: what came in, what went out, and when.

    Attributes:
        key: Unique, and later rows have greater keys: 8 bytes of time, 6 random, 3 of row number.
        request_id: Identifies the request; people refer to a row as `<request_id>-<row>`.
        time: Seconds since the epoch, UTC.
        features: JSON object from column name to value.
        probabilities: JSON object from class to probability.
    """

    key: bytes
    request_id: str
    row: int
    time: float
    model_version: str
    features: str
    prediction: str
    confidence: float
    probabilities: str

    @classmethod
    def from_answer(
        cls,
        request_id: str,
        model_version: str,
        records: Sequence[Mapping[str, Any]],
        predictions: Sequence[Mapping[str, Any]],
    ) -> list[Self]:
        """Make the rows to store from the records of one request and their predictions."""
        now = time.time_ns()
        event = now.to_bytes(8, "big") + os.urandom(6)
        return [
            cls(
                event + row.to_bytes(3, "big"),
                request_id,
                row,
                # microseconds, so that it stays equal when it becomes a datetime and comes back
                round(now / 1e9, 6),
                model_version,
                orjson.dumps(record).decode(),
                prediction["prediction"],
                prediction["confidence"],
                orjson.dumps(prediction["probabilities"]).decode(),
            )
            for row, (record, prediction) in enumerate(zip(records, predictions, strict=True))
        ]


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered to one request."""

    predictions: list[dict[str, Any]]
    model_version: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Release:
    """A registered model version that was downloaded and is ready to be deployed.

    Attributes:
        version: Version number in the registry.
        run_id: MLflow run that trained it.
        path: Folder of the MLflow model.
    """

    version: str
    run_id: str
    path: Path


@dataclass(frozen=True, slots=True)
class Status:
    """What an endpoint serves now.

    Attributes:
        version: Version number; None if nothing is served.
        previous: The one before, which `rollback` brings back; None if there is none.
        running: Whether requests are answered.
        target: Address or name.
        state: In the words of whoever serves.
        instances: Processes or machines that answer.
        captures: Whether what is answered is captured.
    """

    version: str | None
    previous: str | None
    running: bool
    target: str
    state: str = ""
    instances: int = 0
    captures: bool = True


class Backend(ABC):
    """Where a model is served, and where what it answered is kept.

    Attributes:
        Settings: The keys that this backend takes from the config file's `backend:` section.
    """

    Settings: ClassVar[type[BaseModel]]

    @abstractmethod
    def load(
        self,
        schema: Schema,
        limit: int,
        *,
        since: datetime | None = None,
        labelled: bool | None = None,
    ) -> "pd.DataFrame":
        """Return captured rows, newest first.

        Args:
            schema: Names the features and gives them their types.
            limit: Return at most this many rows.
            since: Return only rows captured at or after this time.
            labelled: True for rows with ground truth only, False for those without only.

        Returns:
            The columns `id`, `time` (UTC), `model_version`, one a feature, `prediction`,
            `confidence`, one `probability <class>` a class, and `target` (ground truth or
            missing). An empty store gives no rows but all these columns.
        """

    @abstractmethod
    def save(self, rows: Sequence[Captured]) -> None:
        """Store answered rows; when this returns, they outlive this process."""

    @abstractmethod
    def label(
        self, *, quality: float | None = None, file: Path | None = None, seed: int | None = None
    ) -> int:
        """Attach ground truth to captured rows.

        Args:
            quality: Simulate it for every row that has none: the share of rows, from 0 to 1,
                whose truth is what was predicted; the others get another class at random.
            file: Take it from a CSV file with the columns id and label; a row that has a label
                gets the new one.
            seed: Makes a simulation reproducible.

        Returns:
            The number of rows labelled.

        Raises:
            BackendError: The file names an id that was not captured or a class that the model
                does not know, or cannot be read; then nothing is labelled.
        """

    @abstractmethod
    def invoke(self, records: Sequence[Mapping[str, Any]]) -> Answer:
        """Ask the endpoint for predictions.

        Raises:
            BackendError: Anything but a good answer, with the endpoint's own reason.
        """

    @abstractmethod
    def deploy(self, release: Release) -> None:
        """Serve this version from now on; on failure the former one goes on serving.

        Raises:
            BackendError: The version could not go live.
            ModelError: The version does not load.
        """

    @abstractmethod
    def rollback(self) -> str:
        """Serve the version before this one again, and return its number.

        Raises:
            BackendError: There is none.
        """

    @abstractmethod
    def status(self) -> Status:
        """Return what is served now."""


def backend_class(name: str) -> type[Backend]:
    """Find a backend by name.

    Args:
        name: `backend.Local` or `backend.Sagemaker`, or `package.module.Class` of your own.

    Raises:
        ConfigurationError: There is no such class, or it is not a Backend.
    """
    module_name, _, class_name = name.rpartition(".")
    if module_name == "backend":
        module_name = "inference." + re.sub(r"\W", "", class_name).lower()
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"backend {name!r}: there is no such class ({error}); use backend.Local, or the full "
            "name of a class of your own"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Backend)):
        raise ConfigurationError(f"backend {name!r}: this is not a subclass of Backend")
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigurationError(f"backend {name!r}: this class does not implement {lacking}")
    return found


def create_backend(name: str, settings: Mapping[str, Any]) -> Backend:
    """Make the backend called `name` with its own settings.

    Raises:
        ConfigurationError: The name or a setting is wrong.
    """
    found = backend_class(name)
    try:
        parsed = found.Settings.model_validate(settings)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = ".".join(["backend", *map(str, detail["loc"])])
        problem = detail["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
        known = f"{name} takes {', '.join(found.Settings.model_fields)}"
        raise ConfigurationError(f"{key}: {problem} ({known})") from error
    return found(parsed)  # type: ignore[call-arg] - each backend takes its own settings


def settings_from_environment() -> dict[str, Any]:
    """Read a backend's settings from $MODEL_BACKEND_CONFIG, a JSON object."""
    text = os.environ.get(CONFIG_VARIABLE, "{}")
    try:
        settings = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{CONFIG_VARIABLE}: not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise ConfigurationError(f"{CONFIG_VARIABLE}: expected a JSON object")
    return settings
