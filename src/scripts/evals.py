"""Evaluate the agents: play the conversations in evals/, and compare them with what is expected."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common import ROOT
from common.progress import progress
from scripts.command_line import one_line_errors
from scripts.tournament import missing_group

if TYPE_CHECKING:
    from google.adk.apps import App

    from agents.evaluation import Outcome

FOLDER = ROOT / "evals"
SUFFIX = ".evalset.json"


def evals(
    sets: Annotated[
        list[Path] | None, typer.Argument(help="Eval sets; all in evals/ unless given.")
    ] = None,
) -> None:
    """Play each conversation with the agents, and print what differs from what is expected.

    AGENT_MODEL says with which model. Every tool call must be the expected one,
    and every answer must contain what the set names; with a real model, the
    same tools must be called in the same order, with whatever arguments.

    Ends with 0 if all is as expected, and with 1 if not.
    """
    with one_line_errors():
        try:
            with progress("starting the agents"):
                from agents import models, rag, tic_tac_toe  # noqa: PLC0415 - 3 s
        except ModuleNotFoundError as error:
            raise missing_group(error) from error
        apps = {app.name: app for app in (rag.app, tic_tac_toe.app)}
        files = sets or sorted(FOLDER.glob(f"*{SUFFIX}"))
        model = models.model_name()
        outcomes = asyncio.run(evaluate_all(files, apps, model))
    table = Table(title=Text(f"with {models.title(model)}"))
    for name in ("set", "case", "tools", "what differs"):
        table.add_column(name)
    for name, outcome in outcomes:
        differs = [f"called {call}" for call in outcome.calls]
        differs += [f"not in the answer: {line}" for line in outcome.missing]
        table.add_row(name, outcome.case, f"{outcome.trajectory:.2f}", Text("; ".join(differs)))
    console = Console()
    console.width = max(console.width, 110)
    console.print(table)
    failed = sum(not outcome.passed for _, outcome in outcomes)
    print(f"{len(outcomes) - failed} of {len(outcomes)} cases passed")
    if failed:
        raise typer.Exit(1)


async def evaluate_all(
    files: list[Path], apps: "dict[str, App]", model: str
) -> "list[tuple[str, Outcome]]":
    """Play the cases of some eval sets, each with the application that its name begins with.

    Raises:
        RookeryError: A set cannot be read, or an application could not answer.
    """
    from agents import evaluation  # noqa: PLC0415 - see evals

    judge = evaluation.evaluator(model)
    cases = [
        (case_set.eval_set_id, case)
        for case_set in map(evaluation.read_set, files)
        for case in case_set.eval_cases
    ]
    outcomes = []
    with progress("evaluating", len(cases), "cases") as show:
        for name, case in cases:
            outcomes.append((name, await evaluation.evaluate(case, apps[name], judge)))
            show(len(outcomes))
    return outcomes


if __name__ == "__main__":
    typer.run(evals)
