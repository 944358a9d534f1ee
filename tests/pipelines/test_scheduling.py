"""What a scheduler is given: the flows compiled for each of them, against a local AWS."""

import ast
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import pytest

from common import ROOT

pytestmark = pytest.mark.integration

FLOWS = ("training", "deployment", "monitoring")
STEPS = {
    "training": {"start", "fit", "evaluate", "register", "end"},
    "deployment": {"start", "end"},
    "monitoring": {"start", "end"},
}
ROLE = "arn:aws:iam::123456789012:role/tasks"
STORE = "http://mlflow.example:5000"


@pytest.fixture
def create(moto, monkeypatch, tmp_path):
    """Gives a flow to a scheduler, with all it needs in a bucket; returns what is printed."""
    for name, value in {
        "METAFLOW_S3_ENDPOINT_URL": moto,
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://rookery/metaflow",
        "METAFLOW_KUBERNETES_NAMESPACE": "default",
        "METAFLOW_ARGO_EVENTS_EVENT": "event",
        "METAFLOW_ARGO_EVENTS_EVENT_SOURCE": "source",
        "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT": "account",
        "METAFLOW_BATCH_JOB_QUEUE": "tasks",
        "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": ROLE,
        "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": ROLE,
        "METAFLOW_SFN_IAM_ROLE": ROLE,
        "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE": ROLE,
        "METAFLOW_SFN_DYNAMO_DB_TABLE": "metaflow",
        # production tokens are kept there
        "METAFLOW_HOME": str(tmp_path / "home"),
        "METAFLOW_USER": "tester",
        "MLFLOW_TRACKING_URI": STORE,
        "DATASET": "s3://rookery/data/penguins.csv",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="rookery")
    boto3.client("iam").create_role(RoleName="tasks", AssumeRolePolicyDocument="{}")
    ec2 = boto3.client("ec2")
    groups = ec2.describe_security_groups()["SecurityGroups"]
    batch = boto3.client("batch")
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

    def create(flow, *words, fails=False):
        file = ROOT / "src" / "pipelines" / f"{flow}.py"
        done = subprocess.run(
            [sys.executable, file, "--no-pylint", "--datastore", "s3", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(done.returncode) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr if fails else done.stdout

    return create


def variables(environment):
    """Variables of a container, from AWS's or Kubernetes' way to write them."""
    return {
        one.get("Name", one.get("name")): one.get("Value", one.get("value")) for one in environment
    }


@pytest.mark.parametrize("flow", FLOWS)
def test_argo_workflows(create, flow):
    template = json.loads(create(flow, "argo-workflows", "create", "--only-json"))

    parts = {part["name"]: part for part in template["spec"]["templates"]}
    assert parts.keys() >= STEPS[flow]
    annotations = template["metadata"]["annotations"]
    triggers = json.loads(annotations.get("metaflow/triggers", "[]"))
    waits = ["penguins-monitoring-failed"] if flow == "training" else []
    assert [trigger["name"] for trigger in triggers] == waits
    if flow == "monitoring":
        assert json.loads(annotations["metaflow/cron"])["schedule"] == "0 * * * ?"
    if flow == "training":
        memory = parts["fit"]["container"]["resources"]["requests"]["memory"]
        assert float(memory.removesuffix("M")) == 4096


@pytest.mark.parametrize("flow", FLOWS)
def test_step_functions(create, flow, monkeypatch):
    monkeypatch.setenv("MLFLOW_SECRET", login := "mlflow-login")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open sesame")

    machine = json.loads(create(flow, "step-functions", "create", "--only-json"))

    states = machine["States"]
    fit = states.get("*fit", {}).get("Iterator", {}).get("States", {})
    assert (states | fit).keys() >= STEPS[flow]
    for name in STEPS[flow]:
        overrides = (states | fit)[name]["Parameters"]["ContainerOverrides"]
        resources = {one["Type"]: one["Value"] for one in overrides["ResourceRequirements"]}
        assert resources["MEMORY"] == ("4096" if name == "fit" else "2048")
        told = variables(overrides["Environment"])
        assert told["MLFLOW_SECRET"] == login
        assert told["ROOKERY_COMMIT"]
    defaults = variables(states["start"]["Parameters"]["ContainerOverrides"]["Environment"])
    defaults = json.loads(defaults["METAFLOW_DEFAULT_PARAMETERS"])
    own = {
        "training": ("folds", 5),
        "deployment": ("smoke-rows", 20),
        "monitoring": ("samples", 500),
    }
    assert defaults[own[flow][0]] == own[flow][1]
    assert "open sesame" not in json.dumps(machine)


@pytest.mark.parametrize("flow", FLOWS)
def test_airflow(create, flow, tmp_path):
    file = tmp_path / "dag.py"

    create(flow, "airflow", "create", str(file))

    tree = ast.parse(file.read_text())
    assert {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} >= STEPS[flow]


def test_step_functions_keep_a_flow_and_start_it(create):
    create("monitoring", "step-functions", "create")
    create("monitoring", "step-functions", "trigger", "--samples", "50")

    machines = boto3.client("stepfunctions")
    [machine] = machines.list_state_machines()["stateMachines"]
    assert machine["name"] == "Monitoring"
    [run] = machines.list_executions(stateMachineArn=machine["stateMachineArn"])["executions"]
    given = machines.describe_execution(executionArn=run["executionArn"])["input"]
    assert json.loads(json.loads(given)["Parameters"])["samples"] == 50
    [rule] = boto3.client("events").list_rules()["Rules"]
    assert rule["ScheduleExpression"] == "cron(0 * * * ? *)"


@pytest.mark.parametrize("scheduler", ["argo-workflows", "step-functions"])
@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db", "MLflow's store sqlite:"),
        ("DATASET", "data/penguins.csv", "data/penguins.csv: a task on another machine"),
    ],
)
def test_what_tasks_would_not_find_is_said_before_they_leave(
    create, monkeypatch, scheduler, variable, value, problem
):
    monkeypatch.setenv(variable, value)

    output = create("deployment", scheduler, "create", "--only-json", fails=True)

    assert f"    {problem}" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("template", "labels", "published"),
    [(None, 200, 0), ("monitoring", 200, 1), ("monitoring", 199, 0)],
)
def test_a_failed_verdict_is_published_where_a_scheduler_runs_and_training_is_worth_while(
    template, labels, published
):
    events = []
    retraining = {"labels": labels, "needed": 200, "reference_rows": 9}

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Webhook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"from pipelines import monitoring as m; m.announce_failure('p', {retraining})",
                ],
                env={
                    **os.environ,
                    "METAFLOW_ARGO_EVENTS_WEBHOOK_URL": f"http://127.0.0.1:{server.server_port}",
                    **({"ARGO_WORKFLOW_TEMPLATE": template} if template else {}),
                },
                check=True,
            )
        finally:
            server.shutdown()
            thread.join()

    assert len(events) == published
    for event in events:
        assert event["name"] == "p-monitoring-failed"
        assert event["payload"]["captured"] is True
        assert event["payload"]["reference_rows"] == 9
