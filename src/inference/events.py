"""What SageMaker captured, and ground truth for it, as both lie in S3.

SageMaker writes a file of JSON lines now and then: PREFIX/ENDPOINT/VARIANT/YYYY/MM/DD/HH/NAME. A
prefix ends with version=N, because nothing in a file says which model version answered. Ground
truth has the format and layout of SageMaker Model Monitor: one line an event, and the hour is that
in which the label was found, which is never before the one in which the event was captured.
"""

import base64
import csv
import io
import logging
import sys
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import groupby
from operator import attrgetter
from typing import IO, Any, NamedTuple

import orjson

from inference import wire
from inference.aws import code, explained
from inference.errors import BackendError, InvalidRecordsError, RookeryError
from inference.schema import Record, Schema

logger = logging.getLogger("rookery.events")

Labels = dict[str, dict[int, str]]

HOUR = "%Y/%m/%d/%H"
VERSION = "version="
# Files that are read ahead of the one that is looked at; each is at most a few megabytes.
FILES_AHEAD = 64
THREADS = 16
# Events in a file of ground truth.
EVENTS_IN_FILE = 20_000
CONTENT_TYPES = {"JSON": wire.JSON, "CSV": wire.CSV}


class Row(NamedTuple):
    """A captured row, as text: a hundred thousand of them as objects take gigabytes and seconds.

    Attributes:
        features: JSON object from column name to value; empty where nobody asked for it.
        probabilities: JSON object from class to probability.
    """

    features: str
    prediction: str
    confidence: float
    probabilities: str


@dataclass(frozen=True, slots=True)
class Event:
    """A captured request with its answer.

    Attributes:
        id: The client's inference id, else SageMaker's own of the event.
        time: Seconds since the epoch; SageMaker tells whole ones.
        hour: Partition that it lies in, such as 2026/11/24/09.
    """

    id: str
    time: float
    hour: str
    model_version: str
    rows: tuple[Row, ...]


@dataclass
class Damage:
    """What could not be read, and is left out."""

    count: int = 0
    first: str = ""

    def add(self, where: str, why: object) -> None:
        """Count one thing."""
        self.count += 1
        self.first = self.first or f"{where}: {' '.join(str(why).split())}"

    def report(self, kind: str) -> None:
        """Say how much there was."""
        if self.count:
            logger.warning(
                "%d %s cannot be read and are left out; the first is %s",
                self.count,
                kind,
                self.first,
            )


