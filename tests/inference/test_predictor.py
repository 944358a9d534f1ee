"""From a model's folder to predictions."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from inference.engine import GRAPH, OUTPUT
from inference.errors import ConfigurationError, InvalidRecordsError, ModelError
from inference.predictor import SCHEMA, Predictor
from inference.schema import Schema


@pytest.fixture(scope="module")
def predictor(make_model, tmp_path_factory):
    return Predictor.load(make_model(tmp_path_factory.mktemp("predictor") / "model"))


@pytest.fixture
def model(make_model, tmp_path):
    return make_model(tmp_path / "model")


def test_prediction(predictor, schema, record):
    records = predictor.check([record, record | {"island": "Mars"}, dict.fromkeys(record)])
    predictions = predictor.predict(records)
    assert len(predictions) == 3
    for prediction in predictions:
        assert list(prediction) == ["prediction", "confidence", "probabilities"]
        probabilities = prediction["probabilities"]
        assert list(probabilities) == list(schema.classes)
        assert prediction["confidence"] == max(probabilities.values())
        assert prediction["prediction"] == max(probabilities, key=probabilities.get)
        assert all(type(value) is float for value in probabilities.values())
        assert all(round(value, 7) == value for value in probabilities.values())
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
    assert predictions[0] != predictions[1] != predictions[2]


def test_rows_do_not_depend_on_each_other(predictor, record):
    records = [record | {"body_mass_g": float(mass)} for mass in range(1000, 10_001, 1000)]
    together = predictor.predict(records)
    assert together == [predictor.predict([one])[0] for one in records]
    assert len({json.dumps(prediction) for prediction in together}) == len(records)


@pytest.mark.parametrize("favourite", [0, 1, 2])
def test_models_can_be_told_apart(make_model, tmp_path, schema, record, favourite):
    predictor = Predictor.load(make_model(tmp_path / "model", favourite))
    [prediction] = predictor.predict([record])
    assert prediction["prediction"] == schema.classes[favourite]


def test_no_records(predictor):
    assert predictor.check([]) == []
    assert predictor.predict([]) == []


def test_check_refuses(predictor, record):
    with pytest.raises(InvalidRecordsError):
        predictor.check([record | {"sex": 1}])


@pytest.mark.parametrize("text", [None, "", "{", '{"target": "species"}', "[]", "\udcff"])
def test_damaged_schema(model, text):
    (model / SCHEMA).unlink()
    if text is not None:
        (model / SCHEMA).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ModelError, match=r"schema\.json: not a readable schema"):
        Predictor.load(model)


def test_engine_by_environment(model, monkeypatch):
    monkeypatch.setenv("ROOKERY_ENGINE", "")
    assert Predictor.load(model).engine.name == "onnx"
    monkeypatch.setenv("ROOKERY_ENGINE", "torch")
    with pytest.raises(ConfigurationError, match="torch"):
        Predictor.load(model)
    assert Predictor.load(model, engine="onnx").engine.name == "onnx"


def test_try_out(predictor):
    predictor.try_out()


@pytest.mark.parametrize("other", ["column", "classes"])
def test_graph_and_schema_of_different_models(model, schema, other):
    content = schema.model_dump()
    if other == "column":
        content["features"]["wing_mm"] = content["features"].pop("flipper_length_mm")
    else:
        content["classes"] = ["Adelie", "Gentoo"]
    Schema.model_validate(content).write(model / SCHEMA)
    with pytest.raises(ModelError, match="does not answer"):
        Predictor.load(model).try_out()


def test_nan_is_no_prediction(tmp_path):
    """The logarithm of the only feature, as the probability of both classes."""
    value = helper.make_tensor_value_info("size", TensorProto.FLOAT, [None, 1])
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2])
    nodes = [
        helper.make_node("Log", ["size"], ["log"]),
        helper.make_node("Concat", ["log", "log"], [OUTPUT], axis=1),
    ]
    graph = helper.make_graph(nodes, "logarithm", [value], [output])
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (tmp_path / GRAPH).write_bytes(model.SerializeToString())
    content = {"target": "t", "classes": ["a", "b"], "features": {"size": {"kind": "number"}}}
    Schema.model_validate(content).write(tmp_path / SCHEMA)

    predictor = Predictor.load(tmp_path)
    assert predictor.predict([{"size": float(np.e)}])[0]["confidence"] == pytest.approx(1)
    with pytest.raises(ModelError, match="row 1"):
        predictor.predict([{"size": 1.0}, {"size": -1.0}])
    with pytest.raises(ModelError, match="does not answer"):
        predictor.try_out()
