"""Show what the SageMaker endpoint serves, or delete it."""

from pathlib import Path
from typing import Annotated

import typer

from common import ROOT, settings
from inference.errors import ConfigurationError
from inference.sagemaker import Sagemaker
from scripts.ask import agree
from scripts.command_line import CONFIG_HELP, one_line_errors, show_progress

CONFIG = ROOT / "config" / "sagemaker.yml"

app = typer.Typer(add_completion=False)


def endpoint_of(config: Path) -> Sagemaker:
    """Make the backend of a config file, which must be Sagemaker.

    Raises:
        ConfigurationError: It is another one.
    """
    loaded = settings.load(config)
    backend = loaded.create_backend()
    if not isinstance(backend, Sagemaker):
        raise ConfigurationError(
            f"{config}: this command needs backend.Sagemaker, not {loaded.backend['module']}"
        )
    return backend


@app.command()
def status(config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = CONFIG) -> None:
    """Say which version is live, on how many instances, in what state, and whether it captures."""
    with one_line_errors():
        found = endpoint_of(config).status()
        shown = {
            "endpoint": found.target,
            "state": found.state,
            "version": found.version or "none",
            "before it": found.previous or "none",
            "instances": found.instances,
            "captures": "yes" if found.captures else "no",
        }
        for name, value in shown.items():
            print(f"{name:10} {value}")


@app.command()
def delete(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = CONFIG,
) -> None:
    """Delete the endpoint with its alarms, configurations and models; captures and labels stay."""
    with one_line_errors():
        backend = endpoint_of(config)
        endpoint = backend.endpoint
        show_progress()
        state, names = endpoint.status().state, endpoint.configurations()
        agree(
            f"deletes endpoint {endpoint.name} ({state}) in {backend.settings.region}, and"
            f" {len(names)} configuration(s) with their models: {', '.join(names) or 'none'}",
            agreed=yes,
        )
        endpoint.delete()
        print(f"endpoint {endpoint.name} is gone; what it captured stays in S3")


if __name__ == "__main__":
    app()
