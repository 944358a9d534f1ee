"""Which report is pictured; the browser's part is in tests/browser."""

import os

import pytest

from inference.errors import ConfigurationError
from scripts import picture


def test_given_several_reports_then_the_newest_is_taken(tmp_path):
    for age, run in enumerate(["9", "10", "8"]):
        file = tmp_path / "reports" / run / "drift.html"
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (1000 - age, 1000 - age))

    assert picture.newest_report(tmp_path).parent.name == "9"


def test_given_no_report_then_the_error_says_what_to_run(tmp_path):
    with pytest.raises(ConfigurationError, match="just demo"):
        picture.newest_report(tmp_path)


def test_given_no_browser_then_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match=picture.INSTALL), picture.chromium():
        pass
