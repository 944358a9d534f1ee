"""What the rehearsal's tests share: one local AWS, and models deployed to it."""

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from uuid import uuid4

import psutil
import pytest
from botocore.exceptions import ClientError

from scripts.rehearsal.aws import LocalAws

BUCKET = "rehearsal-tests"
PATIENCE = 60


@pytest.fixture(scope="session")
def aws() -> Iterator[LocalAws]:
    """A local AWS with a bucket, for all tests: it takes two seconds to start."""
    with LocalAws() as local:
        local.client("s3").create_bucket(Bucket=BUCKET)
        yield local


@pytest.fixture(autouse=True)
def _no_faults(request) -> Iterator[None]:
    """Let no fault outlive the test that ordered it."""
    yield
    if "aws" in request.fixturenames:
        request.getfixturevalue("aws").clear_faults()


@pytest.fixture
def sagemaker(aws, release):
    """SageMaker, with what its tests do again and again."""
    client, store = aws.client("sagemaker"), aws.client("s3")
    ours: list[str] = []

    def pack(version: str) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            tar.add(release(version).path, arcname=".")
        return packed.getvalue()

    def configuration(version: str, *, archive: bytes | None = None, **variant: object) -> str:
        name = f"penguins-v{version}-{uuid4().hex[:8]}"
        store.put_object(Bucket=BUCKET, Key=f"models/{name}", Body=archive or pack(version))
        client.create_model(
            ModelName=name,
            ExecutionRoleArn="arn:aws:iam::123456789012:role/sagemaker",
            PrimaryContainer={
                "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1",
                "ModelDataUrl": f"s3://{BUCKET}/models/{name}",
                "Environment": {"MODEL_VERSION": version},
            },
        )
        client.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": name,
                    "InstanceType": "ml.m7i.large",
                    "InitialInstanceCount": 1,
                    **variant,
                }
            ],
            DataCaptureConfig={
                "EnableCapture": True,
                "InitialSamplingPercentage": 100,
                "DestinationS3Uri": f"s3://{BUCKET}/captures/version={version}",
                "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
                "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
            },
        )
        return name

    def settled(name: str) -> dict:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            described = client.describe_endpoint(EndpointName=name)
            if not described["EndpointStatus"].endswith("ing"):
                return described
            time.sleep(0.1)
        raise TimeoutError(described)

    def create(version: str = "1", **more: object) -> str:
        name = f"penguins-{uuid4().hex[:8]}"
        ours.append(name)
        client.create_endpoint(EndpointName=name, EndpointConfigName=configuration(version, **more))
        return name

    yield SimpleNamespace(
        client=client, configuration=configuration, create=create, settled=settled, pack=pack
    )
    for name in ours:
        # a test may have deleted it
        if client.list_endpoints(NameContains=name)["Endpoints"]:
            settled(name)
            client.delete_endpoint(EndpointName=name)


@pytest.fixture
def refused() -> Callable[..., str]:
    """Make a call that must fail with this code, and return the message."""

    def call(code: str, function: Callable[..., object], **arguments: object) -> str:
        with pytest.raises(ClientError) as caught:
            function(**arguments)
        assert caught.value.response["Error"]["Code"] == code
        return caught.value.response["Error"]["Message"]

    return call


@pytest.fixture(scope="session")
def ended() -> Callable[[list[psutil.Process]], bool]:
    """Wait until processes have ended, and say whether they have."""

    def alive(process: psutil.Process) -> bool:
        try:
            # one that has ended stays until its parent looks
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def wait(processes: list[psutil.Process]) -> bool:
        end = time.monotonic() + PATIENCE
        while any(map(alive, processes)) and time.monotonic() < end:
            time.sleep(0.05)
        return not any(map(alive, processes))

    return wait
