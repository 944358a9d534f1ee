"""Sagemaker: an endpoint of Amazon SageMaker, and captures in S3."""

import logging
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
from pydantic import BaseModel, Field

from inference import wire
from inference.answers import message, read_predictions
from inference.aws import code, explained
from inference.backend import Answer, Backend, Captured, Release, Status
from inference.blueprint import VARIANT, EndpointSettings
from inference.endpoint import Endpoint
from inference.errors import BackendError
from inference.events import Captures, Damage, Event, Folder, GroundTruth, Labels
from inference.frame import PIECE_ROWS, to_frame
from inference.labels import read_label_file, refuse, require_one_source
from inference.schema import Schema

if TYPE_CHECKING:
    import pandas as pd
    from botocore.exceptions import ClientError

logger = logging.getLogger("rookery.sagemaker")

# Rows whose labels are looked up together: each time, all labels since the oldest of them are read,
# so few large batches are quicker than many small ones.
LOOKED_UP_TOGETHER = 100_000


class SagemakerSettings(EndpointSettings):
    """The `backend:` section of the config file, for Sagemaker.

    Attributes:
        ground_truth_uri: Folder of S3 for labels.
    """

    ground_truth_uri: str = Field(pattern=r"^s3://[a-z0-9.-]+(/[^/]+)*/?$")


