import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from inference.errors import BackendError
from scripts.rehearsal.aws import LocalAws

pytestmark = pytest.mark.integration

# starts a local AWS with a job that would run for ever, and says what runs
PARENT = """
import sys, time
import psutil
from scripts.rehearsal.aws import LocalAws
with LocalAws() as aws:
    batch = aws.client("batch")
    role = aws.client("iam").create_role(RoleName="b", AssumeRolePolicyDocument="{}")["Role"]
    batch.create_compute_environment(
        computeEnvironmentName="jobs", type="UNMANAGED", serviceRole=role["Arn"])
    batch.create_job_queue(jobQueueName="queue", state="ENABLED", priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": "jobs"}])
    batch.register_job_definition(jobDefinitionName="job", type="container",
        containerProperties={"image": "i", "vcpus": 1, "memory": 128,
                             "command": ["bash", "-c", "sleep 1000 & sleep 1000"]})
    batch.submit_job(jobName="job", jobQueue="queue", jobDefinition="job")
    server = psutil.Process(aws.pid)
    def running():
        return [p for p in server.children(recursive=True) if p.name() == "sleep"]
    while len(running()) < 2:
        time.sleep(0.1)
    print(aws.pid, *(p.pid for p in server.children(recursive=True)), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path):
    """A process with a local AWS, that one, and all that runs in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    running = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(running) > 3
    yield process, running[0], running
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("who", ["parent", "server"])
def test_nothing_is_left_however_it_ends(parent, ended, tmp_path, who, number):
    process, server, running = parent

    (process if who == "parent" else server).send_signal(number)

    assert ended(running)
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path, aws):
    port = int(aws.url.rpartition(":")[2])

    with pytest.raises(BackendError, match=r"does not start: .*is in use") as caught:
        LocalAws(tmp_path, port=port).__enter__()

    assert "\n" not in str(caught.value)


def test_its_environment_leads_nowhere_else(aws):
    assert aws.environment["AWS_ENDPOINT_URL"] == aws.url
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        assert not Path(aws.environment[name]).exists()
