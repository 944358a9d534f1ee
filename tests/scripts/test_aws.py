"""`aws.py` against a local AWS."""

import itertools
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.loaders
import pytest
import requests
from dotenv import dotenv_values
from typer.testing import CliRunner

from scripts import aws, aws_stacks
from scripts.rehearsal.aws import LocalAws

pytestmark = [
    pytest.mark.integration,
    # what moto leaves out, and does not matter here
    pytest.mark.filterwarnings("ignore:Tried to parse AWS..S3..BucketPolicy"),
]

SECRET_KEY = "secret-of-the-administrator"  # noqa: S105 - nobody's
STILL_BILLED = (
    "endpoint penguins is still there, and billed; run `ENDPOINT_NAME=penguins just"
    " sagemaker-delete` first"
)
FILES = (".env", ".aws/credentials", ".aws/config", ".metaflow/config_production.json")


@pytest.fixture(scope="module")
def local_aws():
    """A local AWS."""
    with LocalAws() as running, pytest.MonkeyPatch.context() as patch:
        # half of a command's time is botocore reading what AWS's services are: once will do
        known = botocore.loaders.create_loader()
        patch.setattr(botocore.loaders, "create_loader", lambda *_: known)
        yield running


class Cloud:
    """A local AWS without anything in it, and a home without AWS's files."""

    def __init__(self, home):
        self.home, self.said = home, ""

    def run(self, *words, yes=True):
        result = CliRunner().invoke(aws.app, [*words, *(["--yes"] if yes else [])])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        self.said += result.output
        return result

    def client(self, service):
        return boto3.client(service)

    def read(self):
        """What all files hold, and when they were written."""
        found = [self.home / name for name in FILES]
        return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in found}


