"""Serve the agents with ADK's web page: questions to the documents, and Tic-Tac-Toe."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from click import Abort

from common import ROOT
from inference.errors import AgentError
from scripts.command_line import one_line_errors
from scripts.mlflow_server import check_port


def agents(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8001,
) -> None:
    """Serve the agents on http://127.0.0.1:8001; sessions stay in .rookery/agents.db."""
    with one_line_errors():
        try:
            from google.adk import cli as adk  # noqa: PLC0415 - its group may be left out
        except ImportError as error:
            reason = "google-adk is not installed: run `just setup --group agents`"
            raise AgentError(reason) from error
        check_port(("127.0.0.1", port))
    # ADK would ask whether it may report how it is used, in the terminal and on the page
    if not (Path.home() / ".adk" / "config.json").exists():
        program = Path(sys.executable).with_name("adk")
        subprocess.run([program, "telemetry", "disable"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ADK's own command
    sessions = (ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "agents.db").absolute()
    sessions.parent.mkdir(parents=True, exist_ok=True)
    words = [
        *("web", "--host", "127.0.0.1", "--port", str(port), "--no-reload"),
        *("--session_service_uri", f"sqlite:///{sessions}", "--artifact_service_uri", "memory://"),
        str(Path(__file__).resolve().parents[1] / "agents"),
    ]
    # Ctrl-C is how a server ends, and no failure
    with suppress(Abort):
        adk.main(words, prog_name="adk", standalone_mode=False)


if __name__ == "__main__":
    typer.run(agents)
