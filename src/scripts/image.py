"""Write the folder from which `docker build` makes the image of a served model."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from common import ROOT, registry, tracking
from common.progress import progress
from common.settings import DEFAULT_CONFIG
from inference.backend import Release
from inference.container import RELEASE, ContainerRelease
from inference.engine import GRAPH
from inference.errors import ConfigurationError
from inference.launcher import STOP_SECONDS
from inference.local import ARTIFACTS
from inference.predictor import SCHEMA, Predictor
from inference.server import ServerSettings
from scripts.command_line import CONFIG_HELP, local_backend, one_line_errors

DOCKERFILE = ROOT / "containers" / "serving" / "Dockerfile"
SOURCES = ROOT / "src" / "inference"
# The names and the hashes of what is locked, but not where it was locked from: the image is built
# elsewhere, with another index.
EXPORT = [
    "export",
    *("--frozen", "--no-emit-project", "--no-header", "--no-annotate", "--quiet"),
]


def image(
    model_version: Annotated[
        str | None,
        typer.Option(
            help="Version to put in; the champion unless given, the newest where there is none."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder to write; image in the state folder unless given.")
    ] = None,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Write what the image is built from, and say how it is built and run."""
    with one_line_errors():
        settings, backend = local_backend(config)
        target = output or ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "image"
        require_replaceable(target)
        tracking.require_reachable(settings.tracking_uri)
        os.environ["MLFLOW_TRACKING_URI"] = settings.tracking_uri
        with progress("fetching the model"), tempfile.TemporaryDirectory() as scratch:
            release = registry.choose(settings.project, model_version, Path(scratch) / "model")
            write_context(target, settings.project, release, backend.server_settings())
        print(how_to(target, image_name(settings.project), release.version))


def write_context(target: Path, project: str, release: Release, settings: ServerSettings) -> None:
    """Write a version's build context, whole or not at all.

    Args:
        target: Folder to write; a context that is there is replaced.
        project: Name of the registered model.
        release: The version.
        settings: The server's settings, of which a container takes the limits.

    Raises:
        ConfigurationError: The target holds something else or cannot be written, or uv cannot say
            what to install.
        ModelError: The version does not load, or does not answer.
    """
    target = target.resolve()
    require_replaceable(target)
    source = release.path / ARTIFACTS
    Predictor.load(source, "onnx").try_out()
    inside = ContainerRelease.make(release.version, release.run_id, settings)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            made = Path(scratch) / "made"
            fill(made, source, project, inside)
            if target.exists():
                target.rename(Path(scratch) / "replaced")
            made.rename(target)
    except OSError as error:
        raise ConfigurationError(f"{target}: cannot be written ({error})") from error


def require_replaceable(target: Path) -> None:
    """Stop if something would be lost.

    Raises:
        ConfigurationError: The target exists, and is neither empty nor a context.
    """
    is_context = (target / "model" / RELEASE).is_file()
    if target.exists() and not is_context and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigurationError(
            f"{target} is there already and is not what this command writes; choose another"
            " folder with --output"
        )


def fill(folder: Path, source: Path, project: str, release: ContainerRelease) -> None:
    """Write a context into a new folder."""
    model = folder / "model"
    model.mkdir(parents=True)
    for name in (SCHEMA, GRAPH):
        shutil.copyfile(source / name, model / name)
    release.write(model / RELEASE)
    shutil.copytree(SOURCES, folder / "inference", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "requirements.txt").write_text(
        requirements("--only-group", "serving"), encoding="utf-8"
    )
    labels = {"title": project, "version": release.version, "revision": release.run_id}
    lines = [
        f"LABEL org.opencontainers.image.{key}={json.dumps(value, ensure_ascii=False)}\n"
        for key, value in labels.items()
    ]
    dockerfile = DOCKERFILE.read_text(encoding="utf-8") + "".join(lines)
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    # modes come along into the image, whose user is not the one who writes here
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def requirements(*selection: str) -> str:
    """Return locked packages, with the hashes of their files.

    Args:
        selection: Options of `uv export` that say which.

    Raises:
        ConfigurationError: There is no uv, or it fails.
    """
    uv = shutil.which("uv")
    if uv is None:
        raise ConfigurationError("there is no uv on PATH; run this as `./justw image`")
    exported = subprocess.run(  # noqa: S603 - our own command
        [uv, *EXPORT, *selection, "--project", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if exported.returncode:
        raise ConfigurationError(
            f"uv cannot read what is locked: {exported.stderr.strip()}; run `just setup`"
        )
    return exported.stdout


def image_name(project: str) -> str:
    """Return the project's name as docker allows it: a to z, digits, and single hyphens between."""
    return re.sub(r"[^a-z0-9]+", "-", project.lower()).strip("-") or "model"


def how_to(context: Path, name: str, version: str) -> str:
    """Return the commands that build and run the image."""
    tag = f"{name}:{version}"
    build = ["docker", "build", "--tag", tag, str(context)]
    run = [
        *("docker", "run", "--rm", "--read-only"),
        *("--publish", "127.0.0.1:8080:8080", "--volume", f"{name}-captures:/captures"),
        # docker's own 10 s are fewer than requests in flight may take
        *("--stop-timeout", f"{STOP_SECONDS:.0f}", tag),
    ]
    return (
        f"version {version} is ready to be built and run:\n{shlex.join(build)}\n{shlex.join(run)}"
    )


if __name__ == "__main__":
    typer.run(image)
