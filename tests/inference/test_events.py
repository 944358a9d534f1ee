"""Captured events and ground truth in S3, as SageMaker and others write them."""

import base64
import json
import uuid
from datetime import UTC, datetime

import boto3
import pytest

from inference.events import (
    Captures,
    Folder,
    GroundTruth,
    label_line,
    read_event,
    read_labels,
    version_of,
)

BUCKET = "rookery-events"
PREDICTION = {
    "prediction": "Adelie",
    "confidence": 0.75,
    "probabilities": {"Adelie": 0.75, "Chinstrap": 0.25, "Gentoo": 0.0},
}


@pytest.fixture
def s3(moto):
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


def part(data, encoding, kind):
    if encoding == "BASE64":
        data = base64.b64encode(data.encode()).decode()
    return {"observedContentType": kind, "mode": "INPUT", "data": data, "encoding": encoding}


def event(
    body,
    *,
    encoding="JSON",
    kind="application/json",
    rows=1,
    time="2026-11-24T09:59:58Z",
    event_id="event",
    **about,
):
    """A line of a captured file."""
    answer = json.dumps({"predictions": [PREDICTION] * rows})
    return json.dumps(
        {
            "captureData": {
                "endpointInput": part(body, encoding, kind),
                "endpointOutput": part(
                    answer, "BASE64" if encoding == "BASE64" else "JSON", "application/json"
                ),
            },
            "eventMetadata": {"eventId": event_id, "inferenceTime": time, **about},
            "eventVersion": "0",
        }
    ).encode()


def bodies(record):
    """The same row in every format that MLflow's scoring server reads."""
    columns, values = list(record), list(record.values())
    cells = ",".join("" if value is None else str(value) for value in values)
    yield "application/json", json.dumps({"dataframe_records": [record]})
    yield (
        "application/json",
        json.dumps({"dataframe_split": {"columns": columns, "data": [values]}}),
    )
    yield "application/json; charset=utf-8", json.dumps({"instances": [record]})
    yield "application/json", json.dumps({"inputs": {name: [v] for name, v in record.items()}})
    yield "text/csv", f"{','.join(columns)}\n{cells}\n"


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("listed", [True, False])
def test_event_in_every_format_and_encoding(schema, record, number, listed):
    record = record | {"culmen_depth_mm": None}
    kind, body = list(bodies(record))[number]
    encoding = ("CSV" if kind == "text/csv" else "JSON") if listed else "BASE64"

    found = read_event(event(body, encoding=encoding, kind=kind), "2026/11/24/09", "3", schema)

    assert [json.loads(row.features) for row in found.rows] == [record]
    [row] = found.rows
    assert (row.prediction, row.confidence) == (PREDICTION["prediction"], PREDICTION["confidence"])
    assert json.loads(row.probabilities) == PREDICTION["probabilities"]
    assert (found.id, found.model_version) == ("event", "3")
    assert found.time == datetime(2026, 11, 24, 9, 59, 58, tzinfo=UTC).timestamp()


def test_inference_id_names_an_event(schema, record):
    body = json.dumps({"dataframe_records": [record]})
    assert read_event(event(body, inferenceId="mine"), "", "3", schema).id == "mine"


def test_row_of_another_versions_schema_is_kept_as_it_came(schema):
    body = json.dumps({"dataframe_records": [{"wingspan": 3}]})
    [row] = read_event(event(body), "", "1", schema).rows
    assert json.loads(row.features) == {"wingspan": 3}


def test_records_are_left_out_where_nobody_asks(record):
    found = read_event(event("what this is does not matter"), "", "1", None)
    assert [(row.features, row.prediction) for row in found.rows] == [("", "Adelie")]


def put(s3, key, *lines):
    s3.put_object(Bucket=BUCKET, Key=key, Body=b"\n".join(lines))


def file(hour, minute, version="1", endpoint="penguins"):
    """The key of a captured file."""
    place = f"{endpoint}/AllTraffic/{hour}/{minute:02}-00-000-{uuid.uuid4()}.jsonl"
    return f"captures/version={version}/{place}" if version else f"captures/{place}"


def captures(s3):
    return Captures(Folder(s3, f"s3://{BUCKET}/captures"), "penguins", "AllTraffic")


def read_all(found, schema=None, since=None):
    return [one for some in found.newest(schema, since) for one in some]


def at(hour, minute):
    return f"2026-11-24T{hour:02}:{minute:02}:00Z"


def test_newest_come_first_whatever_their_version_and_hour(s3):
    put(s3, file("2025/12/31/23", 59), event("", event_id="a", time="2025-12-31T23:59:00Z"))
    put(s3, file("2026/11/24/08", 1), event("", event_id="b", time=at(8, 1)))
    two = (event("", event_id="d", time=at(9, 30)), event("", event_id="e", time=at(9, 31)))
    put(s3, file("2026/11/24/09", 31, "2"), *two)
    put(s3, file("2026/11/24/09", 5), event("", event_id="c", time=at(9, 5)))
    put(s3, file("2026/11/24/10", 0, None), event("", event_id="f", time=at(10, 0)))
    # another endpoint's, and no capture at all
    put(s3, file("2026/11/24/11", 0, endpoint="other"), event("", event_id="x"))
    put(s3, "captures/version=1/readme.txt", b"nothing")

    found = captures(s3)
    events = read_all(found)

    assert [one.id for one in events] == list("fedcba")
    versions = [one.model_version for one in events]
    assert versions == ["unknown", "2", "2", "1", "1", "1"]
    assert found.damage.count == 0
    since = datetime(2026, 11, 24, 9, 5, tzinfo=UTC)
    assert [one.id for one in read_all(captures(s3), since=since)] == list("fedc")


