"""Loading an engine: what is missing, damaged or unknown."""

import os
import subprocess
import sys

import numpy as np
import pytest

from inference.engine import GRAPH, OnnxEngine, load_engine
from inference.errors import ConfigurationError, ModelError


@pytest.fixture
def model(make_model, tmp_path):
    return make_model(tmp_path / "model")


def test_probabilities(model, schema, record):
    engine = load_engine(model, "onnx")
    rows = engine.probabilities(schema.columns([record, dict.fromkeys(record)]))
    assert engine.name == "onnx"
    assert rows.shape == (2, 3)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-6)
    favour = np.exp([5, 0, 0])
    np.testing.assert_allclose(rows[1], favour / favour.sum(), atol=1e-6)


def test_missing_graph(model):
    (model / GRAPH).unlink()
    with pytest.raises(ModelError, match=r"graph\.onnx: cannot be read \(No such file"):
        OnnxEngine.load(model)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_damaged_graph(model, keep):
    graph = model / GRAPH
    graph.write_bytes(graph.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"graph\.onnx: not a graph") as caught:
        OnnxEngine.load(model)
    assert "\n" not in str(caught.value)


def test_unknown_engine(model):
    with pytest.raises(ConfigurationError, match="expected onnx or keras, not 'torch'"):
        load_engine(model, "torch")


def test_loading_writes_nothing_into_the_users_home(model, tmp_path):
    """Onnxruntime keeps an identifier and a queue of reports there, unless it is told not to."""
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import pathlib, sys; from inference.predictor import Predictor;"
        "Predictor.load(pathlib.Path(sys.argv[1])).try_out()"
    )
    subprocess.run(
        [sys.executable, "-c", script, model],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        check=True,
    )
    assert list(home.rglob("*")) == []
