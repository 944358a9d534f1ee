"""Measures reading SageMaker's captures from S3: 100,000 events in 1,000 files, half with labels.

S3 is the local stand-in of the rehearsal, on this machine: a process of Python that answers one
request at a time, so times on AWS will differ. Every measurement is a process of its own, so that
its memory is its own.
"""

import argparse
import json
import multiprocessing
import os
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from machine import describe, write

from common import settings
from common.dataset import read_table
from common.simulation import draw
from inference.aws import client
from inference.events import label_line
from inference.sagemaker import Sagemaker, SagemakerSettings
from inference.schema import Schema
from scripts.rehearsal.aws import LocalAws

PACKAGES = ("boto3", "moto", "orjson", "pandas")
BUCKET = "rookery-bench"
FILES, EVENTS = 1_000, 100
HOURS = 50
ENDPOINT = "penguins"


def backend() -> Sagemaker:
    """Return the backend that reads them."""
    return Sagemaker(
        SagemakerSettings(
            target=ENDPOINT,
            region="us-east-1",
            execution_role="arn:aws:iam::123456789012:role/sagemaker",
            models_uri=f"s3://{BUCKET}/models",
            data_capture_uri=f"s3://{BUCKET}/captures",
            ground_truth_uri=f"s3://{BUCKET}/ground-truth",
            image="serving",
        )
    )


def fill(files: int, events: int) -> None:
    """Write captured files, and a file of labels an hour, for every second event."""
    dataset = settings.load().dataset
    records = draw(dataset.schema, read_table(dataset).rows, 1_000, seed=1, drift=False)
    s3 = client("s3", "us-east-1")
    s3.create_bucket(Bucket=BUCKET)
    share = 1 / len(dataset.classes)
    prediction = {
        "prediction": dataset.classes[0],
        "confidence": share,
        "probabilities": dict.fromkeys(dataset.classes, share),
    }
    answer = json.dumps({"predictions": [prediction]})
    start = datetime.now(UTC) - timedelta(hours=HOURS)

    labels: dict[str, list[bytes]] = defaultdict(list)

    def put(number: int) -> None:
        when = start + timedelta(hours=HOURS * number / files)
        hour = f"{when:%Y/%m/%d/%H}"
        lines = []
        for place in range(events):
            name = uuid.uuid4().hex
            record = records[(number * events + place) % len(records)]
            body = json.dumps({"dataframe_records": [record]})
            kind = {"observedContentType": "application/json", "encoding": "JSON"}
            event = {
                "captureData": {
                    "endpointInput": kind | {"mode": "INPUT", "data": body},
                    "endpointOutput": kind | {"mode": "OUTPUT", "data": answer},
                },
                "eventMetadata": {
                    "eventId": name,
                    "inferenceId": name,
                    "inferenceTime": f"{when:%Y-%m-%dT%H:%M:%SZ}",
                },
                "eventVersion": "0",
            }
            lines.append(orjson.dumps(event))
            if place % 2:
                labels[hour].append(label_line(name, {0: dataset.classes[0]}))
        file = f"{when:%M-%S}-000-{uuid.uuid4()}.jsonl"
        key = f"captures/version=1/{ENDPOINT}/AllTraffic/{hour}/{file}"
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"\n".join(lines))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(files)))
    for hour, found in labels.items():
        key = f"ground-truth/{hour}/59-59-000-{uuid.uuid4()}.jsonl"
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"".join(found))


def load(schema: Schema, which: dict[str, Any]) -> dict[str, Any]:
    """Load once."""
    reader = backend()
    began, before = time.perf_counter(), time.process_time()
    rows = reader.load(schema, **which)
    return {
        "rows": len(rows),
        "seconds": round(time.perf_counter() - began, 2),
        # the reader's own, without those of the stand-in for S3
        "processor_seconds": round(time.process_time() - before, 2),
        "peak_mb": peak_mb(),
    }


def peak_mb() -> int:
    """Return the most memory that this process held."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(kilobytes) * 1024 / 1e6)


def label(quality: float) -> dict[str, Any]:
    """Label what has no label."""
    began = time.perf_counter()
    count = backend().label(quality=quality, seed=1)
    return {"rows": count, "seconds": round(time.perf_counter() - began, 2)}


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=FILES)
    arguments = parser.parse_args()
    schema = settings.load().dataset.schema
    found: dict[str, Any] = {"files": arguments.files, "events in a file": EVENTS}
    with LocalAws() as aws:
        # of whatever asks for a client, here and in the processes that measure
        os.environ.update(aws.environment)
        fill(arguments.files, EVENTS)
        pool = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
        everything = arguments.files * EVENTS
        for name, which in {
            "all rows": {"limit": everything},
            "10,000 rows": {"limit": 10_000},
            "500 rows": {"limit": 500},
            "500 labelled rows": {"limit": 500, "labelled": True},
        }.items():
            found[name] = pool.apply(load, (schema, which))
            print(name, found[name], flush=True)
        found["labels for the rest"] = pool.apply(label, (0.9,))
        found["labels once more"] = pool.apply(label, (0.9,))
        print(found["labels for the rest"], found["labels once more"])
    write("sagemaker", describe(PACKAGES) | found)


if __name__ == "__main__":
    main()
