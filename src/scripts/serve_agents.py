"""Serve the agents with ADK's web page: questions to the documents, and Tic-Tac-Toe."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from common import ROOT
from inference.errors import AgentError
from scripts.command_line import one_line_errors
from scripts.mlflow_server import check_port


def agents(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8001,
) -> None:
    """Serve the agents on http://127.0.0.1:8001; sessions stay in .rookery/agents.db."""
    adk = Path(sys.executable).with_name("adk")
    with one_line_errors():
        if not adk.exists():
            raise AgentError("google-adk is not installed: run `just setup --group agents`")
        check_port(("127.0.0.1", port))
    # ADK would ask whether it may report how it is used, in the terminal and on the page
    if not (Path.home() / ".adk" / "config.json").exists():
        subprocess.run([adk, "telemetry", "disable"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ADK's own command
    sessions = (ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "agents.db").absolute()
    sessions.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *(str(adk), "web", "--host", "127.0.0.1", "--port", str(port), "--no-reload"),
        *("--session_service_uri", f"sqlite:///{sessions}", "--artifact_service_uri", "memory://"),
        str(Path(__file__).resolve().parents[1] / "agents"),
    ]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    typer.run(agents)
