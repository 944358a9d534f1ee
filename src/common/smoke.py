"""Real rows through a version that has just gone live, and the way back if they fail."""

from typing import TYPE_CHECKING

from inference.backend import Backend, Release
from inference.errors import BackendError, InvalidRecordsError, RookeryError
from inference.local import ARTIFACTS
from inference.predictor import SCHEMA, Predictor
from inference.schema import Record, Schema, to_records

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-4


def smoke_records(release: Release, rows: "pd.DataFrame") -> list[Record]:
    """Return rows of the table, with or without their target, as a version takes them.

    Raises:
        BackendError: It does not take them: it was trained on another table, or another
            description of it.
    """
    schema = Schema.read(release.path / ARTIFACTS / SCHEMA)
    records = [
        {name: value for name, value in record.items() if name in schema.features}
        for record in to_records(rows)
    ]
    try:
        return schema.check(records)
    except InvalidRecordsError as error:
        raise BackendError(
            f"version {release.version} failed its smoke test before it went live: {error}; train"
            " again, for the table or its description has changed since"
        ) from error


def smoke_test(backend: Backend, release: Release, records: list[Record]) -> str:
    """Ask the endpoint for predictions, and compare them with the model's own.

    Args:
        backend: Serves the release.
        release: What should be live.
        records: What `smoke_records` returns.

    Returns:
        What was found, in words.

    Raises:
        BackendError: The endpoint serves another version, fails, or answers differently.
    """
    try:
        predictor = Predictor.load(release.path / ARTIFACTS)
        answer = backend.invoke(records)
        compare(
            release.version, answer.model_version, predictor.predict(records), answer.predictions
        )
    except RookeryError as error:
        raise BackendError(f"version {release.version} failed its smoke test: {error}") from error
    return f"{len(records)} rows answered as the model itself does"


def compare(version: str, live: str, expected: list[dict], given: list[dict]) -> None:
    """Stop unless the endpoint answered as the version does."""
    if live != version:
        raise BackendError(f"the endpoint answers with version {live or 'unknown'}")
    if len(given) != len(expected):
        raise BackendError(f"{len(given)} predictions came back for {len(expected)} rows")
    for row, (want, got) in enumerate(zip(expected, given, strict=True)):
        worst = max(
            abs(got["probabilities"].get(name, 2.0) - p)
            for name, p in want["probabilities"].items()
        )
        if worst > TOLERANCE:
            raise BackendError(f"row {row}: a probability differs by {worst:.2g}")


def go_back(backend: Backend, version: str) -> str:
    """Roll back from a version, unless somebody has put another one live; say what came of it."""
    try:
        live = backend.status().version
        if live != version:
            return f"version {live or 'unknown'} serves by now, and goes on"
        return f"version {backend.rollback()} serves again"
    except RookeryError as error:
        return f"and there is no way back: {error}"
