"""Serve a registered model on this machine, in the foreground."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from common.progress import progress
from common.settings import DEFAULT_CONFIG, Settings
from inference.local import Local
from scripts.command_line import CONFIG_HELP, local_backend, one_line_errors


def serve(
    model_version: Annotated[
        str | None, typer.Option(help="Version of the registry to serve.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen at, on 127.0.0.1.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core.")] = None,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Serve what was deployed last; the champion where nothing was, else the newest version."""
    with one_line_errors():
        settings, backend = local_backend(config)
        changes = {"target": f"http://127.0.0.1:{port}"} if port else {}
        changes |= {"workers": workers} if workers else {}
        backend = Local(backend.settings.model_copy(update=changes))
        if model_version or not backend.folder.pointer():
            version = prepare_from_registry(settings, backend, model_version)
        else:
            version = backend.prepare()
        print(f"version {version} at {backend.settings.target}, Ctrl-C ends it", flush=True)
        backend.serve()


def prepare_from_registry(settings: Settings, backend: Local, number: str | None) -> str:
    """Download the version to serve, and prepare the backend for it."""
    # imports MLflow, for longer than all the rest takes
    from common import registry, tracking  # noqa: PLC0415

    tracking.require_reachable(settings.tracking_uri)
    os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
    with progress("fetching the model"), tempfile.TemporaryDirectory() as scratch:
        release = registry.choose(settings.project, number, Path(scratch) / "model")
        return backend.prepare(release)


if __name__ == "__main__":
    typer.run(serve)
