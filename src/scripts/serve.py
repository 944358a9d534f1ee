"""Serve a registered model on this machine, in the foreground."""

import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from common import registry, tracking
from common.settings import DEFAULT_CONFIG
from inference.backend import Release
from inference.local import Local
from scripts.command_line import CONFIG_HELP, local_backend, one_line_errors


def serve(
    model_version: Annotated[
        str | None, typer.Option(help="Version to serve; the champion unless given.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen at, on 127.0.0.1.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core.")] = None,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Serve the champion, or the newest version where nothing has been deployed yet."""
    with one_line_errors():
        settings, backend = local_backend(config)
        changes = {"target": f"http://127.0.0.1:{port}"} if port else {}
        changes |= {"workers": workers} if workers else {}
        backend = Local(backend.settings.model_copy(update=changes))
        tracking.require_reachable(settings.tracking_uri)
        os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
        with tempfile.TemporaryDirectory() as scratch:
            release = choose(settings.project, model_version, Path(scratch) / "model")
            backend.prepare(release)
        print(f"version {release.version} at {backend.settings.target}, Ctrl-C ends it", flush=True)
        backend.serve()


def choose(project: str, number: str | None, folder: Path) -> Release:
    """Download the version to serve."""
    if number:
        version = registry.numbered(project, number)
    else:
        champion = registry.version_by_alias(project, registry.CHAMPION)
        version = champion or registry.newest(project)
    return registry.download(version, folder)


if __name__ == "__main__":
    typer.run(serve)
