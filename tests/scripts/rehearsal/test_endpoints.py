import io
import json
import tarfile

import psutil
import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.integration


@pytest.fixture
def invoke(aws, record):
    client = aws.client("sagemaker-runtime")

    def ask(name, body=None, **more):
        return client.invoke_endpoint(
            EndpointName=name,
            ContentType="application/json",
            Body=json.dumps({"dataframe_records": [record]}) if body is None else body,
            **more,
        )

    return ask


def test_an_endpoint_is_created_and_answers_from_the_model(sagemaker, invoke, refused, schema):
    name = sagemaker.create("1")
    assert sagemaker.client.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
    refused("ValidationError", invoke, name=name)
    refused("ValidationException", sagemaker.client.delete_endpoint, EndpointName=name)

    described = sagemaker.settled(name)

    assert described["EndpointStatus"] == "InService"
    variant = described["ProductionVariants"][0]
    assert (variant["VariantName"], variant["CurrentInstanceCount"]) == ("AllTraffic", 1)
    assert described["DataCaptureConfig"]["CaptureStatus"] == "Started"
    answer = invoke(name)
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "model_version=1"
    predictions = json.load(answer["Body"])["predictions"]
    assert predictions[0]["prediction"] == schema.classes[1]


def test_a_refusal_of_the_model_comes_through(sagemaker, invoke):
    name = sagemaker.create("1")
    sagemaker.settled(name)

    with pytest.raises(ClientError) as caught:
        invoke(name, body="{")

    response = caught.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert "JSON" in response["OriginalMessage"]
    with pytest.raises(ClientError, match="exceeded 6291456 bytes"):
        invoke(name, body=b" " * (6 * 1024**2 + 1))


def test_an_update_moves_to_the_new_configuration(sagemaker, invoke):
    name = sagemaker.create("1")
    old = sagemaker.settled(name)["EndpointConfigName"]
    new = sagemaker.configuration("2")

    sagemaker.client.update_endpoint(EndpointName=name, EndpointConfigName=new)

    running = sagemaker.client.describe_endpoint(EndpointName=name)
    assert (running["EndpointStatus"], running["EndpointConfigName"]) == ("Updating", old)
    assert running["PendingDeploymentSummary"]["EndpointConfigName"] == new
    assert invoke(name)["CustomAttributes"] == "model_version=1"
    assert sagemaker.settled(name)["EndpointConfigName"] == new
    assert invoke(name)["CustomAttributes"] == "model_version=2"


