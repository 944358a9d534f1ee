"""The commands about agents: what they print, write, and end with."""

import csv
import re
import subprocess
import sys
import xml.etree.ElementTree as ET  # what is parsed was written by this project

import pytest
import typer
from google.adk.apps import App
from typer.testing import CliRunner

from agents import rag, tic_tac_toe
from agents.rag.agent import create_workflow
from common import ROOT
from common.retrieval import Index
from common.retrieval.index import LOCATIONS, read_sources
from inference.errors import AgentError, RetrievalError
from scripts import ask_agent, evals, tournament


@pytest.fixture(autouse=True)
def _rules(monkeypatch):
    for name in ("AGENT_MODEL", "AGENT_API_BASE", "PLAYER_X", "PLAYER_O", "STYLE_X", "STYLE_O"):
        monkeypatch.setenv(name, "")


@pytest.fixture(scope="module")
def project_app() -> App:
    """Answers from this project's own documents."""
    index, _ = Index.build(read_sources(LOCATIONS))
    return App(name="rag", root_agent=create_workflow(index.search))


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_games_are_written_as_table_and_chart(tmp_path):
    told = run(tournament.tournament, "--games", 2, "--output", tmp_path)
    assert told.exit_code == 0, told.output
    assert "rules, not an LLM" in " ".join(told.stdout.split())
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["mark"], row["style"], row["games"]) for row in rows] == [
        ("X", "perfect", "2"),
        ("O", "random", "2"),
    ]
    assert rows[0]["wins"] == "2"
    chart = ET.parse(tmp_path / "chart.svg").getroot()  # noqa: S314 - see the import
    texts = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert "X wins: 2" in texts
    assert {"mended moves", "time of a move", "tokens of a game"} <= set(texts)


def test_a_tournament_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    """The second game breaks off; the same command plays it to its end, and the first not again."""
    from agents.tic_tac_toe import board  # noqa: PLC0415 - here alone

    played = []

    def breaks(cells):
        played.append(cells)
        if len(played) > 5:
            raise AgentError("the power is gone")
        return board.free_cells(cells)[0]

    options = ("--games", 2, "--output", tmp_path, "--commentator", "none")
    with monkeypatch.context() as patch:
        patch.setattr(board, "best_cell", breaks)
        told = run(tournament.tournament, *options)
    assert told.exit_code == 1
    message = r"error: game \d: the power is gone; `--output .*` goes on with it"
    assert re.search(message, " ".join(told.stderr.split()))
    assert not (tmp_path / "table.csv").exists()
    assert run(tournament.tournament, *options).exit_code == 0
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["games"] for row in rows] == ["2", "2"]


@pytest.mark.parametrize(
    ("question", "code", "said"),
    [
        ("What happens when the database is locked?", 0, "`docs/serving.md`: Serving > Capture"),
        ("Hello there!", 0, "Ask me something"),
        ("Which pancake recipe is best?", 2, "I cannot answer this from the documents"),
    ],
)
def test_a_question_ends_with_whether_it_was_answered(
    question, code, said, project_app, monkeypatch
):
    monkeypatch.setattr(rag, "app", project_app)
    told = run(ask_agent.ask, *question.split())
    assert (told.exit_code, told.stderr) == (code, "")
    assert said in told.stdout
    assert told.stdout.endswith("*Answered by embedded/rules (rules, not an LLM).*\n")


def test_an_index_that_is_not_there_is_an_error(monkeypatch):
    def search(*_):
        raise RetrievalError("there is no index: run `just index`")

    monkeypatch.setattr(rag, "app", App(name="rag", root_agent=create_workflow(search)))
    told = run(ask_agent.ask, "What is drift?")
    assert (told.exit_code, told.stderr) == (1, "error: there is no index: run `just index`\n")


def test_the_eval_sets_pass_with_the_rules(project_app, monkeypatch):
    monkeypatch.setattr(rag, "app", project_app)
    told = run(evals.evals)
    assert told.exit_code == 0, told.output
    assert re.search(r"(\d+) of \1 cases passed", told.stdout)


def test_what_differs_from_an_eval_set_is_shown(tmp_path, monkeypatch):
    text = (evals.FOLDER / "tic_tac_toe.evalset.json").read_text()
    other = tmp_path / "other.evalset.json"
    other.write_text(text.replace('"tally"', '"count"').replace("Say `play`", "Sing"))
    told = run(evals.evals, other)
    assert told.exit_code == 1
    assert "2 of 4 cases passed" not in told.stdout
    shown = " ".join(told.stdout.split())
    assert "called tally()" in shown
    assert "not in the answer: Sing" in shown
    other.write_text("{}")
    told = run(evals.evals, other)
    assert (told.exit_code, told.stderr.count("\n")) == (1, 1)
    assert "is no eval set of ADK's" in told.stderr


def test_the_sets_are_for_both_applications():
    names = {app.name for app in (rag.app, tic_tac_toe.app)}
    files = {file.name.removesuffix(evals.SUFFIX) for file in evals.FOLDER.glob("*.evalset.json")}
    assert files == names


@pytest.mark.integration
@pytest.mark.parametrize("name", ["ask_agent", "evals", "serve_agents", "tournament"])
def test_script_finds_the_agents_when_it_is_started_by_its_path(name):
    """The folder of a script comes first where modules are looked for."""
    told = subprocess.run(
        [sys.executable, str(ROOT / "src" / "scripts" / f"{name}.py"), "--help"],
        capture_output=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found = subprocess.run(
        [sys.executable, "-c", "import agents.rag"],
        cwd=ROOT / "src" / "scripts",
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
