"""The model registry: versions, aliases, promotion, rollback.

A version is `challenger` when it is registered, `champion` when it is deployed, and `previous`
when another takes its place. Every move is written on the version as a tag, so that its tags
tell what was live when, and why. Aliases and notes of one move are written all or not at all.
"""

import json
import re
import shutil
import sqlite3
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request

from inference.backend import Release
from inference.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"

# What makes a version champion.
PROMOTED, FORCED, RESTORED = "promoted", "forced", "restored"
HISTORY = "history."

SQLITE = "sqlite:///"


def without_password(uri: str) -> str:
    """Return the URI of a store as it may be shown."""
    # a file's path may hold an @, a password of a database a / too
    if uri.startswith("sqlite"):
        return uri
    return re.sub(r"://[^/:@]*(:.*)?@", "://…@", uri)


def make_request(url: str) -> Request:
    """Make the request to a server; user and password of its address go into a header.

    Raises:
        ValueError: This is no address; the error's text may hold the password.
    """
    parts = urlsplit(url)
    account, _, host = parts.netloc.rpartition("@")
    request = Request(urlunsplit(parts._replace(netloc=host)))  # noqa: S310 - http, see callers
    if account:
        name, _, password = account.partition(":")
        pair = b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
        # not for wherever the server may send us
        request.add_unredirected_header("Authorization", f"Basic {pair}")
    return request


def require_database(uri: str) -> None:
    """Stop if a store in a SQLite file cannot be opened or made.

    MLflow would try again for two minutes, and end with a stack trace.

    Raises:
        RegistryError: Names the file, the reason, and what to do.
    """
    if not uri.startswith(SQLITE):
        return
    path = Path(uri.removeprefix(SQLITE)).absolute()
    try:
        if path.exists():
            opened = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=30)
            with closing(opened) as connection:
                connection.execute("PRAGMA schema_version")
        else:
            # MLflow makes the folders that are not there
            folder = next(parent for parent in path.parents if parent.exists())
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (sqlite3.Error, OSError) as error:
        raise RegistryError(
            f"MLflow's store {path} cannot be used ({error}); if it is damaged, put a copy of it"
            " back, or move it away and a new one is made; else set MLFLOW_TRACKING_URI"
        ) from error


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
    return max(versions(name), key=lambda version: int(version.version))


def versions(name: str) -> "list[ModelVersion]":
    """Return all versions.

    Raises:
        RegistryError: There is none.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    found, token = [], None
    with explained(name):
        while True:
            page = mlflow.MlflowClient().search_model_versions(f"name='{name}'", page_token=token)
            found += page
            token = page.token
            if not token:
                break
    if not found:
        raise RegistryError(f"the registry holds no model {name!r}; run `just train`")
    return found


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
    if not any(Path(path).iterdir()):
        # of a folder that is gone, MLflow downloads nothing, and says nothing
        raise RegistryError(
            f"{version.name}, version {version.version}: its files are not where the store says"
            f" ({version.source}); put a copy of that folder back, or train again"
        )
    return Release(str(version.version), version.run_id or "", Path(path))


def download_file(version: "ModelVersion", path: str, folder: Path) -> Path:
    """Download one file of a version; `path` starts in the MLflow model's folder."""
    import mlflow  # noqa: PLC0415 - 4 s

    with explained(f"{version.name}, version {version.version}, file {path}"):
        uri = f"models:/{version.name}/{version.version}/{path}"
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))


@dataclass(frozen=True)
class Event:
    """What happened to a version.

    Attributes:
        time: UTC, as ISO 8601 has it.
        event: registered, promoted, forced, refused, retired, restored, rolled back, or
            deployed again.
        metrics: The figures of that moment.
    """

    time: str
    version: str
    event: str
    reason: str
    metrics: dict[str, float]


def promote(
    version: "ModelVersion", reason: str, metrics: Mapping[str, float], event: str = PROMOTED
) -> None:
    """Make a version the champion, and the champion of before the previous one.

    Raises:
        RegistryError: MLflow refused, and everything is as it was before.
    """
    replaced = f"version {version.version} took its place"
    _make_champion(version, (event, reason, metrics), ("retired", replaced))


