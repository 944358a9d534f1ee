import pytest
from botocore import xform_name

from inference.errors import BackendError

pytestmark = pytest.mark.integration

BUCKET = "rehearsal-tests"


def calls():
    """One call of each of AWS's protocols: service in the signature, boto3's, action, arguments."""
    key = {"Bucket": BUCKET, "Key": "faults/of a test"}
    return {
        "json": ("sagemaker", "sagemaker", "ListModels", {}),
        "query": ("sts", "sts", "GetCallerIdentity", {}),
        "ec2": ("ec2", "ec2", "DescribeVpcs", {}),
        "cbor": ("monitoring", "cloudwatch", "DescribeAlarms", {}),
        "rest-json": ("batch", "batch", "DescribeJobQueues", {}),
        "rest-xml, put": ("s3", "s3", "PutObject", {**key, "Body": b"1"}),
        "rest-xml, get": ("s3", "s3", "GetObject", key),
        "rest-xml, list": ("s3", "s3", "ListObjectsV2", {"Bucket": BUCKET}),
        "runtime": (
            "sagemaker",
            "sagemaker-runtime",
            "InvokeEndpoint",
            {"EndpointName": "nobody", "Body": b"1"},
        ),
    }


@pytest.mark.parametrize("protocol", calls())
def test_the_next_call_fails_as_asked_for_in_every_protocol(aws, refused, protocol):
    service, name, action, arguments = calls()[protocol]
    client = aws.client(name)
    aws.fault(service, action, "AccessDeniedException", "not <you>", status=403)

    call = getattr(client, xform_name(action))

    assert refused("AccessDeniedException", call, **arguments) == "not <you>"
    if action == "InvokeEndpoint":
        refused("ValidationError", call, **arguments)
    elif action != "GetObject":
        call(**arguments)


def test_a_fault_strikes_as_often_as_asked_for(aws, refused):
    client = aws.client("s3")
    aws.fault("s3", "ListBuckets", "AccessDenied", times=2, status=400)
    for _ in range(2):
        refused("AccessDenied", client.list_buckets)
    client.list_buckets()

    aws.fault("s3", "ListBuckets", "AccessDenied", times=-1)
    for _ in range(3):
        refused("AccessDenied", client.list_buckets)
    aws.clear_faults()
    client.list_buckets()


def test_what_cannot_be_done_is_said(aws):
    with pytest.raises(BackendError, match="status"):
        aws.fault("s3", "ListBuckets", "AccessDenied", status=200)
    with pytest.raises(BackendError, match="nobody"):
        aws.roll_back("nobody")