@pytest.fixture
def cloud(local_aws, tmp_path, monkeypatch):
    assert requests.post(f"{local_aws.url}/moto-api/reset", timeout=60).ok
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_", "METAFLOW_"))]:
        monkeypatch.delenv(name)
    variables = {
        "HOME": tmp_path,
        "ROOKERY_ENV_FILE": tmp_path / ".env",
        "METAFLOW_HOME": tmp_path / ".metaflow",
        "AWS_ENDPOINT_URL": local_aws.url,
        "AWS_ACCESS_KEY_ID": "AKIAADMINISTRATOR",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "ENDPOINT_NAME": "",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    return Cloud(tmp_path)


def test_first_run_makes_the_stack_and_writes_how_it_is_reached(cloud):
    result = cloud.run("setup", "me")
    assert result.exit_code == 0, result.output
    account, region = "123456789012", "us-east-1"
    assert f"account {account}, region {region}" in result.output
    assert dotenv(cloud) == {
        "AWS_PROFILE": "rookery",
        "AWS_REGION": region,
        "BUCKET": f"rookery-{account}-{region}",
        "ENDPOINT_NAME": "penguins",
        "SAGEMAKER_ROLE": output(cloud, "SagemakerRole"),
        "SERVING_IMAGE": f"{account}.dkr.ecr.{region}.amazonaws.com/rookery/serving:latest",
        "TASK_IMAGE": f"{account}.dkr.ecr.{region}.amazonaws.com/rookery/tasks:latest",
    }
    metaflow = json.loads((cloud.home / FILES[3]).read_text())
    assert metaflow["METAFLOW_DATASTORE_SYSROOT_S3"] == f"s3://rookery-{account}-{region}/metaflow"
    queue = metaflow["METAFLOW_BATCH_JOB_QUEUE"]
    assert cloud.client("batch").describe_job_queues(jobQueues=[queue])["jobQueues"]
    assert (
        metaflow["METAFLOW_SFN_DYNAMO_DB_TABLE"]
        in cloud.client("dynamodb").list_tables()["TableNames"]
    )
    assert all(isinstance(value, str) and value for value in metaflow.values())
    for name in FILES:
        assert stat.S_IMODE((cloud.home / name).stat().st_mode) == 0o600
    # the profile works, under the role of people
    session = boto3.Session(profile_name="rookery")
    assert "assumed-role/rookery-people-" in session.client("sts").get_caller_identity()["Arn"]
    assert session.region_name == region


def test_second_run_changes_nothing(cloud):
    cloud.run("setup", "me")
    before, keys = cloud.read(), access_keys(cloud)
    result = cloud.run("setup", "me")
    assert result.exit_code == 0, result.output
    assert "nothing to change" in result.output
    assert cloud.read() == before
    assert access_keys(cloud) == keys
    assert not list(cloud.home.rglob("*.before-rookery"))


def test_second_run_works_as_the_administrator_although_env_names_the_role(cloud, monkeypatch):
    cloud.run("setup", "me")
    # what just reads from .env
    monkeypatch.setenv("AWS_PROFILE", "rookery")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    credentials = cloud.home / ".aws" / "credentials"
    with credentials.open("a") as file:
        file.write("\n[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n")
    result = cloud.run("setup", "me")
    assert result.exit_code == 0, result.output
    assert "assumed-role" not in result.output


def test_a_key_that_is_gone_is_made_anew(cloud):
    cloud.run("setup", "me")
    old = access_keys(cloud)[0]
    cloud.client("iam").delete_access_key(UserName="me", AccessKeyId=old)
    assert cloud.run("setup", "me").exit_code == 0
    new = access_keys(cloud)
    assert new != [old]
    assert new[0] in (cloud.home / ".aws" / "credentials").read_text()


OTHERS = {
    ".env": "# mine\nKERAS_BACKEND=tensorflow\n\nBUCKET=\nAWS_REGION=eu-west-1 # here\nLAST='x y'",
    ".aws/credentials": "[default]\n; work\naws_access_key_id=AKIA\naws_secret_access_key = y\n",
    ".aws/config": "[default]\nregion = eu-west-1\ns3 =\n    max_queue_size = 10\n\n"
    "[profile other]\nregion=eu-west-2\n",
    ".metaflow/config_production.json": '{"METAFLOW_USER": "me", "N": 3}',
}


@pytest.fixture
def others(cloud):
    """Files of somebody who has other things in them."""
    for name, text in OTHERS.items():
        file = cloud.home / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return cloud


def test_what_else_stands_in_the_files_stays(others):
    result = others.run("setup", "me")
    assert "it had other values of AWS_REGION" in result.output
    lines = (others.home / ".env").read_text().split("\n")
    assert lines[:4] == [*OTHERS[".env"].split("\n")[:3], f"BUCKET={output(others, 'Bucket')}"]
    assert lines[4:6] == ["AWS_REGION=us-east-1", "LAST='x y'"]
    for name in FILES[1:3]:
        assert (others.home / name).read_text().startswith(OTHERS[name])
    metaflow = json.loads((others.home / FILES[3]).read_text())
    assert (metaflow["METAFLOW_USER"], metaflow["N"]) == ("me", 3)
    for name, text in OTHERS.items():
        backup = others.home / f"{name}.before-rookery"
        assert backup.read_text() == text
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_what_somebody_writes_meanwhile_stays_too(others, monkeypatch):
    opened = aws.Account.open

    def open_later(region):
        file = others.home / ".env"
        file.write_text(f"MEANWHILE=1\n{file.read_text()}")
        return opened(region)

    monkeypatch.setattr(aws.Account, "open", open_later)
    others.run("setup", "me")
    assert "MEANWHILE=1\n" in (others.home / ".env").read_text()
    others.run("teardown")
    assert (others.home / ".env").read_text().startswith("MEANWHILE=1\n" * 2 + "# mine\n")


def test_teardown_leaves_what_else_stood_in_the_files(others):
    others.run("setup", "me")
    assert others.run("teardown").exit_code == 0
    for name in FILES[1:3]:
        assert (others.home / name).read_text() == OTHERS[name]
        assert not (others.home / f"{name}.before-rookery").exists()
    assert json.loads((others.home / FILES[3]).read_text()) == json.loads(OTHERS[FILES[3]])
    assert dotenv(others) == {"KERAS_BACKEND": "tensorflow", "LAST": "x y"}


def test_teardown_removes_stacks_objects_keys_and_files(cloud):
    cloud.run("setup", "me")
    cloud.run("pem")
    cloud.run("mlflow", "--cidr", "203.0.113.7/32")
    bucket, s3 = output(cloud, "Bucket"), cloud.client("s3")
    # moto does not read this from the stack
    versioned = {"Status": "Enabled"}
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=versioned)
    for number in range(3):
        s3.put_object(Bucket=bucket, Key="captures/x", Body=str(number).encode())
    s3.delete_object(Bucket=bucket, Key="captures/x")
    result = cloud.run("teardown")
    assert result.exit_code == 0, result.output
    assert f"bucket {bucket} with 4 objects and versions" in result.output
    assert not s3.list_buckets()["Buckets"]
    assert not cloud.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE"])[
        "StackSummaries"
    ]
    assert not cloud.client("iam").list_users()["Users"]
    assert not cloud.client("ec2").describe_key_pairs()["KeyPairs"]
    assert not [file for file in cloud.home.rglob("*") if file.is_file()]


