"""Stop the server that `just deploy` or `just serve` started."""

from pathlib import Path
from typing import Annotated

import typer

from common.progress import progress
from common.settings import DEFAULT_CONFIG
from inference import launcher
from scripts.command_line import CONFIG_HELP, local_backend, one_line_errors


def stop(config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG) -> None:
    """Stop the server once it has answered what it was asked."""
    with one_line_errors():
        _, backend = local_backend(config)
        with progress("waiting for the last answers"):
            stopped = launcher.stop(backend.folder)
        print("stopped" if stopped else "no server of this project runs")


if __name__ == "__main__":
    typer.run(stop)
