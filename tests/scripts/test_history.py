"""What was live when, and why: as a table and as JSON."""

import json

import pytest
import typer
from typer.testing import CliRunner

from common import registry
from inference.backend import Status
from scripts import history

NASTY = '[bold]it[/bold] <b>was</b> "better" 🐧'


@pytest.fixture
def run(schema, tmp_path, mlflow_store):
    """Run the command on versions of this store; nothing is deployed."""
    config = tmp_path / "config.yml"
    content = {
        "project": "penguins",
        "dataset": {"path": "none.csv", **json.loads(schema.model_dump_json())},
        "mlflow_tracking_uri": f"sqlite:///{mlflow_store}",
        "backend": {
            "module": "backend.Local",
            "database": str(tmp_path / "captured.db"),
            "serving": str(tmp_path / "serving"),
        },
    }
    config.write_text(json.dumps(content))
    app = typer.Typer()
    app.command()(history.history)

    def run(*arguments):
        result = CliRunner().invoke(app, ["--config", str(config), *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def lived(make_version):
    """Two versions: the second was refused, forced, and rolled back."""
    first = make_version()
    registry.promote(first, "the first", {"accuracy": 0.97})
    second = make_version()
    figures = {
        "macro F1, champion": 0.98,
        "macro F1, challenger": 0.93,
        "macro F1, difference from": -0.08,
        "macro F1, difference to": -0.02,
    }
    registry.note(second, "refused", "it is worse", figures)
    registry.promote(second, NASTY, figures, registry.FORCED)
    registry.restore(first, "it was better")


def test_given_a_life_then_the_table_tells_it_newest_last(run, lived):
    code, printed, _ = run()

    assert code == 0
    order = ["promoted", "refused", "forced", "rolled back", "restored"]
    places = [printed.index(f" {event} ") for event in order]
    assert places == sorted(places)
    assert NASTY in printed
    assert "macro F1 0.98 → 0.93" in printed
    assert "champion: 1, previous: 2; served at http://127.0.0.1:8080: nothing" in printed
    assert "attention: version 1 is champion, but nothing is deployed" in printed


def test_given_json_then_machines_read_the_same(run, lived):
    content = json.loads(run("--json")[1])

    assert content["aliases"] == {"champion": "1", "previous": "2", "challenger": None}
    assert content["served"] == {"version": None, "running": False}
    told = [(one["version"], one["event"]) for one in content["events"]]
    assert told[0] == ("1", "registered")
    assert told[-2:] == [("2", "rolled back"), ("1", "restored")]
    assert content["events"][-3]["reason"] == NASTY
    assert [one["time"] for one in content["events"]] == sorted(
        one["time"] for one in content["events"]
    )


def test_given_no_model_then_one_line_says_what_to_run(run):
    code, _, told = run()
    assert (code, told.count("\n")) == (1, 1)
    assert "run `just train`" in told


@pytest.mark.parametrize(
    ("champion", "served", "told"),
    [
        ("2", "2", None),
        (None, None, None),
        ("1", "2", "version 1 is champion, but version 2 is served"),
        (None, "2", "version 2 is served, but none is champion"),
        ("1", None, "nothing is deployed"),
    ],
)
def test_champion_and_what_is_served(champion, served, told):
    found = history.apart(champion, Status(served, None, running=True, target="http://x:1"))
    assert found is None if told is None else told in found
