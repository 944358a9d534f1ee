"""A window of captured rows beside the reference of the deployed version: what comes of it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import registry
from inference.local import ARTIFACTS
from inference.predictor import SCHEMA
from inference.schema import Schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

    from common.monitoring.checks import Check, Overall
    from common.monitoring.drift import Comparison
    from common.monitoring.window import Window
    from common.settings import MonitoringSettings


@dataclass(frozen=True)
class Review:
    """What came of a window.

    Attributes:
        checks: Each as a plain dictionary; see `checks.Check`.
        pages: HTML of the reports, by their names: data, drift, quality.
    """

    verdict: Overall
    checks: list[dict[str, Any]]
    pages: dict[str, str]


def read_reference(version: ModelVersion) -> tuple[Schema, pd.DataFrame]:
    """Download the schema and the reference data that are stored with a version."""
    import pandas as pd  # noqa: PLC0415 - one second

    from common.packaging import REFERENCE  # noqa: PLC0415 - imports the engine

    with tempfile.TemporaryDirectory() as scratch:
        schema, reference = (
            registry.download_file(version, str(ARTIFACTS / name), Path(scratch))
            for name in (SCHEMA, REFERENCE)
        )
        return Schema.read(schema), pd.read_parquet(reference)


def review(
    captured: pd.DataFrame,
    reference: pd.DataFrame,
    schema: Schema,
    version: str,
    settings: MonitoringSettings,
) -> Review:
    """Compare captured rows with the reference, run the checks and build the reports."""
    from common.monitoring import reports  # noqa: PLC0415 - pandas, one second
    from common.monitoring.checks import verdict  # noqa: PLC0415
    from common.monitoring.drift import compare  # noqa: PLC0415
    from common.monitoring.window import Window  # noqa: PLC0415

    window = Window(captured, reference, schema, version, settings)
    compared = compare(window)
    drift, distances = reports.drift_report(window, compared)
    found = run_checks(window, compared, distances)
    pages = {
        "data": reports.data_report(window),
        "drift": drift,
        "quality": reports.quality_report(window),
    }
    return Review(verdict(found), [asdict(check) for check in found], pages)


def run_checks(
    window: Window, compared: Iterable[Comparison], distances: Mapping[str, float]
) -> list[Check]:
    """Run every check; where nothing was captured, there is only one.

    Args:
        window: What is judged.
        compared: Its columns; see `drift.compare`.
        distances: Evidently's distance of each column that it was asked about.
    """
    from common.monitoring import data, drift, quality  # noqa: PLC0415 - pandas, one second

    volume = data.check_volume(window)
    if window.captured.empty:
        return [volume]
    return [
        volume,
        data.check_schema(window),
        *data.check_missing(window),
        *data.check_unseen(window),
        *drift.check_drift(compared, distances),
        *quality.check_quality(window),
    ]
