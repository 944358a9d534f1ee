"""Earlier monitoring runs, as MLflow keeps them: what was found, and who was told."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common import tracking

VERDICT, TOLD = "verdict", "alerts.told"


def experiment(project: str) -> str:
    """Return the name of the MLflow experiment of a project's monitoring runs."""
    return f"{project}-monitoring"


def past(project: str, limit: int) -> list[dict[str, Any]]:
    """Return the newest runs that came to a verdict, the oldest of them first.

    Returns:
        Dictionaries with `time` (ISO 8601, UTC), `version`, `verdict`, `metrics` (see `metrics`),
        and `told` (the verdict that each target of alerts heard last, by its digest).
    """
    import mlflow  # noqa: PLC0415 - 4 s

    client = mlflow.MlflowClient()
    kept = client.get_experiment_by_name(experiment(project))
    if kept is None:
        return []
    runs = client.search_runs(
        [kept.experiment_id],
        # a run that was cut short has no verdict
        filter_string="attributes.status = 'FINISHED'",
        max_results=limit,
        order_by=["attributes.start_time DESC"],
    )
    found: list[dict[str, Any]] = []
    for run in reversed(runs):
        tags = run.data.tags
        if VERDICT not in tags:
            continue
        # one that ended before it told anybody has changed nothing of what they know
        told = json.loads(tags[TOLD]) if TOLD in tags else (found[-1]["told"] if found else {})
        found.append(
            {
                "time": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(),
                "version": tags.get("model_version", ""),
                "verdict": tags[VERDICT],
                "metrics": dict(run.data.metrics),
                "told": told,
            }
        )
    return found


def before(runs: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the verdict of the last one of these runs; None where there is none."""
    return runs[-1]["verdict"] if runs else None


def record(name: str, flow: str, outcome: Mapping[str, Any], folder: Path) -> str:
    """Keep what a run found in MLflow.

    Args:
        name: Name of the run.
        flow: Name of the flow.
        outcome: Has `project`, `verdict`, `version`, `rows`, `checks`, and `training_run` (the
            MLflow run that trained the version).
        folder: Its files become the run's artifacts.

    Returns:
        Id of the MLflow run.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    run_id = tracking.start_run(experiment(outcome["project"]), name, flow).info.run_id
    mlflow.MlflowClient().log_artifacts(run_id, str(folder), "reports")
    tags = {
        VERDICT: outcome["verdict"],
        "model_version": outcome["version"],
        "training_run": outcome["training_run"],
    }
    tracking.finish(run_id, metrics(outcome["checks"]), tags)
    return run_id


def remember(run_id: str, told: Mapping[str, str]) -> None:
    """Keep with a run what each target of alerts has heard by now."""
    import mlflow  # noqa: PLC0415 - 4 s

    mlflow.MlflowClient().set_tag(run_id, TOLD, json.dumps(dict(told)))


def metrics(checks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of the checks, by names that MLflow takes.

    A name is that of the check, with the column behind a slash; the ends of an interval have
    `:low` and `:high` behind it.
    """
    found: dict[str, float] = {}
    for name, check in named(checks):
        if check["figure"] is None:
            continue
        found[name] = check["figure"]
        if interval := check.get("interval"):
            found |= zip((f"{name}:low", f"{name}:high"), interval, strict=True)
    return {name: figure for name, figure in found.items() if math.isfinite(figure)}


def named(
    checks: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return each check with its name among metrics.

    Where two names are the same for MLflow, the later one gets a number; one without a figure
    counts as well, so that a column has the same name in every run.
    """
    names = (
        tracking.metric_name(*filter(None, (check["name"], check["column"]))) for check in checks
    )
    return zip(tracking.numbered(names), checks, strict=True)
