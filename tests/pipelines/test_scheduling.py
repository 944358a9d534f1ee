"""What a scheduler is given: the flows compiled for Argo Workflows, against a local S3."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3
import pytest
from moto.server import ThreadedMotoServer

from common import ROOT

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def compile_flow():
    """Compiles a flow, as its WorkflowTemplate, with everything it needs in a bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    account = {
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    environment = {
        **os.environ,
        **account,
        "METAFLOW_S3_ENDPOINT_URL": url,
        "METAFLOW_DATASTORE_SYSROOT_S3": "s3://rookery/metaflow",
        "METAFLOW_KUBERNETES_NAMESPACE": "default",
        "METAFLOW_ARGO_EVENTS_EVENT": "event",
        "METAFLOW_ARGO_EVENTS_EVENT_SOURCE": "source",
        "METAFLOW_ARGO_EVENTS_SERVICE_ACCOUNT": "account",
        "METAFLOW_USER": "tester",
    }
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=account["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=account["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket="rookery")

    def compile_flow(name):
        words = ["--no-pylint", "--datastore", "s3", "argo-workflows", "create", "--only-json"]
        done = subprocess.run(
            [sys.executable, str(ROOT / "src" / "pipelines" / f"{name}.py"), *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    yield compile_flow
    server.stop()


def test_training_waits_for_monitoring_to_fail(compile_flow):
    template = compile_flow("training")

    triggers = json.loads(template["metadata"]["annotations"]["metaflow/triggers"])
    assert [trigger["name"] for trigger in triggers] == ["penguins-monitoring-failed"]
    steps = {part["name"] for part in template["spec"]["templates"]}
    assert {"start", "fit", "evaluate", "register", "end"} <= steps


def test_monitoring_runs_every_hour(compile_flow):
    annotations = compile_flow("monitoring")["metadata"]["annotations"]

    assert json.loads(annotations["metaflow/cron"])["schedule"] == "0 * * * ?"


@pytest.mark.parametrize("template", [None, "monitoring"])
def test_a_failed_verdict_is_published_where_a_scheduler_runs(template):
    events = []

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
                    "from pipelines import monitoring as m; m.announce_failure('p', 9)",
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

    assert len(events) == (1 if template else 0)
    for event in events:
        assert event["name"] == "p-monitoring-failed"
        assert event["payload"]["captured"] is True
        assert event["payload"]["reference_rows"] == 9
