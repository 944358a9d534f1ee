"""What a container runs: the service, on the model that its image holds or SageMaker gives it."""

import os
import sys
import tempfile
from pathlib import Path
from typing import NoReturn, Self

from inference import launcher
from inference.errors import ConfigurationError, ModelError, RookeryError
from inference.live import LiveFolder
from inference.local import ARTIFACTS
from inference.predictor import Predictor
from inference.schema import Strict
from inference.server import ServerSettings

RELEASE = "release.json"
# Where SageMaker puts what it unpacks.
SAGEMAKER_MODEL = "/opt/ml/model"
# a control group's "<quota> <period>" in microseconds, or "max <period>"
CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


class ContainerRelease(Strict):
    """What stands beside a model in its image.

    Attributes:
        version: Version number in the registry.
        run_id: MLflow run that trained it.
        settings: The server's; its places are completed when a container starts.
    """

    version: str
    run_id: str
    settings: ServerSettings

    @classmethod
    def make(cls, version: str, run_id: str, settings: ServerSettings) -> Self:
        """Take over what holds in a container too: everything but this machine's paths."""
        places = {"folder": Path("serving"), "database": Path("captured.db")}
        return cls(version=version, run_id=run_id, settings=settings.model_copy(update=places))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            ModelError: It is missing or damaged.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())
            raise ModelError(f"{path}: cannot be read ({why}); build the image again") from error

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def serve(model: Path, captures: Path) -> NoReturn:
    """Become the server.

    Args:
        model: Folder with schema, graph and release; it is only read.
        captures: Folder of the database with what was answered.

    Raises:
        ModelError: The release is missing or damaged.
        ConfigurationError: A variable is wrong, or nothing can be captured.
    """
    release = ContainerRelease.read(model / RELEASE)
    if not os.access(captures, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{captures}: user {os.geteuid()} cannot write there; mount a volume, or a folder that"
            " belongs to this user"
        )
    become_server(model, release, captures / "captured.db")


def serve_on_sagemaker() -> NoReturn:
    """Become the server of the MLflow model that SageMaker has unpacked; it captures by itself.

    Raises:
        ModelError: The model is missing, does not load, or does not answer.
        ConfigurationError: A variable is wrong.
    """
    model = Path(os.environ.get("MODEL_FOLDER") or SAGEMAKER_MODEL) / ARTIFACTS
    # a server whose model does not load would be waited for in vain
    Predictor.load(model).try_out()
    release = ContainerRelease(
        version=os.environ.get("MODEL_VERSION") or "unknown",
        run_id=os.environ.get("MODEL_RUN_ID") or "unknown",
        settings=ServerSettings(folder=Path("serving"), database=None),
    )
    become_server(model, release, None)


def become_server(model: Path, release: ContainerRelease, database: Path | None) -> NoReturn:
    """Become the server of the model in a folder that is only read.

    Raises:
        ConfigurationError: A variable is wrong.
    """
    target = f"http://{os.environ['HOST']}:{whole_number('PORT')}"
    workers = whole_number("WORKERS", cores())
    folder = LiveFolder(Path(tempfile.mkdtemp()) / release.settings.folder)
    live = folder.model(release.version)
    live.parent.mkdir(parents=True)
    live.symlink_to(model.resolve())
    folder.point(release.version, release.run_id)
    places = {"folder": folder.path, "database": database}
    launcher.become_server(folder, release.settings.model_copy(update=places), target, workers)


def whole_number(name: str, default: int | None = None) -> int:
    """Read a positive whole number from the environment.

    Raises:
        ConfigurationError: It is something else.
    """
    text = os.environ.get(name) or str(default or "")
    if not (text.isdecimal() and int(text)):
        raise ConfigurationError(f"{name}: expected a whole number above 0, not {text!r}")
    return int(text)


def cores(limit: Path = CPU_LIMIT) -> int:
    """Return how many cores this container may use, which can be fewer than the machine has."""
    # macOS knows no affinity
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = limit.read_text(encoding="ascii").split()
    except FileNotFoundError:
        # nothing limits it in this way
        return allowed
    return allowed if quota == "max" else min(allowed, -(-int(quota) // int(period)))


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["serve"]:
            serve_on_sagemaker()
        serve(*map(Path, sys.argv[1:]))
    except RookeryError as error:
        sys.exit(f"error: {error}")