def test_teardown_without_anything_says_so(cloud):
    result = cloud.run("teardown")
    assert result.exit_code == 0
    assert "there is nothing to remove" in result.output


def test_teardown_cleans_up_after_a_stack_that_is_gone(cloud):
    cloud.run("setup", "me")
    remove_stack(cloud)
    assert cloud.run("teardown").exit_code == 0
    assert not [file for file in cloud.home.rglob("*") if file.is_file()]


def test_teardown_elsewhere_says_where_the_files_lead_and_changes_nothing(cloud):
    cloud.run("setup", "me")
    before = cloud.read()
    told = one_error(cloud.run("teardown", "eu-west-1"))
    assert told.startswith("account 123456789012, region eu-west-1: there is nothing to remove;")
    assert "lead to account 123456789012, region us-east-1: " in told
    assert cloud.read() == before
    assert output(cloud, "Bucket")


@pytest.mark.parametrize("name", [".env", ".aws/config"])
def test_teardown_with_another_account_changes_nothing(cloud, name):
    cloud.run("setup", "me")
    # moto has one account only: the other's stack is not seen from it
    remove_stack(cloud)
    file = cloud.home / name
    ours, others = "arn:aws:iam::123456789012", "arn:aws:iam::210987654321"
    file.write_text(file.read_text().replace(ours, others))
    before = cloud.read()
    told = one_error(cloud.run("teardown"))
    assert "lead to account 210987654321, region us-east-1: " in told
    assert cloud.read() == before


def test_teardown_of_another_region_leaves_the_files_of_this_one(cloud):
    cloud.run("setup", "you", "eu-west-1")
    cloud.run("setup", "me")
    before = cloud.read()
    result = cloud.run("teardown", "eu-west-1")
    assert result.exit_code == 0, result.output
    assert "they lead to account 123456789012, region us-east-1" in result.output
    assert cloud.read() == before
    assert [user["UserName"] for user in cloud.client("iam").list_users()["Users"]] == ["me"]
    assert cloud.run("teardown").exit_code == 0
    assert not [file for file in cloud.home.rglob("*") if file.is_file()]


def test_teardown_works_where_the_files_are_gone(cloud):
    cloud.run("setup", "me")
    for file in cloud.read():
        file.unlink()
    assert cloud.run("teardown").exit_code == 0
    assert not cloud.client("cloudformation").describe_stacks()["Stacks"]


def test_teardown_refuses_while_the_endpoint_is_billed(cloud, endpoint):
    result = cloud.run("teardown")
    assert one_error(result) == STILL_BILLED
    assert cloud.client("s3").list_buckets()["Buckets"]


def test_setup_refuses_another_name_while_the_endpoint_is_billed(cloud, endpoint, monkeypatch):
    before = cloud.read()
    monkeypatch.setenv("ENDPOINT_NAME", "other")
    assert one_error(cloud.run("setup", "me")) == STILL_BILLED
    assert cloud.read() == before
    cloud.client("sagemaker").delete_endpoint(EndpointName=endpoint)
    assert cloud.run("setup", "me").exit_code == 0
    assert dotenv(cloud)["ENDPOINT_NAME"] == "other"


