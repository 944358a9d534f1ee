"""Write the folder from which `docker build` makes the image of Metaflow's tasks."""

import os
import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from common import ROOT
from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors
from scripts.image import requirements

DOCKERFILE = ROOT / "containers" / "tasks" / "Dockerfile"
# The flows' own packages, and those that a served model takes, which deployment tries out.
SELECTION = ("--no-default-groups", "--group", "serving")
IMAGE = "rookery-tasks:latest"


def task_image(
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write; task-image in the state folder unless given."),
    ] = None,
) -> None:
    """Write what the image is built from, and say how it is built and where it goes."""
    with one_line_errors():
        target = output or ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "task-image"
        write_context(target)
        print(how_to(target, os.environ.get("TASK_IMAGE") or IMAGE))


def write_context(target: Path) -> None:
    """Write the build context.

    Raises:
        ConfigurationError: It cannot be written, or uv cannot say what to install.
    """
    locked = requirements(*SELECTION)
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / "requirements.txt").write_text(locked, encoding="utf-8")
        shutil.copyfile(DOCKERFILE, target / "Dockerfile")
    except OSError as error:
        raise ConfigurationError(f"{target}: cannot be written ({error})") from error


def how_to(context: Path, image: str) -> str:
    """Return the commands that build the image, and push it where its name says."""
    # Batch's own machines; a Mac would build for ARM
    build = ["docker", "build", "--platform", "linux/amd64", "--tag", image, str(context)]
    lines = ["the image of the tasks is ready to be built:", shlex.join(build)]
    registry, _, name = image.partition("/")
    if name:
        region = registry.split(".")[3] if ".dkr.ecr." in registry else ""
        if region:
            lines.append(
                f"aws ecr get-login-password --region {region} |"
                f" docker login --username AWS --password-stdin {registry}"
            )
        lines.append(shlex.join(["docker", "push", image]))
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(task_image)
