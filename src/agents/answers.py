"""Answers to many questions: asking, cards, and the record in MLflow.

It stands beside the application's folder, and imports ADK when it asks: what shows and records
answers need not wait for it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from common import ROOT
from common.pages import TEMPLATES
from inference.errors import ConfigurationError, RookeryError

if TYPE_CHECKING:
    from google.adk.apps import App
    from google.adk.events import Event
    from mlflow.entities import Span

Status: TypeAlias = Literal["success", "refused", "failed"]
# What the workflow calls its ends; small talk is a success, too.
STATUSES: dict[str, Status] = {"answered": "success", "talk": "success", "refused": "refused"}
NANO = 1_000_000_000
EXAMPLES = ROOT / "evals" / "examples.txt"


@dataclass(frozen=True)
class Answer:
    """What came of one question.

    Attributes:
        question: What was asked.
        status: How it ended.
        model: What people read as the name of the model.
        text: The answer in Markdown.
        html: The same, sanitised.
        reason: Why there is none.
        references: The passages that it cites.
        removed: What the model wrote and nothing retrieved bears out.
        calls: What was searched for.
        tokens: What the models counted.
        seconds: How long it took.
        began: When it was asked, in nanoseconds since 1970.
        events: Who said what until when, in nanoseconds since 1970.
    """

    question: str
    status: Status
    model: str
    text: str = ""
    html: str = ""
    reason: str = ""
    references: list[dict[str, Any]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    began: int = 0
    events: list[tuple[str, str, int]] = field(default_factory=list)


def read_questions(question: str, file: str) -> list[str]:
    """Return one question, or those of a text file, one on each line; without either, examples.

    Raises:
        ConfigurationError: There is none, or both are given, or the file cannot be read.
    """
    if question and file:
        raise ConfigurationError("expected either --question or --file, not both")
    if not question:
        file = file or str(EXAMPLES)
    try:
        text = Path(file).read_text(encoding="utf-8") if file else question
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--file: {file} cannot be read ({error})") from error
    lines = [line.strip() for line in text.splitlines()] if file else [text.strip()]
    if not any(lines):
        raise ConfigurationError(f"{'--file' if file else '--question'}: there is no question")
    return [line for line in lines if line]


def answer(question: str, app: "App") -> Answer:
    """Ask one question; what goes wrong is an answer too."""
    from agents import models  # noqa: PLC0415 - 3 s
    from agents.running import event_text, run  # noqa: PLC0415

    model = models.title(models.model_name())
    events: list[tuple[str, str, int]] = []

    def note(event: "Event") -> None:
        name = event.node_info.name or event.author
        events.append((name, event_text(event), time.time_ns()))

    began = time.time_ns()
    try:
        told = asyncio.run(run(app, question, on_event=note))
    except RookeryError as error:
        seconds = (time.time_ns() - began) / NANO
        reason = str(error)
        return Answer(
            question, "failed", model, reason=reason, seconds=seconds, began=began, events=events
        )
    state = told.state
    status = STATUSES[state["status"]]
    return Answer(
        question,
        status,
        model,
        text=told.text,
        html=state["html"],
        reason=state["text"] if status == "refused" else "",
        references=state["references"],
        removed=state["removed"],
        calls=[str(arguments.get("query", "")) for _, arguments in told.calls],
        tokens=told.tokens,
        seconds=told.seconds,
        began=began,
        events=events,
    )


def counts(answers: Sequence[Answer]) -> dict[str, int]:
    """Count the answers by how they ended."""
    ends = Counter(one.status for one in answers)
    return {name: ends[name] for name in ("success", "refused", "failed")}


def figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Return what a run is compared by: how answers ended, and what one costs."""
    found: dict[str, float] = {f"{name}_count": count for name, count in counts(answers).items()}
    return found | {
        "seconds_mean": sum(one.seconds for one in answers) / len(answers),
        "tokens_mean": sum(one.tokens for one in answers) / len(answers),
    }


def render(template: str, **values: object) -> str:
    """Fill a template of the folder config; every value is escaped but sanitised HTML."""
    environment = Environment(
        loader=FileSystemLoader([ROOT / "config", TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(values)


def card(one: Answer) -> str:
    """Return the page of an answer."""
    values = asdict(one) | {"html": Markup(one.html)}  # noqa: S704 - nh3 has been over it
    return render("answer.html.j2", **values)


def summary(answers: Sequence[Answer]) -> str:
    """Return the page of all answers."""
    return render("answers.html.j2", answers=answers, counts=counts(answers))


def record(answers: Sequence[Answer], run_id: str) -> None:
    """Log answers to an MLflow run: a trace for each, and a table of all."""
    import mlflow  # noqa: PLC0415 - 4 s

    table = [
        {
            "question": one.question,
            "status": one.status,
            "answer": one.text or one.reason,
            "references": [f"{ref['source']}: {ref['heading']}" for ref in one.references],
            "seconds": round(one.seconds, 3),
            "tokens": one.tokens,
        }
        for one in answers
    ]
    columns = {name: [row[name] for row in table] for name in table[0]}
    experiment = mlflow.get_run(run_id).info.experiment_id
    with mlflow.start_run(run_id=run_id):
        mlflow.log_table(columns, "answers.json")
        for one in answers:
            trace(one, experiment)
        mlflow.flush_trace_async_logging()
    # leaving the context has ended the run, which goes on
    mlflow.MlflowClient().update_run(run_id, status="RUNNING")


def trace(one: Answer, experiment: str) -> None:
    """Log a trace: the question, and below it what each node did until when."""
    import mlflow  # noqa: PLC0415 - 4 s

    attributes: dict[str, Any] = {
        "status": one.status,
        "model": one.model,
        "tokens": one.tokens,
        "removed": one.removed,
    }
    root: Span = mlflow.start_span_no_context(
        "question",
        span_type="AGENT",
        inputs={"question": one.question},
        attributes=attributes,
        start_time_ns=one.began,
        experiment_id=experiment,
    )
    began = one.began
    for name, said, ended in one.events:
        span = mlflow.start_span_no_context(name, parent_span=root, start_time_ns=began)
        span.end(outputs={"text": said}, end_time_ns=ended)
        began = ended
    root.end(
        outputs={"answer": one.text, "reason": one.reason, "references": one.references},
        status="ERROR" if one.status == "failed" else "OK",
        end_time_ns=one.began + int(one.seconds * NANO),
    )
