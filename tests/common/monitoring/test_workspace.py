"""The workspace, read back as Evidently's own UI reads it."""

import asyncio
import errno
import json
import os
import uuid
from pathlib import Path

import pytest

from common import ROOT
from common.monitoring import drift, reports, workspace

pytestmark = pytest.mark.integration

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">"


def check(name: str, figure: float | None, column: str | None = None, verdict: str = "pass"):
    sentence = f"it says {HOSTILE}"
    return {
        "name": name,
        "figure": figure,
        "limit": 0.1,
        "verdict": verdict,
        "sentence": sentence,
        "column": column,
    }


def outcome(verdict: str = "fail", project: str = "penguins") -> dict:
    checks = [
        check("volume", 500.0),
        check("drift", 0.5, "mass <b>", "fail"),
        check("drift", 0.05, "island"),
        check("accuracy", 0.9),
        check("macro F1", None),
    ]
    return {"project": project, "version": "3", "verdict": verdict, "checks": checks}


def read(folder: Path):
    """Read a workspace as the UI does; return its state and its figures."""
    from evidently.ui.service.storage.local.base import (  # noqa: PLC0415 - 8 s
        InMemoryDataStorage,
        LocalState,
    )

    state = LocalState.load(str(folder), None)
    return state, InMemoryDataStorage(str(folder), state)


def series(folder: Path, name: str) -> dict[str, list[float | None]]:
    """Return what a figure's panel draws, by column."""
    from evidently.ui.service.base import SeriesFilter  # noqa: PLC0415 - 8 s

    state, figures = read(folder)
    [project] = state.projects
    wanted = SeriesFilter(
        metric=workspace.FIGURE, tags=[], metadata={}, metric_labels={"check": name}
    )
    found = asyncio.run(figures.get_data_series(project, [wanted], None, None))
    return {one.params.get("column", ""): one.values for one in found.series}


@pytest.fixture(scope="module")
def snapshots(make_window, draw) -> dict:
    """Evidently's reports on rows of which one holds HTML."""
    rows = draw(200)
    rows.loc[0, "island"] = HOSTILE
    window = make_window(rows)
    made: dict = {}
    reports.data_report(window, made)
    reports.drift_report(window, drift.compare(window), made)
    reports.quality_report(window, made)
    return made


def test_every_run_is_a_point_of_each_panel_and_its_reports_stand_beside_it(tmp_path, snapshots):
    assert list(snapshots) == ["data", "drift", "quality"]

    workspace.add(tmp_path, "1", outcome("pass"), snapshots)
    workspace.add(tmp_path, "2", outcome("no data"), {})
    workspace.add(tmp_path, "3", outcome("fail"), snapshots)

    state, _ = read(tmp_path)
    assert [project.name for project in state.projects.values()] == ["penguins"]
    [kept] = state.snapshots.values()
    assert sorted(one.name for one in kept.values()) == sorted(
        [f"{name} of run {run}" for run in "13" for name in ("checks", "data", "drift", "quality")]
        + ["checks of run 2"]
    )
    assert {tuple(one.tags) for one in kept.values()} == {
        (verdict, "version 3") for verdict in ("pass", "no data", "fail")
    }
    assert series(tmp_path, "verdict") == {"": [1.0, 3.0]}
    assert series(tmp_path, "drift") == {"mass <b>": [0.5] * 3, "island": [0.05] * 3}
    assert series(tmp_path, "drifted columns") == {"": [0.5] * 3}
    assert series(tmp_path, "macro F1") == {}


def test_every_panel_shows_a_figure_of_a_real_review(tmp_path, make_window, draw):
    from common.monitoring.review import judge, run_checks  # noqa: PLC0415 - 1 s

    window = make_window(draw(300))
    judged = judge("2", 300, run_checks(window, drift.compare(window), {}))
    found = {"project": "penguins", "version": "2", "verdict": judged.verdict}

    workspace.add(tmp_path, "1", {**found, "checks": judged.checks}, {})

    wanted = {
        metric.metric_labels["check"]
        for panel in workspace.panels(uuid.uuid4())
        for metric in panel.values
    }
    for name in wanted:
        assert series(tmp_path, name), name


