"""Ask the documents a question, and get an answer with references."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from common.progress import progress
from scripts.command_line import one_line_errors
from scripts.tournament import missing_group

REFUSED = 2


def ask(question: Annotated[list[str], typer.Argument(help="What to ask.")]) -> None:
    """Answer a question from the documents that `just index` has read.

    Ends with 0 if it was answered, with 2 if the documents do not answer it,
    and with 1 if something went wrong.
    """
    with one_line_errors(), progress("reading the documents"):
        try:
            from agents.rag import app  # noqa: PLC0415 - 3 s
            from agents.running import run  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise missing_group(error) from error
        told = asyncio.run(run(app, " ".join(question)))
    console = Console()
    if console.is_terminal:
        console.print(Markdown(told.text))
    else:
        print(told.text)
    if told.state["status"] == "refused":
        raise typer.Exit(REFUSED)


if __name__ == "__main__":
    typer.run(ask)