def restore(version: "ModelVersion", reason: str) -> None:
    """Make an earlier version the champion again, and the one that leaves the previous one.

    Raises:
        RegistryError: MLflow refused, and everything is as it was before.
    """
    left = f"version {version.version} took its place again: {reason}"
    _make_champion(version, (RESTORED, reason, figures(version)), ("rolled back", left))


def _make_champion(
    version: "ModelVersion",
    arrival: tuple[str, str, Mapping[str, float]],
    departure: tuple[str, str],
) -> None:
    """Move the aliases and write the notes: event, reason and figures of who comes and who goes."""
    import mlflow  # noqa: PLC0415 - 4 s

    name, number = version.name, str(version.version)
    client = mlflow.MlflowClient()
    before = aliases(name)
    old = version_by_alias(name, CHAMPION)
    written: list[tuple[str, str]] = []
    try:
        with explained(name):
            if old and str(old.version) != number:
                client.set_registered_model_alias(name, PREVIOUS, str(old.version))
            client.set_registered_model_alias(name, CHAMPION, number)
            if before.get(CHALLENGER) == number:
                client.delete_registered_model_alias(name, CHALLENGER)
        if old and str(old.version) != number:
            written.append((str(old.version), note(old, *departure, {})))
        note(version, *arrival)
    except BaseException as error:
        try:
            with explained(name):
                _put_back(name, before, written)
        except RegistryError as second:
            raise RegistryError(
                f"{error}; the aliases could not be put back either ({second}): `just history`"
                " shows where they stand"
            ) from error
        raise


def _put_back(name: str, before: Mapping[str, str], written: list[tuple[str, str]]) -> None:
    import mlflow  # noqa: PLC0415 - 4 s

    client = mlflow.MlflowClient()
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        now = aliases(name).get(alias)
        if alias in before and now != before[alias]:
            client.set_registered_model_alias(name, alias, before[alias])
        elif alias not in before and now is not None:
            client.delete_registered_model_alias(name, alias)
    for number, key in written:
        client.delete_model_version_tag(name, number, key)


def aliases(name: str) -> dict[str, str]:
    """Return the version of each alias.

    Raises:
        RegistryError: There is no such model.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    with explained(name):
        found = mlflow.MlflowClient().get_registered_model(name).aliases
    return {alias: str(number) for alias, number in found.items()}


def note(version: "ModelVersion", event: str, reason: str, metrics: Mapping[str, float]) -> str:
    """Write on a version what happened to it, when and why; return the tag's name."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    content = json.dumps({"event": event, "reason": reason, "metrics": dict(metrics)})
    tag(version, {HISTORY + now: content})
    return HISTORY + now


def tag(version: "ModelVersion", tags: Mapping[str, str]) -> None:
    """Write tags on a version.

    Raises:
        RegistryError: MLflow refused.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    client = mlflow.MlflowClient()
    with explained(f"{version.name}, version {version.version}"):
        for key, value in tags.items():
            client.set_model_version_tag(version.name, str(version.version), key, value)


def figures(version: "ModelVersion") -> dict[str, float]:
    """Return the figures that stand on a version as tags."""
    return {"accuracy": float(version.tags["accuracy"])} if "accuracy" in version.tags else {}


def notes(version: "ModelVersion") -> list[Event]:
    """Return what happened to a version, oldest first."""
    found = []
    for key, content in version.tags.items():
        if key.startswith(HISTORY):
            told = json.loads(content)
            found.append(Event(key.removeprefix(HISTORY), str(version.version), **told))
    return sorted(found, key=lambda event: event.time)


def was_live(version: "ModelVersion") -> bool:
    """Whether a version ever was champion."""
    return any(event.event in (PROMOTED, FORCED, RESTORED) for event in notes(version))


def history(name: str) -> list[Event]:
    """Return what happened to all versions that the registry still holds, oldest first.

    Raises:
        RegistryError: There is no version.
    """
    found = []
    for version in versions(name):
        created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
        time = created.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        reason = f"trained by run {version.run_id}" if version.run_id else "by hand"
        registered = Event(time, str(version.version), "registered", reason, figures(version))
        found += [registered, *notes(version)]
    return sorted(found, key=lambda event: event.time)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn MLflow's errors into one line of ours."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - 4 s

    try:
        yield
    except MlflowException as error:
        first = str(error).strip().split("\n")[0][:300]
        raise RegistryError(f"MLflow refused {what}: {first}") from error
