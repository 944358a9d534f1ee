import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

pytestmark = pytest.mark.integration

BUCKET = "rehearsal-tests"


def test_what_was_asked_and_answered_lies_in_s3(aws, sagemaker, record):
    name = sagemaker.create("2")
    sagemaker.settled(name)
    runtime, store = aws.client("sagemaker-runtime"), aws.client("s3")
    body = json.dumps({"dataframe_records": [record]})
    table = ",".join(record) + "\n" + ",".join(map(str, record.values())) + "\n"
    for kind, content in (("application/json", body), ("text/csv", table)):
        runtime.invoke_endpoint(
            EndpointName=name,
            ContentType=kind,
            Body=content,
            InferenceId=f"request-{kind}",
            CustomAttributes="who=test",
        )
    now = datetime.now(UTC)

    aws.flush()

    found = store.list_objects_v2(Bucket=BUCKET, Prefix=f"captures/version=2/{name}/")["Contents"]
    # gathered for a second, so that both are nearly always in one file
    keys = [item["Key"] for item in found]
    events = [
        json.loads(line)
        for key in keys
        for line in store.get_object(Bucket=BUCKET, Key=key)["Body"].read().splitlines()
    ]
    folder, _, file = keys[0].rpartition("/")
    assert folder == f"captures/version=2/{name}/AllTraffic/{now:%Y/%m/%d/%H}"
    minute, second, thousandth, number = file.removesuffix(".jsonl").split("-", 3)
    assert (len(minute), len(second), len(thousandth)) == (2, 2, 3)
    assert UUID(number)
    first, second = sorted(events, key=lambda event: event["eventMetadata"]["inferenceId"])
    assert first["captureData"]["endpointInput"] == {
        "observedContentType": "application/json",
        "mode": "INPUT",
        "data": body,
        "encoding": "JSON",
    }
    answer = first["captureData"]["endpointOutput"]
    assert (answer["mode"], answer["encoding"]) == ("OUTPUT", "JSON")
    assert json.loads(answer["data"])["predictions"]
    about = first["eventMetadata"]
    assert about["inferenceId"] == "request-application/json"
    assert about["customAttributes"] == ["who=test"]
    assert about["inferenceTime"].endswith("Z")
    assert abs(datetime.fromisoformat(about["inferenceTime"]) - now) < timedelta(minutes=1)
    assert UUID(about["eventId"])
    assert first["eventVersion"] == "0"
    # a content type that is not listed
    unlisted = second["captureData"]["endpointInput"]
    assert unlisted["encoding"] == "BASE64"
    assert base64.b64decode(unlisted["data"]).decode() == table


def test_a_request_that_the_model_refused_is_not_captured(aws, sagemaker):
    name = sagemaker.create("1")
    sagemaker.settled(name)
    runtime = aws.client("sagemaker-runtime")

    with pytest.raises(runtime.exceptions.ModelError):
        runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body="{")
    aws.flush()

    listed = aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"captures/version=1/{name}/")
    assert listed["KeyCount"] == 0
