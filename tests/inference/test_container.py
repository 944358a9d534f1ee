"""What a container's start reads and refuses; tests/scripts/test_image.py starts one."""

import os

import pytest

from inference import container
from inference.container import RELEASE, ContainerRelease
from inference.engine import GRAPH
from inference.errors import ConfigurationError, ModelError
from inference.server import ServerSettings


@pytest.fixture
def model(tmp_path):
    """A folder with a release alone: what is refused here is refused before a model is loaded."""
    settings = ServerSettings(folder=tmp_path, database=tmp_path / "captured.db", max_rows=7)
    ContainerRelease.make("3", "run-3", settings).write(tmp_path / RELEASE)
    return tmp_path


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("HOST", "127.0.0.1")
    monkeypatch.setenv("PORT", "8080")
    monkeypatch.setenv("WORKERS", "")


def test_release_comes_back_without_the_paths_of_the_machine_that_wrote_it(model):
    release = ContainerRelease.read(model / RELEASE)
    assert (release.version, release.run_id, release.settings.max_rows) == ("3", "run-3", 7)
    assert not release.settings.folder.is_absolute()
    assert not release.settings.database.is_absolute()


@pytest.mark.parametrize("text", [None, "", "{}", '{"version": "1", "run_id": "", "settings": {}}'])
def test_damaged_release(model, text):
    (model / RELEASE).unlink()
    if text is not None:
        (model / RELEASE).write_text(text)
    with pytest.raises(ModelError, match=r"release\.json: cannot be read .*; build the") as caught:
        container.serve(model, model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["PORT", "WORKERS"])
@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²"])
def test_wrong_number(model, monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigurationError, match=rf"{name}: expected a whole number above 0, not"):
        container.serve(model, model)


def test_captures_that_cannot_be_written(model):
    with pytest.raises(ConfigurationError, match=r"none: user \d+ cannot write there; mount"):
        container.serve(model, model / "none")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", None),
        ("10000 100000\n", 1),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("6400000000 100000\n", None),
        (None, None),
    ],
)
def test_cores(tmp_path, text, expected):
    limit = tmp_path / "cpu.max"
    if text is not None:
        limit.write_text(text)
    allowed = len(os.sched_getaffinity(0))
    assert container.cores(limit) == min(expected or allowed, allowed)


def test_model_that_does_not_load_ends_a_container_on_sagemaker_at_once(
    make_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("MODEL_FOLDER", str(tmp_path))
    graph = make_model(tmp_path / "artifacts" / "model") / GRAPH
    graph.write_bytes(b"no graph")
    with pytest.raises(ModelError, match=GRAPH):
        container.serve_on_sagemaker()
