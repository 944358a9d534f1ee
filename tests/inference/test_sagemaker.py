"""The SageMaker endpoint: what is made in AWS, what is kept, and what happens when it fails."""

import io
import json
import re
import tarfile

import pytest
from botocore.exceptions import ClientError

from inference import endpoint
from inference.aws import client
from inference.backend import Release, create_backend
from inference.blueprint import Rollout
from inference.engine import GRAPH
from inference.errors import BackendError, ConfigurationError
from inference.local import ARTIFACTS
from inference.sagemaker import Sagemaker, SagemakerSettings
from scripts.rehearsal.aws import LocalAws

pytestmark = pytest.mark.integration

BUCKET = "rookery-endpoints"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"


@pytest.fixture(scope="module")
def _aws():
    with LocalAws(health_seconds=20) as started, pytest.MonkeyPatch.context() as patch:
        for name, value in started.environment.items():
            patch.setenv(name, value)
        # the stand-in is quicker than AWS
        patch.setattr(endpoint, "FIRST_PAUSE", 0.1)
        started.client("s3").create_bucket(Bucket=BUCKET)
        yield started


@pytest.fixture
def aws(_aws):
    """The local AWS, in which nothing fails by order of an earlier test."""
    _aws.clear_faults()
    return _aws


def options(name, **own):
    return {
        "target": name,
        "region": "us-east-1",
        "execution_role": ROLE,
        "models_uri": f"s3://{BUCKET}/{name}/models",
        "data_capture_uri": f"s3://{BUCKET}/{name}/captures/",
        "ground_truth_uri": f"s3://{BUCKET}/{name}/ground-truth",
        "image": "serving:1",
        "rollout": {"watch_seconds": 0},
        "tags": {"project": "penguins"},
    } | own


@pytest.fixture
def make(aws, request):
    """Make a backend with an endpoint of the test's own."""
    name = re.sub(r"[^a-z]+", "-", request.node.name.removeprefix("test_").lower())[:30].strip("-")

    def make(**own):
        return Sagemaker(SagemakerSettings(**options(name, **own)))

    return make


def keys(aws, prefix):
    found = aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [one["Key"] for one in found]


def models(aws, name):
    found = aws.client("sagemaker").list_models(NameContains=f"{name}-v")["Models"]
    # moto gives all of them
    return [one["ModelName"] for one in found if one["ModelName"].startswith(f"{name}-v")]


def alarms(aws, name):
    """Thresholds of the endpoint's alarms, by metric."""
    found = aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{name}-")["MetricAlarms"]
    return {one["MetricName"]: one["Threshold"] for one in found}