@pytest.fixture
def endpoint(cloud):
    """The endpoint that the policies of a stack allow."""
    cloud.run("setup", "me")
    sagemaker = cloud.client("sagemaker")
    role = output(cloud, "SagemakerRole")
    bucket = output(cloud, "Bucket")
    cloud.client("s3").put_object(Bucket=bucket, Key="models/none", Body=b"no model at all")
    container = {"Image": "i", "ModelDataUrl": f"s3://{bucket}/models/none"}
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": "m", "InstanceType": "ml.m4.xlarge"}
    variant |= {"InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="penguins", EndpointConfigName="c")
    yield "penguins"
    # moto's reset leaves it
    for one in sagemaker.list_endpoints()["Endpoints"]:
        sagemaker.delete_endpoint(EndpointName=one["EndpointName"])


@pytest.mark.parametrize(
    "words", [("setup", "me"), ("teardown",), ("mlflow", "--cidr", "10.0.0.0/8"), ("pem",)]
)
def test_nothing_happens_where_nobody_can_agree(cloud, words):
    if words[0] in {"teardown", "mlflow"}:
        cloud.run("setup", "me")
    stacks = cloud.client("cloudformation").describe_stacks()["Stacks"]
    files = sorted(cloud.home.rglob("*"))
    result = cloud.run(*words, yes=False)
    assert one_error(result) == "nobody is there to ask; --yes does it without asking"
    assert cloud.client("cloudformation").describe_stacks()["Stacks"] == stacks
    assert sorted(cloud.home.rglob("*")) == files


def test_a_resource_that_fails_is_named_and_nothing_is_written(cloud):
    # somebody has a user of that name
    cloud.client("iam").create_user(UserName="me")
    result = cloud.run("setup", "me")
    error = one_error(result)
    assert error.startswith("stack rookery: UserAccount (AWS::IAM::User) failed: ")
    assert "already exists" in error
    assert "ROLLBACK_COMPLETE" in error
    assert not [file for file in cloud.home.rglob("*") if file.is_file()]


def test_the_run_after_a_failed_one_starts_anew(cloud):
    cloud.client("iam").create_user(UserName="me")
    cloud.run("setup", "me")
    cloud.client("iam").delete_user(UserName="me")
    result = cloud.run("setup", "me")
    assert result.exit_code == 0, result.output
    assert "removing what a failed attempt has left" in result.output
    assert dotenv(cloud)["AWS_PROFILE"] == "rookery"


def test_another_user_does_not_replace_the_first(cloud):
    cloud.run("setup", "me")
    result = cloud.run("setup", "you")
    assert one_error(result).startswith("stack rookery was made for the user me, who would be")
    assert [user["UserName"] for user in cloud.client("iam").list_users()["Users"]] == ["me"]


def test_damaged_files_are_found_before_anything_is_made(cloud):
    file = cloud.home / FILES[3]
    file.parent.mkdir()
    file.write_text("{")
    assert one_error(cloud.run("setup", "me")).startswith(f"{file}: not JSON (")
    assert not cloud.client("cloudformation").describe_stacks()["Stacks"]


def test_a_file_that_cannot_be_written_changes_none_and_leaves_no_key(cloud, monkeypatch):
    replace = Path.replace

    def full(path, target):
        if Path(target).name == "config_production.json":
            raise OSError(28, "No space left on device", str(target))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    assert "No space left on device" in one_error(cloud.run("setup", "me"))
    assert not [file for file in cloud.home.rglob("*") if file.is_file()]
    assert access_keys(cloud) == []


def test_no_credentials(cloud, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert one_error(cloud.run("setup", "me")).startswith(
        "sts:GetCallerIdentity of this account: there are no AWS credentials; set AWS_PROFILE"
    )


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (
            ("sts", "GetCallerIdentity", "ExpiredToken"),
            r"sts:GetCallerIdentity of this account: ExpiredToken: .* they have expired: renew .*",
        ),
        (
            ("cloudformation", "CreateChangeSet", "AccessDenied"),
            r"cloudformation:CreateChangeSet of stack rookery: AccessDenied: .* let whoever asks.*",
        ),
        (
            ("cloudformation", "DescribeStacks", "AccessDenied"),
            r"cloudformation:DescribeStacks of stack rookery: AccessDenied: .*",
        ),
    ],
)
def test_a_call_that_fails_is_one_line(cloud, local_aws, fault, error):
    local_aws.fault(*fault, times=1)
    result = cloud.run("setup", "me")
    local_aws.clear_faults()
    assert re.fullmatch(error, one_error(result))
    assert not [file for file in cloud.home.rglob("*") if file.is_file()]


def test_no_region(cloud, monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert "no region is given; set AWS_REGION" in one_error(cloud.run("setup", "me"))


@pytest.mark.parametrize(
    "cidr", ["0.0.0.0/0", "203.0.113.7/4", "everybody", "203.0.113.7/24", "::/0"]
)
def test_the_server_is_not_opened_to_strangers(cloud, cidr):
    result = cloud.run("mlflow", "--cidr", cidr)
    assert one_error(result).startswith("--cidr: ")
    assert "such as --cidr 203.0.113.7/32" in result.output


def test_mlflow_needs_the_project(cloud):
    result = cloud.run("mlflow", "--cidr", "203.0.113.7/32")
    assert one_error(result) == "there is no stack rookery; run `just aws-setup` first"


def test_mlflow_starts_and_is_used_from_then_on(cloud):
    cloud.run("setup", "me")
    result = cloud.run("mlflow", "--cidr", "203.0.113.7/32")
    assert result.exit_code == 0, result.output
    variables = dotenv(cloud)
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=variables["MLFLOW_SECRET"])
    account = json.loads(secret["SecretString"])
    assert account.items() <= variables.items()
    uri = variables["MLFLOW_TRACKING_URI"]
    assert re.fullmatch(r"http://ec2(-\d+){4}\.compute-1\.amazonaws\.com:5000", uri)
    before = cloud.read()
    assert cloud.run("mlflow", "--cidr", "203.0.113.7/32").exit_code == 0
    assert cloud.read() == before
    assert open_ports(cloud) == {5000: {"203.0.113.7/32", "tasks"}}


