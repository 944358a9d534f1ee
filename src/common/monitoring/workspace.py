"""Evidently's workspace: every run's figures and reports, which its own UI shows over time."""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isfinite
from typing import IO, TYPE_CHECKING, Any

from common import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from evidently.core.metric_types import SingleValue
    from evidently.core.report import Snapshot
    from evidently.core.serialization import SnapshotModel
    from evidently.sdk.models import DashboardPanelPlot, PanelMetric
    from evidently.ui.workspace import Workspace

# Evidently's UI reads the whole workspace when it starts. A run's checks take some 20 kB of it,
# its reports a megabyte; those stay with the MLflow run as well.
KEPT_CHECKS, KEPT_REPORTS = 1000, 60
CHECKS = "checks"
# Everything has an id that comes from its name: two runs at once make one project, and a run that
# is repeated replaces what it added before.
NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "rookery")
# Evidently takes no type without the first part.
FIGURE = "evidently:metric_v2:RookeryFigure"
# No bar for a run that could not judge.
SEVERITY = {"pass": 1.0, "warn": 2.0, "fail": 3.0}
VERDICT, DRIFTED = "verdict", "drifted columns"
HEADERS = ("check", "column", "figure", "limit", "verdict", "what it says")


def state_folder() -> Path:
    """Return the folder on this machine in which runs keep what they leave behind."""
    return ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery")


def workspace_folder() -> Path:
    """Return the folder of the workspace."""
    return state_folder() / "evidently"


def add(
    folder: Path, run: str, outcome: Mapping[str, Any], snapshots: Mapping[str, Snapshot]
) -> None:
    """Add a run to the workspace.

    Evidently's own figures cannot be followed from run to run: it takes the drift of a column for
    another figure as soon as its limit differs. The panels show those of the checks.

    Args:
        folder: The workspace; it is made where there is none.
        run: Name of the run.
        outcome: Has `project`, `version`, `verdict` and `checks`.
        snapshots: Evidently's reports, by their names.
    """
    from evidently.sdk.models import ProjectModel  # noqa: PLC0415 - 8 s

    workspace = open_workspace(folder)
    project = uuid.uuid5(NAMES, outcome["project"])
    if workspace.get_project(project) is None:
        workspace.add_project(ProjectModel(id=project, name=outcome["project"]))
    place_panels(workspace, project)
    models = {name: snapshot.to_snapshot_model() for name, snapshot in snapshots.items()}
    # Evidently's own times are local ones without a zone, and it cannot compare them with others
    now = datetime.now(UTC).astimezone().replace(tzinfo=None)
    models[CHECKS] = summary(outcome, now)
    for name, model in models.items():
        model.timestamp, model.name = now, f"{name} of run {run}"
        model.tags = [outcome["verdict"], f"version {outcome['version']}"]
        # the version of the id tells `remove_old` which is which
        identity = (uuid.uuid5 if name == CHECKS else uuid.uuid3)(project, f"{run} {name}")
        workspace.state.write_snapshot(project, identity, model)
    remove_old(folder / str(project) / "snapshots")


def open_workspace(folder: Path) -> Workspace:
    """Open the workspace, so that what is written to it is there whole or not at all.

    Evidently writes in place, and its UI does not start where one file is torn.
    """
    from evidently.ui.workspace import Workspace  # noqa: PLC0415 - 8 s

    from common.streams import replacing  # noqa: PLC0415 - pyarrow

    workspace = Workspace.create(str(folder))
    location = workspace.state.location
    in_place = location.open

    @contextmanager
    def open_whole(path: str, mode: str = "r") -> Iterator[IO[str]]:
        if mode == "r":
            with in_place(path, mode) as file:
                yield file
            return
        with replacing(folder / path) as part, part.open(mode, encoding="utf-8") as file:
            yield file

    location.open = open_whole
    return workspace


def remove_old(folder: Path) -> None:
    """Remove the oldest checks and reports beyond those that are kept."""
    files = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    checks, reports = (
        [file for file in files if uuid.UUID(file.stem).version == version] for version in (5, 3)
    )
    for file in (*checks[KEPT_CHECKS:], *reports[KEPT_REPORTS:]):
        file.unlink(missing_ok=True)