def interrupt(monkeypatch, work, *arguments):
    """Press Ctrl-C as soon as something waits for the endpoint, however soon that is at rest."""

    def press_ctrl_c(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(endpoint.Endpoint, "_wait", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            work(*arguments)


def test_what_is_made_in_aws(aws, make, release):
    backend = make(rollout={"kind": "canary", "percent": 25, "watch_seconds": 60}, instance_count=4)
    backend.deploy(release("3"))
    name = backend.settings.target
    sagemaker = aws.client("sagemaker")

    found = sagemaker.describe_endpoint(EndpointName=name)
    config = found["EndpointConfigName"]
    assert re.fullmatch(rf"{name}-v3-\d{{14}}", config)
    tags = {
        tag["Key"]: tag["Value"]
        for tag in sagemaker.list_tags(ResourceArn=found["EndpointArn"])["Tags"]
    }
    assert tags == {"project": "penguins", "model_version": "3", "run_id": "run-3"}

    described = sagemaker.describe_endpoint_config(EndpointConfigName=config)
    [variant] = described["ProductionVariants"]
    assert (variant["VariantName"], variant["InstanceType"], variant["InitialInstanceCount"]) == (
        "AllTraffic",
        "ml.m5.large",
        4,
    )
    capture = described["DataCaptureConfig"]
    assert capture["EnableCapture"]
    assert capture["InitialSamplingPercentage"] == 100
    assert capture["DestinationS3Uri"] == f"s3://{BUCKET}/{name}/captures/version=3"
    assert capture["CaptureOptions"] == [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
    assert capture["CaptureContentTypeHeader"]["JsonContentTypes"] == ["application/json"]

    model = sagemaker.describe_model(ModelName=config)
    assert model["ExecutionRoleArn"] == ROLE
    container = model["PrimaryContainer"]
    assert container["Environment"] == {
        "MODEL_VERSION": "3",
        "MODEL_RUN_ID": "run-3",
        "LOG_FORMAT": "json",
    }
    key = container["ModelDataUrl"].removeprefix(f"s3://{BUCKET}/")
    packed = aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = archive.getnames()
    assert str(ARTIFACTS / GRAPH) in names

    assert alarms(aws, name) == {"Invocation5XXErrors": 0.01, "ModelLatency": 500_000.0}

    # an update keeps the capture, and names the alarms that end it
    backend.deploy(release("4"))
    found = sagemaker.describe_endpoint(EndpointName=name)
    assert found["DataCaptureConfig"]["EnableCapture"]
    policy = found["LastDeploymentConfig"]
    assert policy["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 60,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 25},
    }
    names = [one["AlarmName"] for one in policy["AutoRollbackConfiguration"]["Alarms"]]
    assert names == [f"{name}-5xx", f"{name}-latency"]
    tags = {
        tag["Key"]: tag["Value"]
        for tag in sagemaker.list_tags(ResourceArn=found["EndpointArn"])["Tags"]
    }
    assert (tags["model_version"], tags["run_id"]) == ("4", "run-4")


def test_training_rows_are_not_uploaded(aws, make, release):
    backend, model = make(), release("1")
    # the names that training and MLflow give them
    (model.path / ARTIFACTS / "reference.parquet").write_bytes(b"rows of training")
    for name in ("input_example.json", "serving_input_example.json"):
        (model.path / name).write_bytes(b"rows of training")
    backend.deploy(model)
    [key] = keys(aws, f"{backend.settings.target}/models/")
    packed = aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        packed = {name: archive.extractfile(name) for name in archive.getnames()}
        rows = [name for name, file in packed.items() if file and b"of training" in file.read()]
    assert str(ARTIFACTS / GRAPH) in packed
    assert not rows


def test_last_configurations_are_kept_and_older_ones_removed(aws, make, release):
    backend = make()
    for version in "12345":
        backend.deploy(release(version))

    versions = [backend.endpoint.version_of(one) for one in backend.endpoint.configurations()]
    assert versions == ["5", "4", "3", "2"]
    name = backend.settings.target
    assert len(models(aws, name)) == len(keys(aws, f"{name}/models/")) == 4

    before = keys(aws, f"{name}/models/")
    assert backend.rollback() == "4"
    assert keys(aws, f"{name}/models/") == before

    backend.endpoint.delete()
    assert backend.status().state == "none"
    assert backend.endpoint.configurations() == []
    assert keys(aws, f"{name}/models/") == []
    assert not alarms(aws, name)


def test_an_endpoint_whose_name_begins_like_another_ones_is_left_alone(make, release):
    one, other = make(), make(target=f"{make().settings.target}-v2")
    other.deploy(release("3"))
    one.deploy(release("1"))
    assert len(one.endpoint.configurations()) == 1
    one.endpoint.delete()
    assert len(other.endpoint.configurations()) == 1
    assert other.status().version == "3"


@pytest.mark.parametrize(
    ("live", "undo"),
    [
        ((), "`just sagemaker-delete`"),
        (("1",), "`just sagemaker-rollback --to 1`"),
        # the version before it, which the tag named until now, is no way back
        (("0", "1"), "`just sagemaker-rollback --to 1`"),
        (("2",), "`just sagemaker-deploy` with the settings of before"),
    ],
)
def test_whoever_is_interrupted_learns_that_aws_goes_on(
    make, release, monkeypatch, caplog, live, undo
):
    target = "-".join(["interrupted", *live])
    for version in live:
        make(target=target).deploy(release(version))

    interrupt(monkeypatch, make(target=target, instance_type="ml.c5.large").deploy, release("2"))

    [told] = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "AWS goes on with version 2" in told
    assert f"{undo} then undoes it" in told


def test_way_back_from_what_went_live_by_itself_is_to_what_was_live_before(
    make, release, record, monkeypatch
):
    backend = make()
    backend.deploy(release("1"))
    backend.deploy(release("2"))
    interrupt(monkeypatch, backend.deploy, release("3"))
    assert backend.status().previous is None

    backend.endpoint._wait("updated")

    assert (backend.status().version, backend.status().previous) == ("3", "2")
    assert backend.rollback() == "2"
    assert backend.invoke([record]).model_version == "2"
    assert backend.status().previous == "3"


def test_interrupted_way_back_can_be_undone(make, release, monkeypatch):
    backend = make()
    for version in "123":
        backend.deploy(release(version))
    interrupt(monkeypatch, backend.rollback)

    backend.endpoint._wait("updated")

    assert (backend.status().version, backend.status().previous) == ("2", "3")


def test_what_fails_by_itself_leaves_no_way_back_to_where_one_is(make, release, monkeypatch):
    backend = make()
    backend.deploy(release("1"))
    interrupt(monkeypatch, backend.deploy, dying(release("2")))

    backend.endpoint._wait("updated")

    assert (backend.status().version, backend.status().previous) == ("1", None)
    with pytest.raises(BackendError, match="nothing to roll back to"):
        backend.rollback()


def test_same_version_with_other_settings_is_deployed_again(make, release):
    make().deploy(release("1"))
    other = make(instance_type="ml.c5.large")
    other.deploy(release("1"))
    assert len(other.endpoint.configurations()) == 2
    assert other.status().version == "1"


def dying(release: Release) -> Release:
    """Break a version so that it answers here, but not where it is unpacked."""
    graph = release.path / ARTIFACTS / GRAPH
    elsewhere = release.path.parent / f"{release.path.name}-{GRAPH}"
    graph.rename(elsewhere)
    graph.symlink_to(elsewhere)
    return release


def test_first_version_that_dies_leaves_nothing(aws, make, release):
    backend = make()
    with pytest.raises(
        BackendError, match=r"could not be created with version 1: .*nothing is served"
    ):
        backend.deploy(dying(release("1")))
    assert backend.status().state == "none"
    assert backend.endpoint.configurations() == []
    assert keys(aws, f"{backend.settings.target}/models/") == []


def test_later_version_that_dies_leaves_the_former_one(aws, make, release, record):
    backend = make()
    backend.deploy(release("1"))
    with pytest.raises(
        BackendError, match=r"version 2 did not go live .*; version 1 goes on serving"
    ):
        backend.deploy(dying(release("2")))
    assert backend.invoke([record]).model_version == "1"
    assert backend.status().previous is None
    assert len(backend.endpoint.configurations()) == 1


def test_way_back_to_a_model_that_dies_at_start_tells_why(aws, make, release, record):
    backend = make()
    backend.deploy(release("1"))
    [key] = keys(aws, f"{backend.settings.target}/models/")
    backend.deploy(release("2"))
    broken = release("1")
    (broken.path / ARTIFACTS / GRAPH).write_bytes(b"no graph")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(broken.path, ".")
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=packed.getvalue())

    with pytest.raises(
        BackendError, match=rf"version 1 did not go live .*{GRAPH}.*version 2 goes on serving"
    ):
        backend.rollback()

    assert backend.invoke([record]).model_version == "2"
    assert backend.status().version == "2"


@pytest.mark.parametrize("action", ["AddTags", "UpdateEndpoint"])
def test_way_back_is_the_same_after_an_update_that_was_refused(aws, make, release, action):
    backend = make(target=f"refused-{action.lower()}")
    backend.deploy(release("1"))
    backend.deploy(release("2"))
    aws.fault("sagemaker", action, "AccessDeniedException", "not authorized", status=403)
    with pytest.raises(BackendError, match=f"sagemaker:{action} of endpoint "):
        backend.deploy(release("3"))
    assert (backend.status().version, backend.status().previous) == ("2", "1")
    assert len(backend.endpoint.configurations()) == 2


def test_way_back_is_the_same_after_a_version_that_died(make, release):
    backend = make()
    backend.deploy(release("1"))
    backend.deploy(release("2"))
    with pytest.raises(BackendError, match="version 2 goes on serving"):
        backend.deploy(dying(release("3")))
    assert backend.rollback() == "1"


def test_alarm_of_the_version_that_goes_does_not_end_its_rollback(aws, make, release, record):
    backend = make()
    backend.deploy(release("1"))
    backend.deploy(release("2"))
    name = backend.settings.target
    aws.client("cloudwatch").set_alarm_state(
        AlarmName=f"{name}-5xx", StateValue="ALARM", StateReason="version 2 fails"
    )

    assert backend.rollback() == "1"

    assert backend.invoke([record]).model_version == "1"
    found = aws.client("sagemaker").describe_endpoint(EndpointName=name)
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    assert found["LastDeploymentConfig"] == {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}
    }


def test_changed_alarms_need_no_new_version(aws, make, release):
    backend = make()
    backend.deploy(release("1"))
    name = backend.settings.target

    make(alarms={"share_of_5xx": 0.2, "latency_ms": 900}).deploy(release("1"))
    assert alarms(aws, name) == {"Invocation5XXErrors": 0.2, "ModelLatency": 900_000.0}

    make(alarms=None).deploy(release("1"))
    assert not alarms(aws, name)
    assert len(backend.endpoint.configurations()) == 1


@pytest.mark.parametrize(
    ("rollout", "seconds"),
    [
        ({"watch_seconds": 180}, 180),
        ({"kind": "canary", "percent": 1, "watch_seconds": 3600}, 7200),
        ({"kind": "linear", "percent": 50, "watch_seconds": 60}, 120),
        ({"kind": "linear", "percent": 30, "watch_seconds": 60}, 240),
        ({"kind": "linear", "percent": 10, "watch_seconds": 3600}, 36_000),
    ],
)
def test_time_that_a_rollout_takes(rollout, seconds):
    assert Rollout(**rollout).total_seconds == seconds


def test_time_of_the_rollout_is_waited_for_too(make, release, monkeypatch):
    backend = make()
    backend.deploy(release("1"))
    with monkeypatch.context() as patch:
        patch.setattr(endpoint, "PATIENCE_SECONDS", 0.0)
        make(rollout={"watch_seconds": 60}).deploy(release("2"))
        with pytest.raises(BackendError, match="is still Updating after 0 minutes"):
            backend.deploy(release("3"))

    backend.endpoint._wait("updated")

    assert (backend.status().version, backend.status().previous) == ("3", "2")


def test_rollback_by_an_alarm_is_a_failure(aws, make, release, record):
    backend = make()
    backend.deploy(release("1"))
    aws.roll_back(backend.settings.target)
    with pytest.raises(
        BackendError, match=r"version 2 did not go live .*version 1 goes on serving"
    ):
        backend.deploy(release("2"))
    assert backend.invoke([record]).model_version == "1"
    assert len(backend.endpoint.configurations()) == 1


def test_model_that_is_wrong_with_a_request_says_so(make, release, record):
    backend = make()
    backend.deploy(release("1"))
    with pytest.raises(BackendError, match=r"answered 422: row 0, column 'sex'"):
        backend.invoke([record | {"sex": 3}])


def test_throttled_requests_are_sent_again(aws, make, release, record):
    backend = make()
    backend.deploy(release("1"))
    aws.fault("sagemaker", "InvokeEndpoint", "ThrottlingException", times=2)
    assert backend.invoke([record]).predictions
    aws.fault("sagemaker", "InvokeEndpoint", "ServiceUnavailable", status=503, times=2)
    assert backend.invoke([record]).predictions


@pytest.mark.parametrize(
    ("service", "action", "call"),
    [
        ("s3", "PutObject", "s3:PutObject of s3://"),
        ("sagemaker", "CreateModel", "sagemaker:CreateModel of model "),
        ("sagemaker", "CreateEndpointConfig", "sagemaker:CreateEndpointConfig of endpoint conf"),
        ("monitoring", "PutMetricAlarm", "cloudwatch:PutMetricAlarm of endpoint "),
        ("sagemaker", "CreateEndpoint", "sagemaker:CreateEndpoint of endpoint "),
    ],
)
def test_denied_call_is_named_and_leaves_nothing(aws, make, release, service, action, call):
    backend = make()
    aws.fault(service, action, "AccessDeniedException", "not authorized", status=403)
    with pytest.raises(BackendError, match=call) as caught:
        backend.deploy(release("1"))
    assert "AccessDeniedException: not authorized; let whoever asks do" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert backend.endpoint.configurations() == []
    name = backend.settings.target
    assert models(aws, name) == []
    assert keys(aws, f"{name}/models/") == []


def test_instance_type_that_is_not_there(make, release):
    with pytest.raises(BackendError, match=r"CreateEndpointConfig .*ml\.nothing\.large"):
        make(instance_type="ml.nothing.large").deploy(release("1"))


def test_bucket_that_is_not_there(make, release):
    backend = make(models_uri="s3://nobodys-bucket-at-all/models")
    with pytest.raises(BackendError, match=r"NoSuchBucket.*run `just aws-setup`"):
        backend.deploy(release("1"))


def test_expired_credentials(aws, make, record):
    aws.fault("sagemaker", "DescribeEndpoint", "ExpiredTokenException", "expired", times=-1)
    with pytest.raises(BackendError, match=r"DescribeEndpoint of .*they have expired: renew them"):
        make().status()


def test_no_credentials(make, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(BackendError, match="there are no AWS credentials; set AWS_PROFILE"):
        make().status()


def test_role_is_assumed(aws, make, release, record, monkeypatch):
    trust = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
    }
    role = aws.client("iam").create_role(
        RoleName="people", AssumeRolePolicyDocument=json.dumps(trust)
    )["Role"]["Arn"]
    sts = client("sts", "us-east-1", role)
    assert ":assumed-role/people/rookery" in sts.get_caller_identity()["Arn"]
    backend = make(assume_role=role)
    backend.deploy(release("1"))
    assert backend.invoke([record]).model_version == "1"

    aws.fault("sts", "AssumeRole", "AccessDenied", "not authorized", status=403, times=-1)
    with pytest.raises(BackendError, match="sts:AssumeRole of the role of AWS_ROLE"):
        make(assume_role=role).status()


def test_endpoint_that_somebody_changes_is_left_alone(aws, make, release):
    backend = make()
    backend.deploy(release("1"))
    sagemaker = aws.client("sagemaker")
    name = backend.settings.target
    [config] = backend.endpoint.configurations()
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    with pytest.raises(BackendError, match="is Updating already; wait until it is InService"):
        backend.deploy(release("2"))
    backend.endpoint._wait("updated")
    backend.deploy(release("2"))
    assert backend.status().version == "2"


def test_endpoint_that_could_not_be_created_is_made_again(aws, make, release):
    backend = make()
    sagemaker = aws.client("sagemaker")
    name = f"{backend.settings.target}-v1-20260101000000"
    aws.client("s3").put_object(Bucket=BUCKET, Key="damaged.tar.gz", Body=b"no archive")
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": "x", "ModelDataUrl": f"s3://{BUCKET}/damaged.tar.gz"},
    )
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m5.large"}
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant | {"InitialInstanceCount": 1}]
    )
    sagemaker.create_endpoint(EndpointName=backend.settings.target, EndpointConfigName=name)
    assert backend.endpoint._wait("created")["EndpointStatus"] == "Failed"

    backend.deploy(release("2"))

    assert backend.status().version == "2"


