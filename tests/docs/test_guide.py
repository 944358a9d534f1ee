"""The guide is built without a warning, is served until Ctrl-C, and its reference is up to date."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
import requests

from common import ROOT
from inference.errors import ConfigurationError
from scripts import guide, guide_reference
from scripts.reference_pages import of_settings

pytestmark = [
    pytest.mark.integration,
    # of an extension, for a version of Sphinx that is not out yet
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def run(state, *words: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "src/scripts/guide.py", *words],
        cwd=ROOT,
        env=os.environ | {"ROOKERY_STATE": str(state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_it_is_built_without_a_warning_and_served_until_ctrl_c(tmp_path, free_port):
    port = free_port()
    server = run(tmp_path, "--port", str(port))
    try:
        said = [server.stdout.readline() for _ in range(2)]
        assert f"http://127.0.0.1:{port}" in said[1], said
        answer = requests.get(f"http://127.0.0.1:{port}/", timeout=10)
        assert answer.status_code == 200
        assert "Rookery" in answer.text
    finally:
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=10)
    assert rest.strip() == ""
    assert server.returncode == 0


def test_a_warning_is_an_error(tmp_path, capfd):
    source = tmp_path / "docs"
    shutil.copytree(guide.SOURCE, source)
    (source / "serving.md").write_text("# Serving\n\n[nowhere](nowhere.md)\n", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="not built"):
        guide.build(tmp_path / "built", source)
    assert "nowhere.md" in capfd.readouterr().err


def test_a_port_that_is_taken_is_one_line_and_nothing_is_built(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        failed = run(tmp_path, "--port", port)
        said, _ = failed.communicate(timeout=60)

    assert failed.returncode == 1
    assert said.count("\n") == 1
    assert f"127.0.0.1:{port}" in said
    assert "--port" in said
    assert not guide.built().is_relative_to(tmp_path)
    assert not (tmp_path / "guide").exists()


def test_the_reference_is_what_the_code_says():
    for name, text in guide_reference.pages().items():
        written = (guide_reference.FOLDER / name).read_text(encoding="utf-8")
        assert written == text, f"docs/reference/{name} is out of date: run `just reference`"


def test_the_reference_has_no_other_page():
    written = {file.name for file in guide_reference.FOLDER.iterdir()}
    assert written == guide_reference.pages().keys()


def test_a_setting_that_nothing_is_said_of_is_refused():
    class Silent(of_settings.BaseModel):
        """Says nothing of its key."""

        key: int

    with pytest.raises(ConfigurationError, match=r"Silent\.key"):
        of_settings.settings_table(Silent)