class Folder:
    """A folder of S3."""

    def __init__(self, s3: Any, uri: str) -> None:  # noqa: ANN401 - a boto3 client
        """Look at a folder.

        Args:
            s3: Client of S3.
            uri: s3://BUCKET/PREFIX.
        """
        self.uri = uri.rstrip("/")
        self.bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._s3 = s3
        # its threads start when they are needed, and stay: to start them costs more than to read
        self._pool = ThreadPoolExecutor(THREADS)

    def below(self, path: str = "") -> list[str]:
        """Return the names of the folders in a folder below this one."""
        prefix = self.prefix + path
        with explained("s3:ListBucket", f"s3://{self.bucket}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            )
            found = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])]
        return [name.removeprefix(prefix).rstrip("/") for name in found]

    def files(self, path: str) -> list[str]:
        """Return the keys of the files in a folder below this one."""
        prefix = f"{self.prefix}{path}/"
        with explained("s3:ListBucket", f"s3://{self.bucket}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
            return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def hours(self, path: str, first: str) -> Iterator[str]:
        """Yield the hours below a path that hold files, such as 2026/11/24/09, newest first.

        Args:
            path: Folder with a folder for each year; empty, or it ends with a slash.
            first: Leave out earlier hours.
        """

        def walk(hour: str, depth: int) -> Iterator[str]:
            if not depth:
                yield hour
                return
            for name in sorted(filter(str.isdecimal, self.below(path + hour)), reverse=True):
                deeper = hour + name
                if deeper >= first[: len(deeper)]:
                    yield from walk(f"{deeper}/" if depth > 1 else deeper, depth - 1)

        yield from walk("", 4)

    def read(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files with their content, and read ahead, the further the longer this goes on.

        A file that was removed meanwhile is empty.
        """
        waiting: deque[tuple[str, Future[bytes]]] = deque()
        ahead = 1
        for key in keys:
            waiting.append((key, self._pool.submit(self._content, key)))
            if len(waiting) >= ahead:
                first, content = waiting.popleft()
                yield first, content.result()
                # who has read some files wants more than one
                ahead = min(2 * ahead, FILES_AHEAD)
        for first, content in waiting:
            yield first, content.result()

    def _content(self, key: str) -> bytes:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.4 s

        with explained("s3:GetObject", f"s3://{self.bucket}/{key}"):
            try:
                return self._s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            except ClientError as error:
                if code(error) == "NoSuchKey":
                    return b""
                raise

    def write(self, path: str, content: bytes | IO[bytes]) -> None:
        """Write a file."""
        key = self.prefix + path
        with explained("s3:PutObject", f"s3://{self.bucket}/{key}"):
            self._s3.put_object(Bucket=self.bucket, Key=key, Body=content)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there."""
        key = self.prefix + path
        with explained("s3:DeleteObject", f"s3://{self.bucket}/{key}"):
            self._s3.delete_object(Bucket=self.bucket, Key=key)


@dataclass
class Captures:
    """The captured events of an endpoint.

    Attributes:
        folder: Where the endpoint configurations of all versions capture.
        endpoint: Its name.
        variant: Name of its variant.
    """

    folder: Folder
    endpoint: str
    variant: str
    damage: Damage = field(default_factory=Damage)

    def newest(self, schema: Schema | None, since: datetime | None = None) -> Iterator[list[Event]]:
        """Yield events, those of some files at a time; newer files come first.

        Args:
            schema: Says which columns of a CSV body are numbers; None leaves the records out.
            since: Leave out what was captured before.
        """
        earliest = since.timestamp() if since else -float("inf")
        for key, content in self.folder.read(self._files(first_hour(since))):
            events = self._read(key, content, schema)
            recent = (event for event in events if event.time >= earliest)
            yield sorted(recent, key=attrgetter("time"), reverse=True)

    def _files(self, first: str) -> Iterator[str]:
        """Yield the keys of files, newest first."""
        for _, paths in self._hours(first):
            keys = [key for path in paths for key in self.folder.files(path)]
            # its name begins with the minute, second and millisecond
            yield from sorted(keys, key=lambda key: key.rpartition("/")[2], reverse=True)

    def _hours(self, first: str) -> Iterator[tuple[str, list[str]]]:
        """Yield each hour with the folders that have files of it, newest first."""
        paths = [f"{name}/" for name in self.folder.below() if name.startswith(VERSION)]
        # what an endpoint captured that was not set up by this project
        roots = [f"{path}{self.endpoint}/{self.variant}/" for path in ["", *paths]]

        def hours(root: str) -> Iterator[tuple[str, str]]:
            return ((hour, root + hour) for hour in self.folder.hours(root, first))

        ordered = merge(*map(hours, roots), reverse=True)
        for hour, found in groupby(ordered, key=lambda pair: pair[0]):
            yield hour, [path for _, path in found]

    def _read(self, key: str, content: bytes, schema: Schema | None) -> Iterator[Event]:
        path = key.removeprefix(self.folder.prefix)
        version, hour = version_of(path), "/".join(path.split("/")[-5:-1])
        # the newest line is the last one
        for number, line in reversed(list(enumerate(content.splitlines(), 1))):
            if line.strip():
                try:
                    yield read_event(line, hour, version, schema)
                except (LookupError, TypeError, ValueError, RookeryError) as error:
                    self.damage.add(f"line {number} of s3://{self.folder.bucket}/{key}", error)


def version_of(path: str) -> str:
    """Return the model version that a path of captures names."""
    name = path.partition("/")[0]
    return name.removeprefix(VERSION) if name.startswith(VERSION) else "unknown"


def read_event(line: bytes, hour: str, version: str, schema: Schema | None) -> Event:
    """Read a line of a captured file; see `Captures.newest`.

    Raises:
        ValueError, LookupError, TypeError, RookeryError: It is something else, or damaged.
    """
    event = orjson.loads(line)
    about, data = event["eventMetadata"], event["captureData"]
    answer, _ = decode(data["endpointOutput"])
    predictions = orjson.loads(answer)["predictions"]
    features = [""] * len(predictions)
    if schema:
        records = wire.parse(*decode(data["endpointInput"]), schema, sys.maxsize)
        features = [as_json(record) for record in as_checked(records, schema)]
    if len(features) != len(predictions):
        msg = f"{len(features)} rows, but {len(predictions)} predictions"
        raise ValueError(msg)
    return Event(
        str(about.get("inferenceId") or about["eventId"]),
        datetime.fromisoformat(about["inferenceTime"]).timestamp(),
        hour,
        version,
        tuple(map(read_row, features, predictions)),
    )


def read_row(features: str, prediction: Mapping[str, Any]) -> Row:
    """Read a prediction.

    Raises:
        ValueError, LookupError, TypeError: It is none.
    """
    said, shares = prediction["prediction"], prediction["probabilities"]
    if said not in shares or not sum(shares.values()) >= 0:
        msg = "the answer holds no predictions with probabilities"
        raise ValueError(msg)
    return Row(features, said, float(prediction["confidence"]), as_json(shares))


def as_json(content: object) -> str:
    """Return content as JSON text."""
    return orjson.dumps(content).decode()


def decode(part: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the body of a captured request or answer, and its content type."""
    encoding, text = part["encoding"], part["data"]
    if encoding == "BASE64":
        body = base64.b64decode(text, validate=True)
    elif encoding in CONTENT_TYPES:
        body = text.encode()
    else:
        msg = f"the encoding {encoding!r} is not known"
        raise ValueError(msg)
    return body, part.get("observedContentType") or CONTENT_TYPES.get(encoding, wire.JSON)


def as_checked(records: list[Record], schema: Schema) -> Sequence[Mapping[str, Any]]:
    """Return records as the model saw them, or as they came if another version's rules hold."""
    try:
        return schema.check(records)
    except InvalidRecordsError:
        if not all(isinstance(record, dict) for record in records):
            raise
        return records


@dataclass
class GroundTruth:
    """Labels of captured events."""

    folder: Folder
    damage: Damage = field(default_factory=Damage)

    def of(self, events: Iterable[Event]) -> Labels:
        """Return the labels of events, by event id and position of the row; the newest count."""
        wanted, hours = set(), []
        for event in events:
            wanted.add(event.id)
            hours.append(event.hour)
        found: Labels = {}
        if not hours:
            return found
        # the clock of whoever labels may be a little behind
        first = datetime.strptime(min(hours), HOUR).replace(tzinfo=UTC) - timedelta(hours=1)
        for key, content in self._newest(first.strftime(HOUR)):
            for number, line in reversed(list(enumerate(content.splitlines(), 1))):
                if not line.strip():
                    continue
                try:
                    name, labels = read_labels(line)
                except (LookupError, TypeError, ValueError) as error:
                    self.damage.add(f"line {number} of s3://{self.folder.bucket}/{key}", error)
                    continue
                if name in wanted:
                    known = found.setdefault(name, {})
                    for position, label in labels.items():
                        known.setdefault(position, label)
        return found

    def _newest(self, first: str) -> Iterator[tuple[str, bytes]]:
        return self.folder.read(
            key
            for hour in self.folder.hours("", first)
            for key in sorted(self.folder.files(hour), reverse=True)
        )

    def write(self, labels: Mapping[str, Mapping[int, str]]) -> None:
        """Add labels, by event id and position of the row.

        Raises:
            BackendError: A file could not be written; the message says how many events before it
                have got their labels.
        """
        lines = [label_line(name, found) for name, found in labels.items()]
        for start in range(0, len(lines), EVENTS_IN_FILE):
            now = datetime.now(UTC)
            name = f"{now:%M-%S}-{now.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            try:
                self.folder.write(
                    f"{now.strftime(HOUR)}/{name}", b"".join(lines[start : start + EVENTS_IN_FILE])
                )
            except BackendError as error:
                raise BackendError(
                    f"{error} ({start} of {len(lines)} events are labelled)"
                ) from error


def read_labels(line: bytes) -> tuple[str, dict[int, str]]:
    """Read a line of ground truth: the event's id, and its labels by position.

    Raises:
        ValueError, LookupError, TypeError: It is something else, or damaged.
    """
    event = orjson.loads(line)
    truth = event["groundTruthData"]
    if truth["encoding"] == "JSON":
        told = orjson.loads(truth["data"])
        cells = told if isinstance(told, list) else [told]
    else:
        text = truth["data"]
        if truth["encoding"] == "BASE64":
            text = base64.b64decode(text, validate=True).decode()
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        # one row of the request a line, or all of them in one
        cells = lines[0] if len(lines) == 1 else [cell for row in lines for cell in row[:1] or [""]]
    labels = {position: str(cell) for position, cell in enumerate(cells) if cell not in ("", None)}
    return str(event["eventMetadata"]["eventId"]), labels


def label_line(name: str, labels: Mapping[int, str]) -> bytes:
    """Return the line of ground truth of an event; rows without a label get an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for position in range(max(labels) + 1):
        writer.writerow([labels[position]] if position in labels else [])
    return orjson.dumps(
        {
            "groundTruthData": {"data": text.getvalue().removesuffix("\n"), "encoding": "CSV"},
            "eventMetadata": {"eventId": name},
            "eventVersion": "0",
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def first_hour(since: datetime | None) -> str:
    """Return the first hour in which something captured since may lie."""
    # a file can hold what was captured shortly before its hour, and none the other way round
    return (since.astimezone(UTC) - timedelta(hours=1)).strftime(HOUR) if since else ""
