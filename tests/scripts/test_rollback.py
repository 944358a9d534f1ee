"""An earlier version goes back live: quickly, with its aliases and notes, or not at all."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import requests
import typer
from typer.testing import CliRunner

from common import ROOT, registry, settings
from inference import launcher
from inference.errors import BackendError
from inference.local import ARTIFACTS
from scripts import rollback

pytestmark = pytest.mark.integration

VARIABLES = {
    "ENDPOINT_NAME": "penguins",
    "BUCKET": "rookery-rollback",
    "SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/sagemaker",
    "SERVING_IMAGE": "serving:1",
}


@pytest.fixture
def project(make_version, local, release, schema, tmp_path):
    """Versions 1 and 2 were deployed, 2 is champion; 3 is the challenger."""
    for number in ("1", "2"):
        version = make_version()
        local.deploy(release_of(version, release))
        registry.promote(version, f"number {number}", {})
    make_version()
    config = tmp_path / "config.yml"
    content = {
        "project": "penguins",
        "dataset": {"path": "none.csv", **json.loads(schema.model_dump_json())},
        "mlflow_tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "backend": {
            "module": "backend.Local",
            "database": str(local.settings.database),
            "serving": str(local.settings.serving),
            "target": local.settings.target,
            "workers": 1,
        },
    }
    config.write_text(json.dumps(content))
    return config


def release_of(version, release):
    return release(str(version.version))


@pytest.fixture
def run(project):
    """Run the command: exit code, standard output, standard error."""
    app = typer.Typer()
    app.command()(rollback.rollback)

    def run(*arguments):
        result = CliRunner().invoke(app, ["--config", str(project), *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stdout, result.stderr

    return run


def answering(local):
    return requests.get(f"{local.settings.target}/version", timeout=10).json()["model_version"]


def state(local):
    notes = [(one.version, one.event) for one in registry.history("penguins")]
    return answering(local), registry.aliases("penguins"), notes


def test_given_nothing_more_then_the_previous_champion_is_back_and_a_second_time_undoes_it(
    run, local, schema
):
    code, printed, _ = run("--reason", "it was [better]")

    assert code == 0
    assert "penguins version 1 is champion" in printed
    live, aliases, notes = state(local)
    assert live == "1"
    assert aliases == {"champion": "1", "previous": "2", "challenger": "3"}
    assert notes[-2:] == [("2", "rolled back"), ("1", "restored")]
    assert registry.history("penguins")[-1].reason == "it was [better]"
    # the row that tried it was captured
    assert len(local.load(schema, 10)) == 1

    assert run()[0] == 0
    assert state(local)[:2] == ("2", {"champion": "2", "previous": "1", "challenger": "3"})


def test_given_captures_that_are_damaged_then_it_goes_back_all_the_same(run, local):
    database = local.settings.database
    database.with_name(f"{database.name}-wal").unlink(missing_ok=True)
    database.write_bytes(b"no database" * 1000)

    code, _, told = run()

    assert code == 0, told
    assert answering(local) == "1"


def test_given_a_dry_run_then_it_says_what_it_would_do_and_does_nothing(run, local):
    before = state(local)

    code, printed, _ = run("--dry-run")

    assert code == 0
    assert "serve version 1" in printed
    assert "in place of version 2; its files are still there" in printed
    assert "champion: 2 → 1, previous: 2" in printed
    assert state(local) == before


def test_given_files_that_are_gone_then_they_are_downloaded(run, local):
    shutil.rmtree(local.folder.model("1"))

    code, printed, _ = run()

    assert code == 0
    assert "version 1 is downloaded, for the backend cannot go back" in printed
    assert answering(local) == "1"


def test_given_a_version_that_was_never_live_then_it_asks_for_a_reason(run, local):
    before = state(local)
    code, _, complaint = run("--to", "3")
    assert (code, state(local)) == (1, before)
    assert "version 3 was never live" in complaint

    assert "download version 3" in run("--to", "3", "--reason", "hurry", "--dry-run")[1]
    assert run("--to", "3", "--reason", "hurry")[0] == 0
    assert state(local)[:2] == ("3", {"champion": "3", "previous": "2"})


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--to", "2"], "version 2 is champion and served already"),
        (["--to", "77"], "MLflow refused penguins, version 77"),
    ],
)
def test_given_a_version_that_cannot_go_back_then_one_line_says_why(
    run, local, arguments, complaint
):
    before = state(local)
    code, _, told = run(*arguments)
    assert (code, state(local)) == (1, before)
    assert complaint in told
    assert told.count("\n") == 1


def test_given_a_store_that_refuses_then_the_champion_serves_again(run, local, mlflow_store):
    before = state(local)
    with closing(sqlite3.connect(mlflow_store)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON registered_model_aliases"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )

    code, _, told = run()

    assert code == 1
    assert "version 1 was not put back" in told
    assert "version 2 serves again" in told
    assert state(local) == before


def test_given_a_version_that_does_not_load_then_the_champion_goes_on_serving(run, local):
    before = state(local)
    registered = Path(registry.numbered("penguins", "1").source.removeprefix("file://"))
    kept = registered / ARTIFACTS / "graph.onnx"
    content = kept.read_bytes()
    try:
        # other tests use this release too
        for graph in (kept, local.folder.model("1") / "graph.onnx"):
            graph.write_bytes(b"no graph")
        code, _, told = run()
    finally:
        kept.write_bytes(content)

    assert code == 1
    assert "error:" in told
    assert state(local) == before


def test_given_aliases_and_service_apart_then_it_brings_them_together(run, local):
    local.rollback()
    assert answering(local) == "1"

    code, _, _ = run("--to", "2")

    assert code == 0
    assert state(local)[:2] == (
        "2",
        {"champion": "2", "previous": "1", "challenger": "3"},
    )


def test_given_no_endpoint_then_none_is_created_unasked(make_version, moto, monkeypatch):
    for _ in range(2):
        registry.promote(make_version(), "better", {})
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    backend = settings.load(ROOT / "config" / "sagemaker.yml").create_backend()

    with pytest.raises(BackendError, match=r"penguins serves nothing .*`just sagemaker-deploy`"):
        rollback.make_plan("penguins", backend, None, None)


def test_given_no_server_then_one_is_started_with_the_previous_version(run, local):
    launcher.stop(local.folder)
    assert run()[0] == 0
    assert answering(local) == "1"
