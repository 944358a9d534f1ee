"""Show every monitoring run over time, in Evidently's own UI."""

from pathlib import Path
from typing import Annotated

import typer

from common.monitoring.workspace import workspace_folder
from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors
from scripts.mlflow_server import check_port

HOST = "127.0.0.1"


def dashboard(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
) -> None:
    """Serve the workspace that monitoring fills on this machine, until Ctrl-C."""
    with one_line_errors():
        folder = require_runs(workspace_folder())
        check_port((HOST, port))
    print(f"Evidently shows {folder} on http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
    from evidently.ui.service.app import run_local  # noqa: PLC0415 - 8 s, during which one reads

    run_local(host=HOST, port=port, workspace=str(folder))


def require_runs(folder: Path) -> Path:
    """Return a workspace's folder if there is something in it.

    Raises:
        ConfigurationError: No run has been added to it.
    """
    if not any(folder.glob("*/snapshots/*.json")):
        raise ConfigurationError(
            f"{folder}: no monitoring run has been added yet; run `just monitor`"
        )
    return folder


if __name__ == "__main__":
    typer.run(dashboard)
