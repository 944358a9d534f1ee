"""Flows on AWS Batch, in a local AWS whose jobs are processes that cannot see this checkout."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from metaflow import Run, metadata, namespace
from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from common import ROOT, tracking
from scripts.rehearsal.aws import LocalAws

pytestmark = pytest.mark.integration

ROLE = "arn:aws:iam::123456789012:role/tasks"
LOGIN = ("ada", "open sesame 7")
SECRET = "mlflow-login"  # noqa: S105 - the name of one
CONFIG = ("--config", "project")
# a task without these would fail at once; the image of the tasks sets the path to its packages
INHERITED = ("LANG", "PATH")
API = "/api/2.0/mlflow"
START_SECONDS = 120.0


@dataclass
class Account:
    """A local AWS with a bucket, a Batch queue and a store of runs, and the way to it.

    Attributes:
        aws: The local AWS.
        folder: Home of whoever starts flows.
        environment: All variables of the commands that start them.
    """

    aws: LocalAws
    folder: Path
    environment: dict[str, str]

    def run(self, flow, *words, config="local.yml", options=()):
        """Run a flow; return its Metaflow run, and all that it printed."""
        file = self.folder / "run-id"
        command = [sys.executable, str(ROOT / "src" / "pipelines" / f"{flow}.py"), "--no-pylint"]
        command += [*CONFIG, str(self.folder / config), "run", "--run-id-file", str(file)]
        done = subprocess.run(
            [*command, *words],
            env=self.environment | dict(options),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        metadata(f"local@{self.folder}")
        namespace(None)
        return Run(f"{flow.capitalize()}/{file.read_text()}"), output

    def objects(self):
        """Yield key and content of everything in the bucket."""
        s3 = self.aws.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="rookery"):
            for one in page["Contents"]:
                yield one["Key"], s3.get_object(Bucket="rookery", Key=one["Key"])["Body"].read()


@pytest.fixture(scope="module")
def store(tmp_path_factory, free_port):
    """URL of an MLflow server, behind a door that asks for a password."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    inner = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *("--artifacts-destination", str(folder / "artifacts")),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            # it needs none of its own workers for jobs
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    proxy = ProxyMiddleware(Response("", 404), {"/api/": {"target": inner}}, timeout=60)
    ticket = "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode()

    def door(environ, start_response):
        if environ.get("HTTP_AUTHORIZATION") != ticket:
            return Response("who is there?", 401)(environ, start_response)
        return proxy(environ, start_response)

    front = make_server("127.0.0.1", 0, door, threaded=True)
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{front.port}"
    try:
        wait_for(url, server, folder / "log")
        yield url
    finally:
        front.shutdown()
        thread.join()
        front.server_close()
        os.killpg(server.pid, 15)
        server.wait()


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    """Wait until MLflow answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert server.poll() is None, log.read_text()
        question = {"max_results": 1}
        answer = requests.get(f"{url}{API}/experiments/search", question, auth=LOGIN, timeout=60)
        if answer.status_code == 200:
            return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def account(tmp_path_factory, store):
    """An account with all that the flows need."""
    folder = tmp_path_factory.mktemp("home")
    local = (ROOT / "config" / "local.yml").read_text()
    (folder / "local.yml").write_text(local.replace("level: INFO", "level: DEBUG"))
    sagemaker = (ROOT / "config" / "sagemaker.yml").read_text()
    (folder / "sagemaker.yml").write_text(
        sagemaker.replace("config/local.yml", str(folder / "local.yml"))
    )
    with LocalAws() as aws:
        prepare(aws)
        yield Account(
            aws,
            folder,
            {name: os.environ[name] for name in INHERITED if name in os.environ}
            | aws.environment
            | {
                "HOME": str(folder),
                "METAFLOW_USER": "tester",
                "METAFLOW_DEFAULT_DATASTORE": "s3",
                "METAFLOW_DATASTORE_SYSROOT_S3": "s3://rookery/metaflow",
                "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder),
                "METAFLOW_S3_ENDPOINT_URL": aws.url,
                "METAFLOW_BATCH_JOB_QUEUE": "tasks",
                "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": ROLE,
                "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": ROLE,
                "BUCKET": "rookery",
                "DATASET": "s3://rookery/data/penguins.csv",
                "ENDPOINT_NAME": "nest",
                "MLFLOW_SECRET": SECRET,
                "MLFLOW_TRACKING_URI": store,
                "ROOKERY_ENV_FILE": os.devnull,
                "SAGEMAKER_ROLE": ROLE,
                "SERVING_IMAGE": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1",
            },
        )


def prepare(aws: LocalAws) -> None:
    """Make bucket, table, secret, role and queue."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="rookery")
    s3.upload_file(str(ROOT / "data" / "penguins.csv"), "rookery", "data/penguins.csv")
    login = {"MLFLOW_TRACKING_USERNAME": LOGIN[0], "MLFLOW_TRACKING_PASSWORD": LOGIN[1]}
    aws.client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps(login))
    aws.client("iam").create_role(RoleName="tasks", AssumeRolePolicyDocument="{}")
    ec2, batch = aws.client("ec2"), aws.client("batch")
    groups = ec2.describe_security_groups()["SecurityGroups"]
    machines = batch.create_compute_environment(
        computeEnvironmentName="machines",
        type="MANAGED",
        serviceRole=ROLE,
        computeResources={
            "type": "FARGATE",
            "maxvCpus": 8,
            "subnets": [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]],
            "securityGroupIds": [one["GroupId"] for one in groups],
        },
    )
    order = [{"order": 1, "computeEnvironment": machines["computeEnvironmentArn"]}]
    batch.create_job_queue(
        jobQueueName="tasks", state="ENABLED", priority=1, computeEnvironmentOrder=order
    )


