"""Data capture as SageMaker does it: JSON Lines in S3, in folders by hour."""

import base64
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from werkzeug.datastructures import Headers

# SageMaker gathers for longer; a rehearsal need not wait for it
GATHER_SECONDS = 1.0
FILE_EVENTS = 1000


@dataclass(frozen=True, slots=True)
class Body:
    """One direction of an exchange."""

    content: bytes
    content_type: str


def encode(body: Body, mode: str, listed: Mapping[str, list[str]]) -> dict[str, str]:
    """Describe a body as a captured event does.

    Args:
        body: What was sent.
        mode: INPUT or OUTPUT.
        listed: CaptureContentTypeHeader: content types that are JSON or CSV; all others are
            written in base 64.
    """
    kind = body.content_type.partition(";")[0].strip()
    names = {"JSON": "JsonContentTypes", "CSV": "CsvContentTypes"}
    encoding = next((e for e, name in names.items() if kind in listed.get(name, ())), "BASE64")
    text = base64.b64encode(body.content) if encoding == "BASE64" else body.content
    return {
        "observedContentType": body.content_type,
        "mode": mode,
        "data": text.decode(),
        "encoding": encoding,
    }


def make_event(
    config: Mapping[str, Any], sent: Body, answered: Body, headers: Headers
) -> dict[str, Any] | None:
    """Make the captured event of an exchange; None if the configuration does not want it.

    Args:
        config: DataCaptureConfig of the endpoint configuration.
        sent: The request.
        answered: The answer.
        headers: The request's, for the inference id and custom attributes.
    """
    if not config.get("EnableCapture", bool(config)):
        return None
    if random.random() * 100 >= config["InitialSamplingPercentage"]:  # noqa: S311 - sampling
        return None
    listed = config.get("CaptureContentTypeHeader") or {}
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    data = {}
    if modes & {"Input", "InputAndOutput"}:
        data["endpointInput"] = encode(sent, "INPUT", listed)
    if modes & {"Output", "InputAndOutput"}:
        data["endpointOutput"] = encode(answered, "OUTPUT", listed)
    about: dict[str, Any] = {"eventId": str(uuid4())}
    if attributes := headers.get("X-Amzn-SageMaker-Custom-Attributes"):
        about["customAttributes"] = [attributes]
    if inference_id := headers.get("X-Amzn-SageMaker-Inference-Id"):
        about["inferenceId"] = inference_id
    about["inferenceTime"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"captureData": data, "eventMetadata": about, "eventVersion": "0"}


class Recorder:
    """Gathers events for a short time, and writes those of a variant into one file."""

    def __init__(self, put: Callable[[str, str, bytes], None]) -> None:
        """Begin to gather.

        Args:
            put: Writes an object: bucket, key, content.
        """
        self._put = put
        self._lock = threading.Lock()
        self._waiting: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._write_again_and_again, daemon=True)
        self._thread.start()

    def add(self, destination: str, endpoint: str, variant: str, event: dict[str, Any]) -> None:
        """Take an event for `destination/endpoint/variant/`."""
        with self._lock:
            self._waiting[f"{destination.rstrip('/')}/{endpoint}/{variant}"].append(event)

    def flush(self) -> None:
        """Write now what was gathered."""
        with self._lock:
            waiting, self._waiting = self._waiting, defaultdict(list)
        for place, events in waiting.items():
            for start in range(0, len(events), FILE_EVENTS):
                self._write(place, events[start : start + FILE_EVENTS])

    def close(self) -> None:
        """Write what is left, and stop."""
        self._closed.set()
        self._thread.join()

    def _write_again_and_again(self) -> None:
        while not self._closed.wait(GATHER_SECONDS):
            self.flush()
        self.flush()

    def _write(self, place: str, events: list[dict[str, Any]]) -> None:
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        now = datetime.now(UTC)
        name = f"{now:%M-%S}-{now.microsecond // 1000:03}-{uuid4()}.jsonl"
        lines = "".join(json.dumps(event) + "\n" for event in events)
        self._put(bucket, f"{prefix}/{now:%Y/%m/%d/%H}/{name}", lines.encode())
