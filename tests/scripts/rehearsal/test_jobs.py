import time
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

pytestmark = pytest.mark.integration

PATIENCE = 60


@pytest.fixture(scope="module")
def queue(aws) -> str:
    """A job queue, as a stack would make it."""
    name = f"queue-{uuid4().hex[:8]}"
    role = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]
    batch = aws.client("batch")
    environment = batch.create_compute_environment(
        computeEnvironmentName=name, type="UNMANAGED", serviceRole=role["Arn"]
    )
    order = [{"order": 1, "computeEnvironment": environment["computeEnvironmentArn"]}]
    batch.create_job_queue(
        jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order
    )
    return name


@pytest.fixture
def submit(aws, queue):
    """Submit `bash -c SCRIPT`."""
    batch = aws.client("batch")

    def send(script: str, **more: object) -> str:
        name = f"job-{uuid4().hex[:8]}"
        batch.register_job_definition(
            jobDefinitionName=name,
            type="container",
            containerProperties={
                "image": "tasks:1",
                "command": ["false"],
                "environment": [{"name": "FROM_DEFINITION", "value": "one"}],
                "resourceRequirements": [
                    {"type": "VCPU", "value": "1"},
                    {"type": "MEMORY", "value": "512"},
                ],
            },
        )
        overrides = {
            "command": ["bash", "-c", script],
            "environment": [{"name": "FROM_JOB", "value": "two"}],
        }
        submitted = batch.submit_job(
            jobName=name,
            jobQueue=queue,
            jobDefinition=name,
            containerOverrides=overrides,
            **more,
        )
        return submitted["jobId"]

    return send


@pytest.fixture
def wait(aws):
    """Wait for states of a job, and return its description."""
    batch = aws.client("batch")

    def until(job: str, *states: str) -> dict:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            described = batch.describe_jobs(jobs=[job])["jobs"][0]
            if described["status"] in (states or ("SUCCEEDED", "FAILED")):
                return described
            time.sleep(0.1)
        raise TimeoutError(described)

    return until


@pytest.fixture
def said(aws):
    """Read what a job printed, as Metaflow does."""
    logs = aws.client("logs")

    def read(described: dict) -> list[str]:
        found = logs.get_log_events(
            logGroupName="/aws/batch/job",
            logStreamName=described["container"]["logStreamName"],
            startFromHead=True,
        )
        return [event["message"] for event in found["events"]]

    return read


def test_a_job_has_its_environment_and_a_home_of_its_own(submit, wait, said):
    job = submit(
        "echo $FROM_DEFINITION $FROM_JOB $AWS_BATCH_JOB_ID; pwd; echo $HOME; ls -A; "
        "echo failed >&2; exit 3"
    )

    described = wait(job)

    assert described["status"] == "FAILED"
    assert described["container"]["exitCode"] == 3
    assert described["statusReason"] == "Essential container in task exited"
    first, place, home, *_, last = said(described)
    assert first == f"one two {job}"
    assert place == home != str(Path.home())
    assert last == "failed"


def test_a_job_sees_the_packages_but_not_this_checkout(submit, wait, said):
    described = wait(submit("python -c 'import numpy, common'"))

    assert described["status"] == "FAILED"
    assert said(described)[-1] == "ModuleNotFoundError: No module named 'common'"


def test_a_job_reaches_the_local_aws(aws, submit, wait):
    script = "import boto3; boto3.client('s3').create_bucket(Bucket='made-by-a-job')"

    assert wait(submit(f'python -c "{script}"'))["status"] == "SUCCEEDED"

    aws.client("s3").head_bucket(Bucket="made-by-a-job")


def test_jobs_wait_for_those_that_they_depend_on(submit, wait):
    first = submit("sleep 0.5")
    second = submit("true", dependsOn=[{"jobId": first}])
    third = submit("false", dependsOn=[{"jobId": second}])
    fourth = submit("true", dependsOn=[{"jobId": third}])

    assert [wait(job)["status"] for job in (first, second, third, fourth)] == [
        "SUCCEEDED",
        "SUCCEEDED",
        "FAILED",
        "FAILED",
    ]
    assert wait(first)["stoppedAt"] <= wait(second)["startedAt"]


def test_an_array_ends_with_its_children(submit, wait):
    good = submit("test $AWS_BATCH_JOB_ARRAY_INDEX -lt 2", arrayProperties={"size": 2})
    bad = submit("test $AWS_BATCH_JOB_ARRAY_INDEX -lt 1", arrayProperties={"size": 2})

    assert wait(good)["status"] == "SUCCEEDED"
    assert wait(bad)["status"] == "FAILED"
    assert [wait(f"{bad}:{index}")["status"] for index in (0, 1)] == ["SUCCEEDED", "FAILED"]


def test_terminating_ends_all_processes_of_a_job(aws, submit, wait, said, ended):
    job = submit("sleep 1000 & echo $!; sleep 1000")
    described = wait(job, "RUNNING")
    while not (lines := said(described)):
        time.sleep(0.1)
    child = psutil.Process(int(lines[0]))

    aws.client("batch").terminate_job(jobId=job, reason="enough")

    described = wait(job)
    assert (described["status"], described["statusReason"]) == ("FAILED", "enough")
    assert ended([child])


def test_a_job_that_takes_too_long_is_ended(submit, wait):
    described = wait(submit("sleep 1000", timeout={"attemptDurationSeconds": 1}))

    assert described["status"] == "FAILED"
    assert described["statusReason"] == "Job attempt duration exceeded timeout"


def test_no_more_jobs_run_at_once_than_there_are_cores(aws, submit, wait):
    cores = len(psutil.Process().cpu_affinity())
    jobs = [submit("sleep 1") for _ in range(cores + 1)]
    for job in jobs[:cores]:
        wait(job, "RUNNING", "SUCCEEDED")

    described = {job: wait(job) for job in jobs}

    starts = sorted(one["startedAt"] for one in described.values())
    assert starts[-1] >= min(one["stoppedAt"] for one in described.values())