@pytest.fixture(scope="module")
def trained(account):
    """What a training on Batch came to: its Metaflow run, and what it printed."""
    small = ("--folds", "2", "--training-epochs", "2", "--accuracy-threshold", "0")
    return account.run(
        "training", "--with", "batch", "--with", "retry", "--tag", "nest", "--parallel", "3", *small
    )


def jobs(run) -> dict[str, list[str]]:
    """Ids of the Batch jobs of each step."""
    return {
        step.id: [task.metadata_dict["aws-batch-job-id"] for task in step.tasks()] for step in run
    }


def ask(account, call, **parameters):
    """Ask MLflow's REST API."""
    url = f"{account.environment['MLFLOW_TRACKING_URI']}{API}/{call}"
    answer = requests.get(url, params=parameters, auth=LOGIN, timeout=30)
    answer.raise_for_status()
    return answer.json()


def test_each_fold_has_a_job_of_its_own(account, trained):
    run, _ = trained
    found = jobs(run)
    assert {step: len(ids) for step, ids in found.items()} == {
        **dict.fromkeys(("start", "evaluate", "register", "end"), 1),
        "fit": 3,
    }
    everything = [job for ids in found.values() for job in ids]
    assert len(set(everything)) == len(everything)
    described = account.aws.client("batch").describe_jobs(jobs=everything)["jobs"]
    assert {job["status"] for job in described} == {"SUCCEEDED"}


def test_each_job_ran_the_code_that_came_with_it(trained):
    run, output = trained
    places = [Path(place) for place in re.findall(r"step \w+ took .* code in (\S+)", output)]
    everything = [job for ids in jobs(run).values() for job in ids]
    assert len(places) == len(everything)
    for place in places:
        assert not place.is_relative_to(ROOT)
        assert place.parts[-2:] == ("metaflow", ".mf_code")
    assert {place.parts[-3] for place in places} == {f"job-{job}" for job in everything}


def test_what_was_registered_says_where_data_and_code_came_from(account, trained):
    found = ask(account, "model-versions/search")["model_versions"]
    assert [version["name"] for version in found] == ["penguins"]
    run = ask(account, "runs/get", run_id=found[0]["run_id"])["run"]
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert tags["git_commit"] == tracking.git_commit()
    source = run["inputs"]["dataset_inputs"][0]["dataset"]["source"]
    assert "s3://rookery/data/penguins.csv" in source


def test_the_password_is_nowhere_but_in_the_secret(account, trained):
    _, output = trained
    assert LOGIN[1] not in output
    seen = 0
    for key, content in account.objects():
        seen += 1
        assert LOGIN[1].encode() not in content, key
    assert seen > 20


def test_cards_and_tags_are_there_as_after_a_run_on_this_machine(account, trained):
    run, output = trained
    assert "nest" in run.tags
    assert "Card render failed" not in output
    cards = [key for key, _ in account.objects() if "/mf.cards/" in key and key.endswith(".html")]
    assert any("/evaluate/" in key for key in cards)


def test_deployment_and_monitoring_run_on_batch_too(account, trained):
    deployed, _ = account.run(
        "deployment", "--with", "batch", "--backend", "backend.Sagemaker", config="sagemaker.yml"
    )
    account.run("traffic", "--samples", "100", config="sagemaker.yml")
    account.aws.flush()
    monitored, output = account.run("monitoring", "--with", "batch", config="sagemaker.yml")

    sagemaker = account.aws.client("sagemaker")
    assert sagemaker.describe_endpoint(EndpointName="nest")["EndpointStatus"] == "InService"
    for run in (deployed, monitored):
        assert {step: len(ids) for step, ids in jobs(run).items()} == {"start": 1, "end": 1}
    # the smoke test's as well
    assert re.search(r"verdict: \w+ \(version 1, 120 rows\)", output)
    assert "Card render failed" not in output
    [folder] = re.findall(r"reports: runs:/(\w+)/reports", output)
    files = ask(account, "artifacts/list", run_id=folder, path="reports")["files"]
    assert {Path(file["path"]).name for file in files} >= {"report.html", "verdict.json"}