def test_nothing_older_is_read_once_there_is_enough(s3):
    for hour in range(10):
        put(s3, file(f"2026/11/24/{hour:02}", 0), event("", event_id=str(hour)))
    asked = []
    s3.meta.events.register("before-call.s3.GetObject", lambda params, **_: asked.append(params))

    some = next(captures(s3).newest(None))

    assert [one.id for one in some] == ["9"]
    assert len(asked) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        event("", time="yesterday"),
        event("").replace(b"endpointOutput", b"output"),
        event("").replace(b'"encoding": "JSON"', b'"encoding": "ROT13"'),
        event("", encoding="BASE64").replace(b'"data": "', b'"data": "*'),
        event("").replace(b"predictions", b"error"),
        event("").replace(b"0.75", b'"much"'),
        event("").replace(b'\\"prediction\\": \\"Adelie\\"', b'\\"prediction\\": \\"Ostrich\\"'),
    ],
)
def test_damaged_line_is_counted_and_left_out(s3, line, caplog):
    put(s3, file("2026/11/24/09", 1), event("", event_id="good"), line, b"", b"  ")

    found = captures(s3)
    assert [one.id for one in read_all(found)] == ["good"]

    assert found.damage.count == 1
    found.damage.report("captured events")
    assert (
        f"1 captured events cannot be read and are left out; the first is line 2 of s3://{BUCKET}/captures/version=1/"
        in caplog.text
    )
    assert "\n" not in found.damage.first


@pytest.mark.parametrize("rows", [0, 2])
def test_answer_that_does_not_fit_its_request_is_damaged(schema, record, rows):
    body = json.dumps({"dataframe_records": [record]})
    with pytest.raises(ValueError, match=f"1 rows, but {rows} predictions"):
        read_event(event(body, rows=rows), "", "1", schema)


def test_file_that_vanishes_is_read_as_empty(s3):
    put(s3, "captures/a", b"a")
    folder = Folder(s3, f"s3://{BUCKET}/captures")
    assert [*folder.read(["captures/a", "captures/gone"])] == [
        ("captures/a", b"a"),
        ("captures/gone", b""),
    ]


def truth(name, data, encoding="CSV"):
    return json.dumps(
        {
            "groundTruthData": {"data": data, "encoding": encoding},
            "eventMetadata": {"eventId": name},
            "eventVersion": "0",
        }
    ).encode()


@pytest.mark.parametrize(
    ("data", "encoding", "labels"),
    [
        ("Adelie", "CSV", {0: "Adelie"}),
        ("Adelie,,Gentoo", "CSV", {0: "Adelie", 2: "Gentoo"}),
        ("Adelie\n\nGentoo", "CSV", {0: "Adelie", 2: "Gentoo"}),
        ('"a, b"\n"c\nd"', "CSV", {0: "a, b", 1: "c\nd"}),
        ('["Adelie", null, "Gentoo"]', "JSON", {0: "Adelie", 2: "Gentoo"}),
        ('"Adelie"', "JSON", {0: "Adelie"}),
        (base64.b64encode(b"Adelie").decode(), "BASE64", {0: "Adelie"}),
        ("", "CSV", {}),
    ],
)
def test_ground_truth_of_others(data, encoding, labels):
    assert read_labels(truth("a", data, encoding)) == ("a", labels)


@pytest.mark.parametrize(
    "labels",
    [{0: "Adelie"}, {2: "Gentoo"}, {0: 'a, "b"\nc', 3: "größe"}, {1: " ", 0: "x"}],
)
def test_ground_truth_comes_back_as_it_was_written(labels):
    assert read_labels(label_line("a", labels)) == ("a", labels)


def test_label_of_one_row_is_what_model_monitor_reads():
    assert json.loads(label_line("a", {0: "Adelie"})) == {
        "groundTruthData": {"data": "Adelie", "encoding": "CSV"},
        "eventMetadata": {"eventId": "a"},
        "eventVersion": "0",
    }


def test_newest_label_of_a_row_counts(s3):
    put(s3, file("2026/11/24/09", 1), event("", event_id="a"), event("", event_id="b"))
    put(s3, "truth/2026/11/24/10/00-01.jsonl", truth("a", "Adelie"), truth("z", "Gentoo"))
    put(s3, "truth/2026/11/24/11/00-01.jsonl", truth("a", "Gentoo,Gentoo"))
    put(s3, "truth/2026/11/24/11/00-02.jsonl", truth("a", "Chinstrap"), b"{damaged")
    # before anything of it was captured
    put(s3, "truth/2026/11/24/07/00-01.jsonl", truth("b", "Adelie"))

    found = GroundTruth(Folder(s3, f"s3://{BUCKET}/truth/"))

    assert found.of(read_all(captures(s3))) == {"a": {0: "Chinstrap", 1: "Gentoo"}}
    assert found.damage.count == 1


def test_written_labels_lie_under_the_hour_in_which_they_were_written(s3):
    found = GroundTruth(Folder(s3, f"s3://{BUCKET}/truth"))
    before = datetime.now(UTC)
    found.write({"a": {0: "Adelie"}, "b": {1: "Gentoo"}})
    found.write({})

    [one] = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    hours = {f"truth/{time:%Y/%m/%d/%H}/" for time in (before, datetime.now(UTC))}
    assert one["Key"].rpartition("/")[0] + "/" in hours
    lines = s3.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read().splitlines()
    assert [read_labels(line) for line in lines] == [("a", {0: "Adelie"}), ("b", {1: "Gentoo"})]


def test_version_of_a_path():
    assert version_of("version=12/penguins/AllTraffic/") == "12"
    assert version_of("penguins/AllTraffic/") == "unknown"