def test_values_from_requests_end_no_element(tmp_path, snapshots):
    workspace.add(tmp_path, "1", outcome(), snapshots)
    for file in tmp_path.rglob("*.json"):
        if file.name == "dashboard.json" or "snapshots" in file.parts:
            text = file.read_text(encoding="utf-8")
            assert "</script" not in text
            assert "<img" not in text


def test_a_repeated_run_replaces_what_it_added(tmp_path, snapshots):
    for verdict in ("pass", "fail"):
        workspace.add(tmp_path, "1", outcome(verdict), snapshots)
    assert series(tmp_path, "verdict") == {"": [3.0]}
    assert len(list(tmp_path.glob("*/snapshots/*"))) == 4


@pytest.mark.parametrize("runs", [0, 1])
def test_given_a_write_that_breaks_off_then_the_ui_starts_and_the_run_can_be_repeated(
    tmp_path, monkeypatch, runs
):
    for run in range(runs):
        workspace.add(tmp_path, str(run), outcome("pass"), {})

    def break_off(content, file, **options):
        text = json.dumps(content, **options)
        file.write(text[: len(text) // 2])
        file.flush()
        # what there would be, were the process killed now
        assert len(read(tmp_path)[0].projects) == runs
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", break_off)
        with pytest.raises(OSError, match="No space left"):
            workspace.add(tmp_path, "last", outcome("fail"), {})
    assert len(read(tmp_path)[0].projects) == runs
    assert list(tmp_path.rglob("*.part")) == []

    workspace.add(tmp_path, "last", outcome("fail"), {})
    assert series(tmp_path, "verdict") == {"": [1.0] * runs + [3.0]}


def test_panels_are_placed_once_and_peoples_own_stay(tmp_path):
    from evidently.sdk.panels import text_panel  # noqa: PLC0415 - 8 s
    from evidently.ui.workspace import Workspace  # noqa: PLC0415

    workspace.add(tmp_path, "1", outcome(), {})
    opened = Workspace(str(tmp_path))
    [project] = opened.list_projects()
    ours = [panel.title for panel in project.dashboard.model().panels]
    project.dashboard.add_panel(text_panel("mine"), tab="Mine")

    workspace.add(tmp_path, "2", outcome(), {})

    model = project.dashboard.model()
    assert [panel.title for panel in model.panels] == [*ours, "mine"]
    assert [tab.title for tab in model.tabs] == ["Monitoring", "Mine"]
    assert len(model.tabs[0].panels) == len(ours) == len(set(ours)) >= 5


def test_two_projects_share_a_workspace(tmp_path):
    for name in ("penguins", "flowers"):
        workspace.add(tmp_path, "1", outcome(project=name), {})
    state, _ = read(tmp_path)
    assert {project.name for project in state.projects.values()} == {"penguins", "flowers"}


def test_the_oldest_are_removed_checks_later_than_reports(tmp_path, snapshots, monkeypatch):
    monkeypatch.setattr(workspace, "KEPT_CHECKS", 3)
    monkeypatch.setattr(workspace, "KEPT_REPORTS", 2)
    one = {"drift": snapshots["drift"]}
    for run in range(5):
        workspace.add(tmp_path, str(run), outcome(), one)
        for file in tmp_path.glob("*/snapshots/*"):
            # each run an hour after the one before
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - 3600))

    state, _ = read(tmp_path)
    [kept] = state.snapshots.values()
    assert {snapshot.name for snapshot in kept.values()} == {
        *(f"checks of run {run}" for run in (2, 3, 4)),
        *(f"drift of run {run}" for run in (3, 4)),
    }


@pytest.mark.parametrize(
    ("state", "expected"), [("", ROOT / ".rookery"), (".demo", ROOT / ".demo")]
)
def test_state_folder_is_relative_to_the_repository(monkeypatch, state, expected):
    monkeypatch.setenv("ROOKERY_STATE", state)
    assert workspace.state_folder() == expected
    assert workspace.workspace_folder() == expected / "evidently"
