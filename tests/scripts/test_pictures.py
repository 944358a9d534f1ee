"""Which report is pictured; the browser's part is in tests/browser."""

import json
import os

import pytest

from inference.errors import ConfigurationError
from scripts import pictures


def test_newest_report_of_a_failed_run(tmp_path):
    verdicts = {"9": "pass", "10": "fail", "8": "fail"}
    for age, (run, verdict) in enumerate(verdicts.items()):
        file = tmp_path / "reports" / run / "verdict.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"verdict": verdict}))
        os.utime(file, (1000 - age, 1000 - age))

    assert pictures.newest_report(tmp_path) == tmp_path / "reports" / "10" / "report.html"


def test_no_failed_run(tmp_path):
    with pytest.raises(ConfigurationError, match="just demo"):
        pictures.newest_report(tmp_path)


def test_given_no_browser_then_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match=pictures.INSTALL), pictures.chromium():
        pass