class Sagemaker(Backend):
    """Serves on a SageMaker endpoint, which captures; labels lie beside its captures in S3."""

    Settings: ClassVar[type[BaseModel]] = SagemakerSettings

    def __init__(self, settings: SagemakerSettings) -> None:
        self.settings = settings
        self.endpoint = Endpoint(settings)

    def _folder(self, uri: str) -> Folder:
        return Folder(self.endpoint.client("s3"), uri)

    def load(
        self,
        schema: Schema,
        limit: int,
        *,
        since: datetime | None = None,
        labelled: bool | None = None,
    ) -> "pd.DataFrame":
        """Return captured rows, newest first; see `Backend.load`.

        Newest are those in the newest files: SageMaker gathers what it captures for some minutes.
        Lines that cannot be read are counted, logged, and left out.
        """
        rows: list[tuple[Any, ...]] = []
        together = max(min(limit, LOOKED_UP_TOGETHER), 1)
        for events, labels in self._labelled(schema, together, since):
            for event in events:
                rows += to_rows(event, labels.get(event.id, {}), labelled=labelled)
            if len(rows) >= limit:
                break
        rows.sort(key=lambda row: row[1], reverse=True)
        del rows[limit:]
        pieces = (rows[start : start + PIECE_ROWS] for start in range(0, len(rows), PIECE_ROWS))
        return to_frame(schema, pieces)

    def save(self, rows: Sequence[Captured]) -> None:
        """Do nothing: SageMaker captures requests and answers where they pass, outside the model.

        A container that wrote them too would store each twice, and need rights of its own.
        """

    def label(
        self, *, quality: float | None = None, file: Path | None = None, seed: int | None = None
    ) -> int:
        """Attach ground truth to captured rows; see `Backend.label`."""
        require_one_source(quality, file)
        if file:
            return self._label_known(read_label_file(file))
        return self._label_simulated(quality or 0.0, seed)

    def invoke(self, records: Sequence[Mapping[str, Any]]) -> Answer:
        """Ask the endpoint for predictions; see `Backend.invoke`.

        Calls that fail for a moment are made again, after a growing and random time. The request's
        id is what SageMaker calls its inference id, so that labels find its rows.
        """
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.4 s

        try:
            body = orjson.dumps({"dataframe_records": list(records)})
        except TypeError as error:
            raise BackendError(f"these records cannot be sent as JSON: {error}") from error
        name, request_id = self.settings.target, uuid.uuid4().hex
        with explained("sagemaker:InvokeEndpoint", f"endpoint {name}"):
            try:
                given = self.endpoint.client("sagemaker-runtime").invoke_endpoint(
                    EndpointName=name,
                    Body=body,
                    ContentType=wire.JSON,
                    Accept=wire.JSON,
                    InferenceId=request_id,
                )
                answer = given["Body"].read()
            except ClientError as error:
                if code(error) == "ModelError":
                    raise BackendError(f"endpoint {name} answered {refusal(error)}") from error
                raise
        told = dict(
            part.strip().partition("=")[::2]
            for part in given.get("CustomAttributes", "").split(",")
        )
        version = told.get("model_version") or self.status().version or ""
        return Answer(read_predictions(answer, len(records), name), version, request_id)

    def deploy(self, release: Release) -> None:
        """Put the version live, blue/green, and wait until it is; see `Backend.deploy`."""
        self.endpoint.deploy(release)

    def rollback(self) -> str:
        """Put the former configuration back, without uploading anything; see `Backend`."""
        return self.endpoint.rollback()

    def status(self) -> Status:
        """Return what is served now."""
        return self.endpoint.status()

    def _labelled(
        self, schema: Schema | None, together: int, since: datetime | None = None
    ) -> Iterator[tuple[list[Event], Labels]]:
        """Yield captured events, newest first, with their labels.

        Args:
            schema: Says which columns of a CSV body are numbers; None leaves the records out.
            together: Rows of the events that are yielded at a time, at least.
            since: Leave out what was captured before.
        """
        settings = self.settings
        damaged, wrong = Damage(), Damage()
        captures = Captures(
            self._folder(settings.data_capture_uri), settings.target, VARIANT, damaged
        )
        truth = GroundTruth(self._folder(settings.ground_truth_uri), wrong)
        events: list[Event] = []
        count = 0
        try:
            for some in captures.newest(schema, since):
                events += some
                count += sum(len(event.rows) for event in some)
                if count >= together:
                    yield events, truth.of(events)
                    events, count = [], 0
            if events:
                yield events, truth.of(events)
        finally:
            damaged.report("captured events")
            wrong.report("labels")

    def _label_simulated(self, quality: float, seed: int | None) -> int:
        rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        found: dict[str, dict[int, str]] = {}
        for events, known in self._labelled(None, LOOKED_UP_TOGETHER):
            for event in events:
                for position, row in enumerate(event.rows):
                    if position in known.get(event.id, {}):
                        continue
                    said = row.prediction
                    others = [name for name in orjson.loads(row.probabilities) if name != said]
                    label = said if rng.random() < quality else rng.choice(others)
                    found.setdefault(event.id, {})[position] = label
        self._write(found)
        return sum(map(len, found.values()))

    def _label_known(self, labels: Sequence[tuple[str, str]]) -> int:
        """Attach ground truth by id, all of it or nothing; see `Backend.label`."""
        wanted = dict(labels)
        found: dict[str, dict[int, str]] = {}
        misspelt: list[str] = []
        # a dictionary keeps their order, for the message
        missing = dict.fromkeys(wanted)
        for events, known in self._labelled(None, LOOKED_UP_TOGETHER):
            for event in events:
                for position, row in enumerate(event.rows):
                    identity = f"{event.id}-{position}"
                    if identity not in missing:
                        continue
                    del missing[identity]
                    label = wanted[identity]
                    if label not in orjson.loads(row.probabilities):
                        misspelt.append(f"{label!r} of {identity}")
                    if known.get(event.id, {}).get(position) != label:
                        found.setdefault(event.id, {})[position] = label
            if not missing:
                break
        refuse(missing, misspelt, len(labels))
        self._write(found)
        return len(wanted)

    def _write(self, labels: Labels) -> None:
        GroundTruth(self._folder(self.settings.ground_truth_uri)).write(labels)


def to_rows(
    event: Event, labels: Mapping[int, str], *, labelled: bool | None
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of an event as `to_frame` takes them, the last first.

    Args:
        event: A captured request.
        labels: Its ground truth, by position of the row.
        labelled: True for rows with ground truth only, False for those without only.
    """
    for position in reversed(range(len(event.rows))):
        target = labels.get(position)
        if labelled is None or labelled == (target is not None):
            name = f"{event.id}-{position}"
            yield (name, event.time, event.model_version, *event.rows[position], target)


def refusal(error: "ClientError") -> str:
    """Return the status and the reason with which a container refused a request."""
    response: Any = error.response
    status = response.get("OriginalStatusCode", "an error")
    return f"{status}: {message(str(response.get('OriginalMessage', '')).encode())}"
