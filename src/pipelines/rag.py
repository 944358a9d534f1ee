"""RAG: questions to the documents, one task each, with a card for every answer."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
from metaflow import card, current, step  # type: ignore[attr-defined] - card is a plug-in

from agents import answers
from common import tracking
from common.pipeline import Pipeline, logger, parameter
from inference.errors import AgentError


class Rag(Pipeline):
    """Ask the documents one question or many, and keep what came of it."""

    _keeps_mlflow_runs = True

    question: str = parameter("question", default="", help="What to ask.")
    file: str = parameter(
        "file", default="", help="Text file with one question on each line; evals/examples.txt."
    )

    @step
    def start(self) -> None:
        """Read the questions."""
        self.questions = answers.read_questions(self.question, self.file)
        self.next(self.ask, foreach="questions")

    @step
    def ask(self) -> None:
        """Ask one question."""
        from agents import rag  # noqa: PLC0415 - 3 s, and in a group of its own

        self.answer = answers.answer(str(self.input), rag.app)
        self.status = self.answer.status
        self.next(
            {"success": self.success, "refused": self.refused, "failed": self.failed},  # type: ignore[arg-type] - Metaflow's hint is older than it
            condition="status",
        )

    @card(type="html", options={"artifact": "page"})
    @step
    def success(self) -> None:
        """Show an answer with its references."""
        self.page = answers.card(self.answer)
        self.next(self.done)

    @card(type="html", options={"artifact": "page"})
    @step
    def refused(self) -> None:
        """Show what the documents do not say."""
        self.page = answers.card(self.answer)
        self.next(self.done)

    @card(type="html", options={"artifact": "page"})
    @step
    def failed(self) -> None:
        """Show what went wrong."""
        logger.error("%s: %s", self.answer.question, self.answer.reason)
        self.page = answers.card(self.answer)
        self.next(self.done)

    # branches meet in a step of their own before the questions do
    @step
    def done(self) -> None:
        """Wait for the other questions."""
        self.next(self.report)

    # MLflow is imported here alone: it takes 4 s
    @card(type="html", options={"artifact": "page"})
    @step
    def report(self, inputs: "list[Rag]") -> None:
        """Sum up, and record all answers in MLflow."""
        self.answers = [one.answer for one in inputs]
        self.counts = answers.counts(self.answers)
        self.page = answers.summary(self.answers)
        run = tracking.start_run(f"{self.settings.project}-rag", str(current.run_id), "Rag")
        self.mlflow_run_id = run.info.run_id
        answers.record(self.answers, self.mlflow_run_id)
        tracking.finish(self.mlflow_run_id, answers.figures(self.answers), {})
        self.next(self.end)

    # a step that fails has no card
    @step
    def end(self) -> None:
        """Say what came of it; questions that failed fail the run."""
        failed = [one for one in self.answers if one.status == "failed"]
        if failed:
            raise AgentError(
                f"{len(failed)} of {len(self.answers)} questions failed: {failed[0].reason}"
            )
        for one in self.answers:
            logger.info("%s\n%s", one.question, one.text)
        logger.info(
            "%d answered, %d refused; `uv run src/pipelines/rag.py card view report`",
            self.counts["success"],
            self.counts["refused"],
        )


if __name__ == "__main__":
    Rag()
