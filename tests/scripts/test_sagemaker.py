"""`just sagemaker-status` and `just sagemaker-delete`, on a local stand-in for AWS."""

import os
import subprocess
import sys

import pytest

from common import ROOT, settings
from scripts.rehearsal.aws import LocalAws

pytestmark = pytest.mark.integration

VARIABLES = {
    "ENDPOINT_NAME": "penguins",
    "BUCKET": "rookery-commands",
    "SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/sagemaker",
    "SERVING_IMAGE": "serving:1",
    "AWS_ROLE": "",
}


@pytest.fixture(scope="module")
def endpoint(release):
    """The backend of config/sagemaker.yml, with an endpoint that serves version 1."""
    with LocalAws() as aws, pytest.MonkeyPatch.context() as patch:
        for name, value in (aws.environment | VARIABLES).items():
            patch.setenv(name, value)
        aws.client("s3").create_bucket(Bucket=VARIABLES["BUCKET"])
        backend = settings.load(ROOT / "config" / "sagemaker.yml").create_backend()
        backend.deploy(release("1"))
        yield backend


def run(*words):
    """Run the command; return its exit code and what it printed and complained about."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "src" / "scripts" / "sagemaker.py"), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ,
    )
    return done.returncode, done.stdout, done.stderr


def test_status_and_delete(endpoint):
    code, output, _ = run("status")
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in output.splitlines() if "before" not in line)
    assert lines == {
        "endpoint": "penguins",
        "state": "InService",
        "version": "1",
        "instances": "1",
        "captures": "yes",
    }

    code, output, errors = run("delete")
    assert (code, errors) == (1, "error: nobody is there to ask; --yes does it without asking\n")
    [name] = endpoint.endpoint.configurations()
    assert "deletes endpoint penguins (InService) in us-east-1, and 1 configuration(s)" in output
    assert name in output

    code, output, _ = run("delete", "--yes")
    assert code == 0
    assert "endpoint penguins is gone" in output
    assert endpoint.status().state == "none"

    # once more does no harm
    assert run("delete", "--yes")[0] == 0
    assert "state      none" in run("status")[1]


def test_other_backend_is_refused(endpoint):
    code, _, errors = run("status", "--config", "config/local.yml")
    assert code == 1
    assert "this command needs backend.Sagemaker, not backend.Local" in errors


def test_missing_variable_is_named(endpoint, monkeypatch):
    monkeypatch.setenv("BUCKET", "")
    code, _, errors = run("status")
    assert code == 1
    assert "needs the environment variable BUCKET, which is not set; set it in .env" in errors
    assert errors.count("\n") == 1
