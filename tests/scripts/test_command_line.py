"""Errors end in one line, exit code 1, and a stack trace only where it is asked for."""

from pathlib import Path

import pytest

from inference.errors import ConfigurationError
from scripts.command_line import one_line_errors


def raise_ours() -> None:
    raise ConfigurationError("config.yml: no such key")


def raise_the_systems() -> None:
    # not even root can write there
    Path("/proc/rookery").write_text("")


NO_FOLDER = "[Errno 2] No such file or directory: '/proc/rookery'; `just doctor` may know more"


@pytest.mark.parametrize(
    ("fails", "told"),
    [(raise_ours, "config.yml: no such key"), (raise_the_systems, NO_FOLDER)],
)
def test_one_line(capsys, monkeypatch, fails, told):
    with pytest.raises(SystemExit) as ended, one_line_errors():
        fails()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {told}\n"

    monkeypatch.setenv("ROOKERY_TRACE", "1")
    with pytest.raises(SystemExit), one_line_errors():
        fails()
    assert "Traceback" in capsys.readouterr().err


def test_an_error_in_the_code_is_none_of_the_users():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        1 / 0  # noqa: B018 - it is there to fail
