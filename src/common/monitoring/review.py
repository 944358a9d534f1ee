"""A window of captured rows, each version's beside its own reference: what comes of it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import registry
from inference.errors import RegistryError, RookeryError
from inference.local import ARTIFACTS
from inference.predictor import SCHEMA
from inference.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pandas as pd
    from evidently.core.report import Snapshot
    from mlflow.entities.model_registry import ModelVersion

    from common.monitoring.checks import Check, Overall
    from common.monitoring.drift import Comparison
    from common.monitoring.window import Window
    from common.settings import MonitoringSettings
    from inference.backend import Backend

    References = Callable[[str], tuple[Schema, pd.DataFrame] | None]

PAGES = ("report", "data", "drift", "quality")


@dataclass(frozen=True)
class Judgement:
    """What came of the rows that one version answered.

    Attributes:
        rows: How many they are.
        checks: Each as a plain dictionary; see `checks.Check`.
    """

    version: str
    verdict: Overall
    rows: int
    checks: list[dict[str, Any]]


@dataclass(frozen=True)
class Review:
    """What came of a window.

    Attributes:
        judged: The champion's rows; theirs is the verdict.
        others: The other versions' rows, most rows first.
        pages: HTML of the reports on the champion's rows, by their names in PAGES.
        snapshots: Evidently's own form of those that it made, by the same names.
    """

    judged: Judgement
    others: list[Judgement]
    pages: dict[str, str]
    snapshots: dict[str, Snapshot] = field(default_factory=dict)


def read_reference(version: ModelVersion) -> tuple[Schema, pd.DataFrame]:
    """Download the schema and the reference data that are stored with a version.

    Raises:
        RegistryError: They cannot be had.
    """
    import pandas as pd  # noqa: PLC0415 - one second

    from common.packaging import REFERENCE  # noqa: PLC0415 - imports the engine

    with tempfile.TemporaryDirectory() as scratch:
        schema, reference = (
            registry.download_file(version, str(ARTIFACTS / name), Path(scratch))
            for name in (SCHEMA, REFERENCE)
        )
        try:
            return Schema.read(schema), pd.read_parquet(reference)
        except (RookeryError, OSError, ValueError) as error:
            raise RegistryError(
                f"version {version.version} of {version.name}: its schema or reference cannot be"
                f" read ({error}); put its files back, or deploy another version"
            ) from error


def load_window(
    backend: Backend, schema: Schema, references: References, limit: int
) -> pd.DataFrame:
    """Return the newest rows, with the columns of every version that answered them.

    Args:
        backend: Holds the rows.
        schema: The champion's.
        references: See `review`.
        limit: Return at most this many rows.

    Raises:
        BackendError: The rows cannot be read.
    """
    rows = backend.load(schema, limit)
    known = filter(None, map(references, rows["model_version"].unique()))
    needed = merge([*(found[0] for found in known), schema])
    if needed.features.keys() <= schema.features.keys() and needed.classes == schema.classes:
        return rows
    return backend.load(needed, limit)


def merge(schemas: list[Schema]) -> Schema:
    """Return a schema with the columns of all; where they differ, the last one's counts."""
    return Schema(
        # no feature may have this name, so none of the others' features is in its way
        target="target",
        classes=tuple(
            dict.fromkeys(name for schema in reversed(schemas) for name in schema.classes)
        ),
        features={name: one for schema in schemas for name, one in schema.features.items()},
        placeholders=schemas[-1].placeholders,
    )


def review(
    captured: pd.DataFrame,
    champion: str,
    references: References,
    settings: MonitoringSettings,
    past: list[dict[str, Any]],
    run: str = "",
) -> Review:
    """Judge each version's rows beside its own reference, and report on the champion's.

    Args:
        captured: Rows as `Backend.load` returns them, of any number of versions.
        champion: The version that is deployed.
        references: Returns a version's schema and reference; None where there are none any more.
        settings: The limits.
        past: Earlier runs of monitoring, oldest first, for the report.
        run: Name of this one.
    """
    counts = captured["model_version"].value_counts()
    others = []
    for version in counts.index.drop(champion, errors="ignore"):
        window = make_window(captured, version, references, settings)
        found = check_alone(window) if window else [unknown_version(version)]
        others.append(judge(version, int(counts[version]), found))
    window = make_window(captured, champion, references, settings)
    if window:
        return review_champion(window, others, past, run)
    check = unknown_version(champion)
    judged = judge(champion, int(counts.get(champion, 0)), [check])
    return Review(judged, others, empty_pages(check.sentence))


