"""What monitoring prints, keeps, tells and is scheduled by, with and without a flow."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common import ROOT
from pipelines import monitoring

CHECKS = [
    {
        "name": "drift",
        "figure": 2.0481,
        "limit": 0.3788,
        "verdict": "fail",
        "sentence": "mass [kg] has drifted",
        "column": "mass [kg]",
        "interval": None,
    },
    {
        "name": "accuracy",
        "figure": None,
        "limit": None,
        "verdict": "not enough data",
        "sentence": "no labels",
        "column": None,
        "interval": None,
    },
    {
        "name": "macro F1",
        "figure": None,
        "limit": None,
        "verdict": "not enough data",
        "sentence": "no labels",
        "column": None,
        "interval": None,
    },
    {
        "name": "volume",
        "figure": 300.0,
        "limit": 100.0,
        "verdict": "pass",
        "sentence": "300 rows",
        "column": None,
        "interval": None,
    },
]
OUTCOME = {
    "project": "penguins",
    "version": "3",
    "verdict": "fail",
    "before": "pass",
    "rows": 300,
    "checks": CHECKS,
    "others": [{"version": "2", "verdict": "warn", "rows": 20, "checks": []}],
    "reports": "/state/reports/7",
}


def test_what_did_not_pass_is_told_once(capsys):
    monitoring.print_outcome(OUTCOME)
    printed = capsys.readouterr().out
    assert "│ drift    │ mass [kg] │ 2.048  │ 0.3788 │ fail" in printed
    assert "fail: mass [kg] has drifted\n" in printed
    assert printed.count("no labels") == 1
    assert "300 rows)" not in printed.split("version 2")[0]
    assert "version 2: warn (20 rows)\n" in printed
    assert "verdict: fail (version 3, 300 rows; pass before)\n" in printed


def test_pages_and_the_verdict_are_written(tmp_path):
    folder = tmp_path / "reports" / "run-1"
    monitoring.write(folder, OUTCOME, {"drift": "<p>é</p>"})
    assert (folder / "drift.html").read_text(encoding="utf-8") == "<p>é</p>"
    assert json.loads((folder / "verdict.json").read_text(encoding="utf-8")) == OUTCOME


def test_a_scheduler_runs_it_every_hour():
    [schedule] = monitoring.Monitoring(use_cli=False)._flow_decorators["schedule"]
    schedule.flow_init(None, None, None, None, None, None, None, None)
    # minute, hour, day of the month, month, day of the week, year
    assert schedule.schedule == "0 * * * ? *"


def test_labels_that_a_model_was_trained_on_are_no_new_ones(local, schema, record):
    import pandas as pd  # noqa: PLC0415 - a second that only this test pays

    from inference.backend import Captured  # noqa: PLC0415 - beside what it is used for

    answer = {"prediction": "Adelie", "confidence": 0.9, "probabilities": {"Adelie": 0.9}}
    for request in ("old", "new"):
        local.save(Captured.from_answer(request, "1", [record] * 30, [answer] * 30))
    assert local.label(quality=1.0, seed=1) == 60
    local.save(Captured.from_answer("unlabelled", "1", [record] * 30, [answer] * 30))
    # the table's rows have no id, and a model that was trained on nothing else has no such column
    table_alone = pd.DataFrame({"target": ["Adelie"]})
    trained_on = pd.DataFrame({"id": [None, *(f"old-{row}" for row in range(30))]})

    def count(references: list, window: int = 500) -> dict:
        return monitoring.count_labels(local, schema, references, 40, window)

    assert count([]) == {"labels": 60, "needed": 40, "reference_rows": 60}
    assert count([table_alone, trained_on]) == {"labels": 30, "needed": 40, "reference_rows": 60}
    assert count([trained_on], window=20)["reference_rows"] == 20


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict]]]:
    """A web hook on this machine: its target, and what it was told."""
    told: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"json://127.0.0.1:{server.server_port}/", told
        server.shutdown()
        thread.join()


def monitor(workshop, *words: str, **environment: str) -> tuple[int, dict, str]:
    """Run `just monitor --json`; return its code, its JSON, and what it printed beside it."""
    done = subprocess.run(
        [sys.executable, ROOT / "src" / "scripts" / "monitor.py", "--json", *words],
        cwd=workshop.folder,
        env={**os.environ, **workshop.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.integration
def test_given_drift_then_it_exits_2_and_tells_of_the_change(
    workshop, deployed, mlflow_client, hook
):
    target, told = hook
    # nothing listens there
    urls = f"{target} json://127.0.0.1:1/t0ken"
    workshop.run("traffic", samples=300, seed=1)
    workshop.run("traffic", mode="labels", seed=1)
    code, usual, printed = monitor(workshop, "--samples", "300", ALERT_URLS=urls)
    assert code == 0, printed
    assert usual["verdict"] in ("pass", "warn")

    workshop.run("traffic", samples=300, seed=2, drift=True)
    code, drifted, printed = monitor(workshop, "--samples", "300", ALERT_URLS=urls)
    assert code == 2, printed

    # the target that is down is a line, not an error
    assert len(drifted["alerts"]) == 1
    assert drifted["alerts"][0].startswith("ALERT_URLS, target 2 (json): ")
    assert "t0ken" not in printed
    assert [message["title"] for message in told][
        -1
    ] == f"penguins: fail ({usual['verdict']} before)"
    assert sum("penguins: fail" in message["title"] for message in told) == 1
    assert "body_mass_g" in told[-1]["message"]
    assert drifted["before"] == usual["verdict"]

    # the labels of the usual traffic are new to the champion
    assert drifted["retraining"]["labels"] >= 300
    assert drifted["retraining"]["reference_rows"] == 300
    assert "retraining" not in usual

    run = mlflow_client.get_run(drifted["mlflow_run"])
    champion = mlflow_client.get_model_version("penguins", drifted["version"])
    assert run.data.tags["model_version"] == drifted["version"] == str(champion.version)
    assert run.data.tags["training_run"] == champion.run_id
    assert run.data.tags["verdict"] == "fail"
    assert run.data.metrics["drift/body_mass_g"] > 1
    low, high = (run.data.metrics[f"expected accuracy:{end}"] for end in ("low", "high"))
    assert low <= run.data.metrics["expected accuracy"] <= high
    kept = {file.path for file in mlflow_client.list_artifacts(run.info.run_id, "reports")}
    names = ("report.html", "data.html", "drift.html", "quality.html", "verdict.json")
    assert kept == {f"reports/{name}" for name in names}
    for name in names:
        assert os.path.getsize(f"{drifted['reports']}/{name}") > 0  # noqa: PTH202 - a text
    snapshots = list((workshop.folder / "evidently").glob("*/snapshots/*.json"))
    assert len(snapshots) >= 2 * 3
