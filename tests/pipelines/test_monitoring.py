"""What monitoring prints, keeps and names, without a flow."""

from pathlib import Path

import pytest

from common import ROOT
from pipelines import monitoring

CHECKS = [
    {
        "name": "drift",
        "figure": 2.0481,
        "limit": 0.3788,
        "verdict": "fail",
        "sentence": "mass [kg] has drifted",
        "column": "mass [kg]",
    },
    {
        "name": "accuracy",
        "figure": None,
        "limit": None,
        "verdict": "not enough data",
        "sentence": "no labels",
        "column": None,
    },
    {
        "name": "macro F1",
        "figure": None,
        "limit": None,
        "verdict": "not enough data",
        "sentence": "no labels",
        "column": None,
    },
    {
        "name": "volume",
        "figure": 300.0,
        "limit": 100.0,
        "verdict": "pass",
        "sentence": "300 rows",
        "column": None,
    },
]


def test_figures_have_names_that_mlflow_takes():
    assert monitoring.metrics(CHECKS) == {"drift/mass _kg_": 2.0481, "volume": 300.0}


def test_table_leaves_out_what_was_not_measured():
    assert monitoring.table(CHECKS)[:2] == [
        ["drift", "mass [kg]", "2.048", "0.3788", "fail", "mass [kg] has drifted"],
        ["accuracy", "", "", "", "not enough data", "no labels"],
    ]


def test_what_did_not_pass_is_told_once(capsys):
    monitoring.print_checks(CHECKS)
    printed = capsys.readouterr().out
    assert "│ drift    │ mass [kg] │ 2.048  │ 0.3788 │ fail" in printed
    assert "fail: mass [kg] has drifted\n" in printed
    assert printed.count("no labels") == 1
    assert "300 rows" not in printed


def test_pages_are_written_below_the_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ROOKERY_STATE", str(tmp_path))
    folder = monitoring.write_pages({"drift": "<p>é</p>"}, monitoring.reports_folder() / "run-1")
    assert folder == tmp_path / "reports" / "run-1"
    assert (folder / "drift.html").read_text(encoding="utf-8") == "<p>é</p>"


@pytest.mark.parametrize(
    ("state", "expected"), [("", ROOT / ".rookery"), (".demo", ROOT / ".demo")]
)
def test_state_folder_is_relative_to_the_repository(monkeypatch, state, expected):
    monkeypatch.setenv("ROOKERY_STATE", state)
    assert monitoring.reports_folder() == Path(expected) / "reports"
