"""One graph that answers as Keras and scikit-learn do, or no model at all."""

import numpy as np
import pandas as pd
import pytest

from common import fitting, packaging, settings
from common.dataset import read_table
from inference.engine import KerasEngine
from inference.errors import ModelError
from inference.predictor import Predictor
from inference.schema import Schema, to_records

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def rows():
    return read_table(settings.load().dataset).rows


@pytest.fixture(scope="module")
def fitted(schema, rows):
    how = fitting.FitSettings(settings.NetworkSettings(layers=(8,)), 5, 32, 1)
    transformers, network, _ = fitting.fit(schema, rows, how)
    return transformers, network


def test_given_a_fit_then_both_engines_answer_alike_from_the_written_files(
    schema, rows, fitted, tmp_path
):
    files = packaging.package(schema, *fitted, rows)
    folder = tmp_path / "model"
    files.write(folder, schema, rows)
    records = [*to_records(rows[list(schema.features)]), *packaging.generate(schema, 200)]

    graph, reference = (Predictor.load(folder, engine=name) for name in ("onnx", "keras"))

    assert files.disagreement <= 1e-5
    columns = schema.columns(records)
    difference = graph.engine.probabilities(columns) - reference.engine.probabilities(columns)
    assert np.abs(difference).max() <= 1e-5
    assert np.allclose(graph.engine.probabilities(columns).sum(axis=1), 1, atol=1e-5)


def test_given_engines_that_disagree_then_the_worst_row_is_shown(schema, rows, fitted):
    transformers, network = fitted
    graph = packaging.OnnxEngine(packaging.build_graph(schema, transformers, network))
    other = fitting.build_network(9, 3, settings.NetworkSettings(layers=(8,)))

    with pytest.raises(ModelError, match=r"disagree by .* on \{'island'.*nothing was registered"):
        packaging.prove_agreement(schema, graph, KerasEngine(transformers, other), rows)


def test_given_generated_rows_then_they_may_differ_ten_times_as_much(schema, rows, fitted):
    import keras  # noqa: PLC0415 - see below

    transformers, network = fitted
    graph = packaging.OnnxEngine(packaging.build_graph(schema, transformers, network))
    other = keras.models.clone_model(network)
    *weights, bias = network.get_weights()
    # of a logit: a probability changes by a quarter of it at most
    other.set_weights([*weights, bias + 2e-4 * np.eye(3)[0]])
    reference, far = KerasEngine(transformers, other), packaging.generate(schema, 1_000)

    largest = packaging.compare(schema, graph, reference, far, packaging.FAR_TOLERANCE)

    assert packaging.TOLERANCE < largest < packaging.FAR_TOLERANCE
    with pytest.raises(ModelError, match=r"\(limit 1e-05\)"):
        packaging.prove_agreement(schema, graph, reference, rows)


def test_given_a_last_layer_that_is_no_softmax_then_it_is_refused(schema, rows, fitted):
    import keras  # noqa: PLC0415 - 7 s that only this file pays

    transformers, _ = fitted
    layers = [keras.Input((9,)), keras.layers.Dense(3, activation="sigmoid")]
    sigmoids = keras.Sequential(layers)
    sigmoids(np.zeros((1, 9), np.float32))  # Keras exports what was called once
    with pytest.raises(ModelError, match=r"sum to .*, not 1; the network's last layer must be a"):
        packaging.package(schema, transformers, sigmoids, rows)


def test_given_what_a_converter_does_not_know_then_one_line_says_so(schema, rows, fitted):
    import keras  # noqa: PLC0415 - see above
    from sklearn.preprocessing import FunctionTransformer  # noqa: PLC0415

    transformers, network = fitted
    unknown = FunctionTransformer(np.log1p).fit(fitting.frame(schema, rows)[["body_mass_g"]])
    with pytest.raises(ModelError, match="skl2onnx cannot convert the transformers: ") as told:
        packaging.build_graph(schema, unknown, network)
    assert "\n" not in str(told.value)
    layers = [keras.Input((9,)), keras.layers.Dense(3, activation="gelu")]
    gelu = keras.Sequential(layers)
    gelu(np.zeros((1, 9), np.float32))
    with pytest.raises(ModelError, match="Keras cannot export the network as ONNX: ") as told:
        packaging.build_graph(schema, transformers, gelu)
    assert "\n" not in str(told.value)


NUMBER = {"größe in mm (alt)": {"kind": "number"}, "b": {"kind": "number", "range": [0, 1]}}
CATEGORY = {"farbe 1": {"kind": "category", "categories": ["rot", "grün", "blau wie der Himmel"]}}


@pytest.mark.parametrize("features", [NUMBER | CATEGORY, NUMBER, CATEGORY])
def test_given_odd_names_and_any_kinds_then_the_graph_is_built_all_the_same(features):
    schema = Schema.model_validate(
        {"target": "art", "classes": ["ja", "nein"], "features": features}
    )
    rows = pd.DataFrame(packaging.generate(schema, 60))
    rows["art"] = ["ja", "nein"] * 30
    how = fitting.FitSettings(settings.NetworkSettings(layers=(4,)), 2, 16, 1)
    transformers, network, _ = fitting.fit(schema, rows, how)

    assert packaging.package(schema, transformers, network, rows).disagreement <= 1e-5


def test_given_older_rows_that_count_nothing_then_they_do_not_decide_when_a_fit_ends(schema, rows):
    older = rows.sample(2_000, replace=True, random_state=1)
    other = {"Adelie": "Gentoo", "Gentoo": "Adelie"}
    # true no more
    older = older.assign(
        **{schema.target: older[schema.target].replace(other), fitting.CURRENT: False}
    )
    both = pd.concat([older, rows.assign(**{fitting.CURRENT: True})], ignore_index=True)
    how = fitting.FitSettings(
        settings.NetworkSettings(learning_rate=0.01), 60, 32, 1, 1e-6, patience=3
    )

    _, _, curves = fitting.fit(schema, both, how)

    assert min(curves["val_loss"]) < 0.1


def test_given_a_schema_then_generated_records_fit_it_and_some_values_are_missing(schema):
    records = packaging.generate(schema, 300)

    assert len(schema.check(records)) == 300
    missing = sum(value is None for record in records for value in record.values())
    assert 0.05 < missing / (300 * len(schema.features)) < 0.15


def test_given_numbers_without_a_range_then_generated_ones_lie_near_those_of_training(schema):
    features = {"a": {"kind": "number"}, "b": {"kind": "number", "range": [0, 1e9]}}
    narrow = Schema.model_validate({"target": "t", "classes": ["x", "y"], "features": features})
    rows = pd.DataFrame({"a": [0.01, 0.02, 0.03], "b": [5.0, 6.0, 7.0]})

    made = pd.DataFrame(packaging.generate(narrow, 500, rows=rows))

    assert made["a"].between(-0.08, 0.12).sum() == made["a"].notna().sum()
    assert made["b"].between(0, 16).sum() == made["b"].notna().sum()
    # without rows, as far as the schema allows
    assert pd.DataFrame(packaging.generate(narrow, 500))["b"].max() > 1e8