def test_serverless_endpoint_captures_nothing(aws, make, release, record, caplog):
    backend = make(serverless={"memory_mb": 1024}, alarms=None)
    backend.deploy(release("1"))
    assert "captures nothing" in caplog.text
    assert not backend.status().captures
    assert backend.invoke([record]).model_version == "1"


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"target": "no_underscore"}, "target"),
        ({"target": "x" * 41}, "target"),
        ({"region": "Europe"}, "region"),
        ({"execution_role": "sagemaker"}, "execution_role"),
        ({"models_uri": "bucket/models"}, "models_uri"),
        ({"ground_truth_uri": "https://bucket"}, "ground_truth_uri"),
        ({"instance_type": "m5.large"}, "instance_type"),
        ({"rollout": {"kind": "canary"}}, "needs two instances or more"),
        ({"rollout": {"kind": "sudden"}}, "rollout.kind"),
        (
            {"rollout": {"kind": "linear", "percent": 9}, "instance_count": 20},
            "rollout: rollout linear needs a percent of 10 or more",
        ),
        ({"serverless": {"memory_mb": 1000}}, "serverless.memory_mb"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_are_refused(own, problem):
    with pytest.raises(ConfigurationError, match=problem):
        create_backend("backend.Sagemaker", options("penguins", **own))


def test_nothing_is_hidden_of_an_unexpected_error(aws, make):
    aws.fault("sagemaker", "DescribeEndpoint", "ValidationException", "nothing about absence")
    with pytest.raises(BackendError, match="nothing about absence") as caught:
        make().status()
    assert isinstance(caught.value.__cause__, ClientError)
