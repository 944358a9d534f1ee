"""What importing the project sets up: .env, a user name, quiet libraries."""

import json
import os
import subprocess
import sys

import pytest

SHOWN = ("GREETING", "KERAS_BACKEND", "USERNAME", "DO_NOT_TRACK")


def environment_after_import(folder, **given) -> dict:
    """Import `common` in a bare process and return what it finds in the environment."""
    script = (
        f"import common, json, os; print(json.dumps({{k: os.environ.get(k) for k in {SHOWN}}}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "ROOKERY_ROOT": str(folder), **given},
        check=True,
        capture_output=True,
    )
    return json.loads(answer.stdout)


def refusal_of(folder, content: bytes) -> str:
    """Import `common` beside such a .env, which must fail, and return what it says."""
    (folder / ".env").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", "import common"],
        env={"PATH": os.environ["PATH"], "ROOKERY_ROOT": str(folder)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_given_a_file_of_variables_then_they_are_read_but_do_not_replace_what_is_set(tmp_path):
    (tmp_path / ".env").write_text("GREETING=from the file\nKERAS_BACKEND=tensorflow\n")

    assert environment_after_import(tmp_path)["GREETING"] == "from the file"
    assert environment_after_import(tmp_path, GREETING="set")["GREETING"] == "set"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "rookery"),
        ({"USER": "root"}, "rookery"),
        ({"USER": "ada"}, None),
        ({"METAFLOW_USER": "ada"}, None),
    ],
)
def test_given_a_bare_machine_then_metaflow_finds_a_user_name(tmp_path, given, name):
    found = environment_after_import(tmp_path, **given)

    assert found["USERNAME"] == name
    assert found["KERAS_BACKEND"] == "tensorflow"
    assert found["DO_NOT_TRACK"] == "1"


def test_given_a_file_of_variables_that_is_no_text_then_one_line_says_so(tmp_path):
    said = refusal_of(tmp_path, b"NAME=\xff\n")
    assert said.startswith(f"error: {tmp_path / '.env'}: cannot be read")


@pytest.mark.parametrize("value", ["$ecret", "ab$cd", '"a\\$b"', "$2b$10$abcdef"])
def test_given_a_dollar_that_just_would_replace_then_one_line_says_so(tmp_path, value):
    said = refusal_of(tmp_path, f"SERVING_TOKEN={value}\n".encode())
    assert "SERVING_TOKEN: a value with a $ must stand between single quotes" in said
    assert value.strip('"') not in said


@pytest.mark.parametrize("value", ["'$ecret'", "${NOBODY}", "plain  # costs $5"])
def test_given_other_dollars_then_they_are_fine(tmp_path, value):
    (tmp_path / ".env").write_text(f"GREETING={value}\n")
    environment_after_import(tmp_path)
