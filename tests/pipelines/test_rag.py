"""`just rag`: questions to an index, answered, refused and failed, each with a card."""

import json
import re

import pytest

from agents import answers
from common import ROOT
from common.retrieval import Index, index_folder
from inference.errors import ConfigurationError

pytestmark = pytest.mark.integration

DOCUMENT = b"# Birds\n\n## Feeding\n\nPenguins eat krill and <b>small</b> fish.\n"
QUESTIONS = "What do penguins eat?\n\nWhich <i>stocks</i> should I buy?\nHello!\n"


@pytest.fixture(scope="module")
def shop(workshop_class, tmp_path_factory):
    """A workshop of its own whose repository has one document."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shop")
        root = tmp_path_factory.mktemp("root")
        (root / "config").symlink_to(ROOT / "config")
        (root / "docs").mkdir()
        (root / "docs" / "birds.md").write_bytes(DOCUMENT)
        made = workshop_class(folder)
        for name in made.environment:
            patch.setenv(name, made.environment[name])
        for name in ("AGENT_MODEL", "EMBEDDING_MODEL"):
            patch.setenv(name, "")
        patch.setenv("ROOKERY_ROOT", str(root))
        made.root = root
        yield made


@pytest.fixture(scope="module")
def index(shop):
    built, _ = Index.build({"docs/birds.md": DOCUMENT}, locations=("docs",))
    place = shop.root / index_folder("embedded/tfidf").relative_to(ROOT)
    built.save(place)
    return place


def card_of(shop, run, step: str) -> str:
    """Return the page of a step."""
    wanted = {"Rag", run.id, step}
    (file,) = [file for file in shop.folder.rglob("*.html") if wanted <= set(file.parts)]
    return file.read_text()


def test_questions_are_answered_and_recorded(shop, index, tmp_path):
    import mlflow  # noqa: PLC0415 - 4 s

    (tmp_path / "questions.txt").write_text(QUESTIONS)
    fine, run, output = shop.run("rag", file=str(tmp_path / "questions.txt"))
    assert fine, output
    assert "2 answered, 1 refused" in output
    answers = {one.question: one for one in run["report"].task.data.answers}
    assert [one.status for one in answers.values()] == ["success", "refused", "success"]
    assert answers["What do penguins eat?"].references[0]["heading"] == "Birds > Feeding"
    page = card_of(shop, run, "refused")
    assert "Which &lt;i&gt;stocks&lt;/i&gt; should I buy?" in page
    assert "<i>" not in page
    summary = card_of(shop, run, "report")
    assert "2 success, 1 refused, 0 failed" in summary
    assert "docs/birds.md: Birds &gt; Feeding" in summary

    mlflow.set_tracking_uri(shop.tracking_uri)
    client = mlflow.MlflowClient()
    record = client.get_run(run["report"].task.data.mlflow_run_id)
    assert (record.info.status, record.data.metrics["success_count"]) == ("FINISHED", 2)
    table = json.loads(mlflow.artifacts.load_text(f"{record.info.artifact_uri}/answers.json"))
    assert table["columns"][:2] == ["question", "status"]
    traces = mlflow.search_traces(
        locations=[record.info.experiment_id], return_type="list", flush=True
    )
    assert len(traces) == 3
    spans = [span.name for span in traces[0].data.spans]
    assert spans[0] == "question"
    assert {"retriever", "check_citations", "formatter", "sanitise"} <= set(spans)
    mlflow.set_tracking_uri(None)


def test_a_question_that_fails_fails_the_run(shop, monkeypatch):
    monkeypatch.setenv("EMBEDDING_MODEL", "nobody/has-it")
    fine, run, output = shop.run("rag", question="What do penguins eat?")
    assert not fine
    assert re.search(r"1 of 1 questions failed: there is no index in .*: run `just index", output)
    assert "there is no index" in card_of(shop, run, "failed")


@pytest.mark.parametrize(
    ("question", "file", "said"),
    [
        ("a", "b", "expected either"),
        (" ", "", "there is no question"),
        ("", "/nowhere", "--file: /nowhere cannot be read"),
    ],
)
def test_without_a_question_nothing_is_asked(question, file, said):
    with pytest.raises(ConfigurationError, match=said):
        answers.read_questions(question, file)


def test_without_a_word_the_examples_are_asked():
    assert answers.read_questions("", "")[0] == "How do I roll back a deployment?"