def make_window(
    captured: pd.DataFrame, version: str, references: References, settings: MonitoringSettings
) -> Window | None:
    """Return one version's rows beside its reference; None where it has no reference.

    Of a version that was trained on captured rows as well, those that were current then count.
    """
    from common.fitting import current_rows  # noqa: PLC0415 - the engine
    from common.monitoring.window import Window  # noqa: PLC0415 - pandas, one second

    known = references(version)
    if known is None:
        return None
    schema, reference = known
    own = captured["model_version"] == version
    # a million rows need not be held twice
    rows = captured if own.all() else captured[own].reset_index(drop=True)
    return Window(rows, reference[current_rows(reference)], schema, version, settings)


def judge(version: str, rows: int, checks: list[Check]) -> Judgement:
    """Sum up the checks of one version's rows."""
    from common.monitoring.checks import verdict  # noqa: PLC0415 - see make_window

    return Judgement(version, verdict(checks), rows, [asdict(check) for check in checks])


def check_alone(window: Window) -> list[Check]:
    """Run the checks on rows of which Evidently makes no reports."""
    from common.monitoring.drift import compare  # noqa: PLC0415 - see make_window

    return run_checks(window, compare(window), {})


def unknown_version(version: str) -> Check:
    """Say that there is nothing to judge a version's rows by."""
    from common.monitoring.checks import UNKNOWN, Check  # noqa: PLC0415 - see make_window

    sentence = (
        f"The registry holds no reference of version {version} (it was deleted, or never"
        " registered there), so its rows cannot be judged."
    )
    return Check("reference", None, None, UNKNOWN, sentence)


def review_champion(
    window: Window, others: list[Judgement], past: list[dict[str, Any]], run: str
) -> Review:
    """Run the checks on the champion's rows, and build the reports."""
    from common.monitoring import reports  # noqa: PLC0415 - see make_window
    from common.monitoring.drift import compare  # noqa: PLC0415
    from common.monitoring.report import report_page  # noqa: PLC0415

    compared = compare(window)
    snapshots: dict[str, Snapshot] = {}
    drift, distances = reports.drift_report(window, compared, snapshots)
    rows = {other.version: other.rows for other in others}
    judged = judge(
        window.version, len(window.captured), run_checks(window, compared, distances, rows)
    )
    pages = {
        "report": report_page(window, judged.verdict, judged.checks, others, past, run),
        "data": reports.data_report(window, snapshots),
        "drift": drift,
        "quality": reports.quality_report(window, snapshots),
    }
    return Review(judged, others, pages, snapshots)


def empty_pages(statement: str) -> dict[str, str]:
    """Return pages that say why there are no reports."""
    from common.monitoring import reports  # noqa: PLC0415 - see make_window

    return {name: reports.page(name.capitalize(), [statement]) for name in PAGES}


def run_checks(
    window: Window,
    compared: Iterable[Comparison],
    distances: Mapping[str, float],
    others: Mapping[str, int] | None = None,
) -> list[Check]:
    """Run every check; where nothing was captured, there is only one.

    Args:
        window: What is judged.
        compared: Its columns; see `drift.compare`.
        distances: Evidently's distance of each column that it was asked about.
        others: Rows of the window that other versions answered, by version.
    """
    from common.monitoring import (  # noqa: PLC0415 - see make_window
        association,
        data,
        drift,
        estimation,
        quality,
        segments,
    )

    volume = data.check_volume(window, others or {})
    if window.captured.empty:
        return [volume]
    return [
        volume,
        data.check_freshness(window),
        data.check_schema(window),
        *data.check_missing(window),
        *data.check_unseen(window),
        *data.check_ranges(window),
        *data.check_constants(window),
        data.check_duplicates(window),
        *drift.check_drift(compared, distances),
        drift.check_confidence(window),
        association.check_associations(window),
        *quality.check_quality(window),
        *estimation.check_estimate(window),
        *segments.check_segments(window),
    ]