def test_port_22_is_open_only_where_there_is_a_key(cloud):
    cloud.run("setup", "me")
    cloud.run("pem")
    cloud.run("mlflow", "--cidr", "203.0.113.7/32")
    assert open_ports(cloud) == {5000: {"203.0.113.7/32", "tasks"}, 22: {"203.0.113.7/32"}}


def test_the_key_is_made_once_and_private(cloud):
    cloud.run("pem")
    file = cloud.home / ".ssh" / "rookery-us-east-1.pem"
    text = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "PRIVATE KEY" in text
    assert "is there already" in cloud.run("pem").output
    assert file.read_text() == text
    file.unlink()
    assert "AWS keeps no private keys" in one_error(cloud.run("pem"))


@pytest.fixture
def programs(cloud, monkeypatch):
    """Stand-ins of `ssh` and `aws` that say how they were called."""
    folder = cloud.home / "programs"
    folder.mkdir()
    for name in ("aws", "ssh"):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_shell_by_session_manager_or_with_the_key(cloud, programs):
    cloud.run("setup", "me")
    cloud.run("pem")
    cloud.run("mlflow", "--cidr", "203.0.113.7/32")
    ec2 = cloud.client("ec2").describe_instances()["Reservations"]
    target = ec2[0]["Instances"][0]["InstanceId"]
    command = [sys.executable, aws.__file__, "ssh"]

    def told(*words):
        return subprocess.run([*command, *words], capture_output=True, text=True, check=True).stdout

    assert told() == f"aws ssm start-session --region us-east-1 --target {target}\n"
    address = mlflow_output(cloud, "Address")
    pem = cloud.home / ".ssh" / "rookery-us-east-1.pem"
    assert told("--key", "-L", "1:h:2") == f"ssh -i {pem} ec2-user@{address} -L 1:h:2\n"


def test_a_shell_needs_a_server(cloud, programs):
    result = cloud.run("ssh", yes=False)
    assert one_error(result) == "there is no stack rookery-mlflow; run `just aws-mlflow` first"


def test_no_secret_is_ever_said(cloud):
    cloud.run("setup", "me")
    cloud.run("pem")
    cloud.run("mlflow", "--cidr", "203.0.113.7/32")
    cloud.run("setup", "me")
    pem = (cloud.home / ".ssh" / "rookery-us-east-1.pem").read_text().splitlines()
    credentials = (cloud.home / ".aws" / "credentials").read_text()
    hidden = [SECRET_KEY, dotenv(cloud)["MLFLOW_TRACKING_PASSWORD"], *pem[1:-1]]
    hidden += re.findall(r"aws_secret_access_key = (.+)", credentials)
    cloud.run("teardown")
    assert len(hidden) > 3
    assert not [secret for secret in hidden if secret in cloud.said]


def remove_stack(cloud):
    """Remove the stack as somebody would in the console."""
    iam = cloud.client("iam")
    iam.delete_access_key(UserName="me", AccessKeyId=access_keys(cloud)[0])
    aws_stacks.delete(cloud.client("cloudformation"), "rookery")


def dotenv(cloud):
    return {name: value or "" for name, value in dotenv_values(cloud.home / ".env").items()}


def output(cloud, name, stack="rookery"):
    found = cloud.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return next(one["OutputValue"] for one in found["Outputs"] if one["OutputKey"] == name)


def mlflow_output(cloud, name):
    return output(cloud, name, "rookery-mlflow")


def access_keys(cloud, user="me"):
    keys = cloud.client("iam").list_access_keys(UserName=user)["AccessKeyMetadata"]
    return [key["AccessKeyId"] for key in keys]


def one_error(result):
    """The last line, which is the only one about an error."""
    assert result.exit_code == 1, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert lines == result.output.splitlines()[-1:]
    return lines[0].removeprefix("error: ")


def open_ports(cloud):
    """From where the server may be reached, by port."""
    found = {}
    groups = cloud.client("ec2").describe_security_groups(
        Filters=[{"Name": "tag:project", "Values": ["rookery-mlflow"]}]
    )["SecurityGroups"]
    for rule in itertools.chain(*(group["IpPermissions"] for group in groups)):
        sources = {one["CidrIp"] for one in rule["IpRanges"]}
        tasks = output(cloud, "TaskSecurityGroup")
        sources |= {"tasks" for pair in rule["UserIdGroupPairs"] if pair["GroupId"] == tasks}
        found.setdefault(rule["FromPort"], set()).update(sources)
    return found
