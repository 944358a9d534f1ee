"""The model registry: versions, aliases, promotion, rollback.

A version is `challenger` when it is registered, `champion` when it is deployed, and `previous`
when another takes its place. Every move is written on the version as a tag, so that its tags
tell what was live when, and why.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from inference.backend import Release
from inference.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"


def version_by_alias(name: str, alias: str) -> "ModelVersion | None":
    """Return the version that an alias points at, or None."""
    import mlflow  # noqa: PLC0415 - 4 s
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    with explained(name):
        client = mlflow.MlflowClient()
        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            # MLflow says the same of a name, an alias and a version that are not there
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def champion(name: str) -> "ModelVersion":
    """Return the version that is deployed.

    Raises:
        RegistryError: None is.
    """
    found = version_by_alias(name, CHAMPION)
    if found is None:
        raise RegistryError(
            f"no version of the model {name!r} has been deployed; run `just train`, then"
            " `just deploy`"
        )
    return found


def candidate(name: str) -> "ModelVersion":
    """Return the version to deploy next: the challenger, or the champion where there is none.

    Raises:
        RegistryError: There is neither.
    """
    found = version_by_alias(name, CHALLENGER) or version_by_alias(name, CHAMPION)
    if found is None:
        raise RegistryError(
            f"the registry holds no version of the model {name!r} to deploy; run `just train`"
        )
    return found


def newest(name: str) -> "ModelVersion":
    """Return the version that was registered last.

    Raises:
        RegistryError: There is none.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    with explained(name):
        versions = mlflow.MlflowClient().search_model_versions(f"name='{name}'")
    if not versions:
        raise RegistryError(f"the registry holds no model {name!r}; run `just train`")
    return max(versions, key=lambda version: int(version.version))


def numbered(name: str, version: str) -> "ModelVersion":
    """Return a version by its number.

    Raises:
        RegistryError: There is no such version.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    with explained(f"{name}, version {version}"):
        return mlflow.MlflowClient().get_model_version(name, version)


def choose(project: str, number: str | None, folder: Path) -> Release:
    """Download the version with this number, else the champion, else the newest one.

    Raises:
        RegistryError: There is none, or it cannot be downloaded.
    """
    if number:
        version = numbered(project, number)
    else:
        version = version_by_alias(project, CHAMPION) or newest(project)
    return download(version, folder)


def download(version: "ModelVersion", folder: Path) -> Release:
    """Download a version's files into a new folder.

    Raises:
        RegistryError: The files cannot be had.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with explained(f"{version.name}, version {version.version}"):
        path = mlflow.artifacts.download_artifacts(
            f"models:/{version.name}/{version.version}", dst_path=str(folder)
        )
    return Release(str(version.version), version.run_id or "", Path(path))


def download_file(version: "ModelVersion", path: str, folder: Path) -> Path:
    """Download one file of a version; `path` starts in the MLflow model's folder."""
    import mlflow  # noqa: PLC0415 - 4 s

    with explained(f"{version.name}, version {version.version}, file {path}"):
        uri = f"models:/{version.name}/{version.version}/{path}"
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


def promote(version: "ModelVersion", reason: str, metrics: Mapping[str, float]) -> None:
    """Make a version the champion, and the champion of before the previous one."""
    import mlflow  # noqa: PLC0415 - 4 s

    client = mlflow.MlflowClient()
    before = version_by_alias(version.name, CHAMPION)
    with explained(version.name):
        if before and before.version != version.version:
            client.set_registered_model_alias(version.name, PREVIOUS, before.version)
            note(before, "retired", f"version {version.version} took its place", {})
        client.set_registered_model_alias(version.name, CHAMPION, version.version)
        challenger = version_by_alias(version.name, CHALLENGER)
        if challenger and challenger.version == version.version:
            client.delete_registered_model_alias(version.name, CHALLENGER)
        note(version, "promoted", reason, metrics)


def note(version: "ModelVersion", event: str, reason: str, metrics: Mapping[str, float]) -> None:
    """Write on a version what happened to it, when and why."""
    import mlflow  # noqa: PLC0415 - 4 s

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    content = json.dumps({"event": event, "reason": reason, "metrics": dict(metrics)})
    mlflow.MlflowClient().set_model_version_tag(
        version.name, str(version.version), f"history.{now}", content
    )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn MLflow's errors into one line of ours."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - 4 s

    try:
        yield
    except MlflowException as error:
        first = str(error).strip().split("\n")[0][:300]
        raise RegistryError(f"MLflow refused {what}: {first}") from error