def summary(outcome: Mapping[str, Any], now: datetime) -> SnapshotModel:
    """Return the checks of a run as a snapshot: their figures for the panels, and a table."""
    from evidently.core.serialization import ReportModel, SnapshotModel  # noqa: PLC0415 - 8 s
    from evidently.legacy.renderers.html_widgets import table_data  # noqa: PLC0415

    from common.monitoring.reports import harmless  # noqa: PLC0415 - pandas, one second

    rows = [[harmless(cell) for cell in row] for row in table(outcome["checks"])]
    return SnapshotModel(
        report=ReportModel(items=[]),
        name=None,
        timestamp=now,
        metadata={},
        tags=[],
        metric_results=dict(figures(outcome)),
        top_level_metrics=[],
        widgets=[
            table_data(title=f"Verdict: {outcome['verdict']}", column_names=HEADERS, data=rows)
        ],
        tests_widgets=[],
    )


def table(checks: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the checks as rows of text under HEADERS."""
    return [
        [
            check["name"],
            check["column"] or "",
            *("" if check[key] is None else f"{check[key]:.4g}" for key in ("figure", "limit")),
            check["verdict"],
            check["sentence"],
        ]
        for check in checks
    ]


def figures(outcome: Mapping[str, Any]) -> Iterator[tuple[str, SingleValue]]:
    """Yield every figure that panels can show, each with its id."""
    from evidently.core.metric_types import (  # noqa: PLC0415 - 8 s
        MetricConfig,
        SingleValue,
        single_value_location,
    )

    checks = outcome["checks"]
    found = {(check["name"], check["column"] or ""): check["figure"] for check in checks}
    drift = [check["verdict"] == "fail" for check in checks if check["name"] == "drift"]
    found[DRIFTED, ""] = sum(drift) / len(drift) if drift else None
    found[VERDICT, ""] = SEVERITY.get(outcome["verdict"])
    for (name, column), figure in found.items():
        if figure is None or not isfinite(figure):
            continue
        identity = f"{name} {column}"
        config = MetricConfig(
            metric_id=identity, params={"type": FIGURE, "check": name, "column": column}
        )
        location = single_value_location(config)
        yield (
            identity,
            SingleValue(display_name=identity, value=figure, metric_value_location=location),
        )


def place_panels(workspace: Workspace, project: uuid.UUID) -> None:
    """Put the panels that are not there yet onto the dashboard; people's own stay."""
    dashboard = workspace.get_dashboard(project)
    there = {panel.id for panel in dashboard.panels}
    new = [panel for panel in panels(project) if panel.id not in there]
    if not new:
        return
    from evidently.sdk.models import DashboardTabModel  # noqa: PLC0415 - 8 s

    tab = uuid.uuid5(project, "tab")
    if all(one.id != tab for one in dashboard.tabs):
        dashboard.tabs.insert(0, DashboardTabModel(id=tab, title="Monitoring", panels=[]))
    dashboard.panels += new
    next(one for one in dashboard.tabs if one.id == tab).panels += [panel.id for panel in new]
    workspace.save_dashboard(project, dashboard)


def panels(project: uuid.UUID) -> list[DashboardPanelPlot]:
    """Return the panels of a project's dashboard."""
    from evidently.sdk.models import PanelMetric  # noqa: PLC0415 - 8 s
    from evidently.sdk.panels import bar_plot_panel, line_plot_panel  # noqa: PLC0415

    def show(check: str, legend: str = "") -> PanelMetric:
        return PanelMetric(metric=FIGURE, metric_labels={"check": check}, legend=legend or check)

    each = "{{column}}"
    made = [
        bar_plot_panel(
            "Verdict", [show(VERDICT)], "1 is pass, 2 warn, 3 fail; none: too few rows", "half"
        ),
        line_plot_panel("Share of columns that drifted", [show(DRIFTED)], None, "half"),
        line_plot_panel(
            "Quality",
            [show("accuracy"), show("macro F1"), show("expected accuracy")],
            "Of labelled rows; expected, from the confidences, of all",
            "half",
        ),
        line_plot_panel("Recall by class", [show("recall", each)], None, "half"),
        line_plot_panel(
            "Drift by column",
            [show("drift", each)],
            "Numbers: Wasserstein distance in standard deviations; categories: Jensen-Shannon",
        ),
        line_plot_panel("Missing values by column", [show("missing", each)], None, "half"),
        line_plot_panel("Captured rows", [show("volume")], "Rows that were judged", "half"),
    ]
    for panel in made:
        panel.id = uuid.uuid5(project, panel.title)
    return made