def test_a_model_that_dies_leaves_the_old_one_in_service(sagemaker, invoke):
    name = sagemaker.create("1")
    old = sagemaker.settled(name)["EndpointConfigName"]
    broken = sagemaker.configuration("2", archive=sagemaker.pack("2")[:200])

    sagemaker.client.update_endpoint(EndpointName=name, EndpointConfigName=broken)

    described = sagemaker.settled(name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", old)
    assert "valid tar.gz archive" in described["FailureReason"]
    assert invoke(name)["CustomAttributes"] == "model_version=1"


@pytest.fixture(scope="module")
def empty() -> bytes:
    """A good archive without a model in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("MLmodel"))
    return packed.getvalue()


def test_an_endpoint_whose_model_never_started_is_failed(sagemaker, refused, empty):
    name = sagemaker.create("1", archive=empty)

    described = sagemaker.settled(name)

    assert described["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in described["FailureReason"]
    assert "error: " in described["FailureReason"]
    update = {"EndpointName": name, "EndpointConfigName": described["EndpointConfigName"]}
    refused("ValidationException", sagemaker.client.update_endpoint, **update)


def test_an_archive_cannot_write_outside_of_its_folder(sagemaker):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside"))
    name = sagemaker.create("1", archive=packed.getvalue())

    assert "../outside" in sagemaker.settled(name)["FailureReason"]


def test_an_alarm_or_the_rehearsal_rolls_an_update_back(aws, sagemaker, refused):
    name = sagemaker.create("1")
    old = sagemaker.settled(name)["EndpointConfigName"]
    alarm = f"{name}-errors"
    update = {
        "EndpointName": name,
        "EndpointConfigName": sagemaker.configuration("2"),
        "DeploymentConfig": {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {
                    "Type": "CANARY",
                    "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
                    "WaitIntervalInSeconds": 60,
                }
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]},
        },
    }
    assert alarm in refused("ValidationException", sagemaker.client.update_endpoint, **update)
    cloudwatch = aws.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        MetricName="Invocation5XXErrors",
        Namespace="AWS/SageMaker",
        Period=60,
        EvaluationPeriods=1,
        Statistic="Sum",
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="test")

    sagemaker.client.update_endpoint(**update)
    by_alarm = sagemaker.settled(name)
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="OK", StateReason="test")
    aws.roll_back(name)
    sagemaker.client.update_endpoint(**update)
    by_request = sagemaker.settled(name)
    sagemaker.client.update_endpoint(**update)
    through = sagemaker.settled(name)

    for described in (by_alarm, by_request):
        assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", old)
        assert alarm in described["FailureReason"]
    assert through["EndpointConfigName"] == update["EndpointConfigName"]
    assert through["LastDeploymentConfig"] == update["DeploymentConfig"]
    assert "FailureReason" not in through
    routing = update["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    del routing["CanarySize"]
    refused("ValidationException", sagemaker.client.update_endpoint, **update)


def test_a_request_in_an_update_is_answered_by_the_old_or_the_new_one(sagemaker, invoke):
    name = sagemaker.create("1")
    sagemaker.settled(name)
    sagemaker.client.update_endpoint(
        EndpointName=name, EndpointConfigName=sagemaker.configuration("2")
    )
    answers = []

    while len(answers) < 2 or answers[-2:] != ["model_version=2"] * 2:
        answers.append(invoke(name)["CustomAttributes"])

    assert set(answers) == {"model_version=1", "model_version=2"}
    assert answers == sorted(answers)


def test_what_exists_is_not_made_again_and_what_does_not_is_not_found(sagemaker, refused):
    client, name = sagemaker.client, sagemaker.create("1")
    config = sagemaker.settled(name)["EndpointConfigName"]
    again = {"EndpointName": name, "EndpointConfigName": config}
    model = client.describe_model(ModelName=config)
    described = client.describe_endpoint_config(EndpointConfigName=config)
    wanted = {"ProductionVariants": described["ProductionVariants"]}

    message = refused("ValidationException", client.create_endpoint, **again)
    assert message.startswith('Cannot create already existing endpoint "arn:aws:sagemaker:')
    refused(
        "ValidationException",
        client.create_model,
        ModelName=config,
        PrimaryContainer=model["PrimaryContainer"],
    )
    refused(
        "ValidationException", client.create_endpoint_config, EndpointConfigName=config, **wanted
    )
    lost = {"ModelDataUrl": "s3://rehearsal-tests/nothing", "Image": "image"}
    message = refused(
        "ValidationException", client.create_model, ModelName="lost", PrimaryContainer=lost
    )
    assert message == "Could not find model data at s3://rehearsal-tests/nothing."
    for call in (client.describe_endpoint, client.delete_endpoint):
        message = refused("ValidationException", call, EndpointName="nobody")
        assert message.startswith('Could not find endpoint "arn:aws:sagemaker:')
    for call in (client.create_endpoint, client.update_endpoint):
        refused(
            "ValidationException", call, EndpointName=name, EndpointConfigName="no-configuration"
        )
    wanted["ProductionVariants"][0]["InstanceType"] = "ml.m99.large"
    message = refused(
        "ValidationException", client.create_endpoint_config, EndpointConfigName="odd", **wanted
    )
    assert message.startswith("1 validation error detected: Value 'ml.m99.large' at")


def test_tags_are_replaced_not_repeated(sagemaker):
    name = sagemaker.create("1")
    arn = sagemaker.settled(name)["EndpointArn"]

    for value in ("1", "2"):
        tags = [{"Key": "model_version", "Value": value}]
        sagemaker.client.add_tags(ResourceArn=arn, Tags=tags)

    assert sagemaker.client.list_tags(ResourceArn=arn)["Tags"] == tags


def test_weights_instances_and_capture_survive_an_update_that_retains_them(sagemaker):
    name = sagemaker.create("1")
    sagemaker.settled(name)
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": 3, "DesiredWeight": 0.5}]
    sagemaker.client.update_endpoint_weights_and_capacities(
        EndpointName=name, DesiredWeightsAndCapacities=wanted
    )
    update = {"EndpointName": name, "EndpointConfigName": sagemaker.configuration("2")}

    sagemaker.client.update_endpoint(
        **update,
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )

    described = sagemaker.settled(name)
    variant = described["ProductionVariants"][0]
    assert (variant["CurrentInstanceCount"], variant["CurrentWeight"]) == (3, 1.0)
    assert described["DataCaptureConfig"]["DestinationS3Uri"].endswith("version=1")


def test_deleting_stops_the_containers(aws, sagemaker, refused, ended):
    server = psutil.Process(aws.pid)
    before = {child.pid for child in server.children(recursive=True)}
    name = sagemaker.create("1")
    sagemaker.settled(name)
    containers = [c for c in server.children(recursive=True) if c.pid not in before]
    assert containers

    sagemaker.client.delete_endpoint(EndpointName=name)

    described = sagemaker.client.describe_endpoint(EndpointName=name)
    assert described["EndpointStatus"] == "Deleting"
    sagemaker.client.get_waiter("endpoint_deleted").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    refused("ValidationException", sagemaker.client.describe_endpoint, EndpointName=name)
    assert ended(containers)


def test_endpoints_are_listed_by_their_true_state(sagemaker):
    name = sagemaker.create("1")
    creating = sagemaker.client.list_endpoints(NameContains=name, StatusEquals="Creating")
    sagemaker.settled(name)
    live = sagemaker.client.list_endpoints(NameContains=name, StatusEquals="InService")

    for listed in (creating, live):
        assert [endpoint["EndpointName"] for endpoint in listed["Endpoints"]] == [name]
