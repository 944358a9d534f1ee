import os

import pytest

from inference.errors import BackendError
from scripts.steps import python, run_step


def test_a_step_leaves_its_output_in_a_log(tmp_path, capsys):
    said = run_step("say hello", python("-c", "print('hello')"), os.environ, tmp_path)

    assert said == "hello\n" == (tmp_path / "say-hello.log").read_text()
    assert "✓ say hello" in capsys.readouterr().out


def test_a_step_that_fails_shows_the_end_of_its_log(tmp_path, capsys):
    script = "for i in range(100): print('line', i)\nraise SystemExit('the reason')"

    with pytest.raises(BackendError, match="count failed") as caught:
        run_step("count", python("-uc", script), os.environ, tmp_path)

    assert "the reason" in str(caught.value)
    assert "line 99" in str(caught.value)
    assert "line 50\n" not in str(caught.value)
    assert str(tmp_path / "count.log") in str(caught.value)
    assert "✓" not in capsys.readouterr().out
