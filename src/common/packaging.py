"""From fitted transformers and network to a model's files: one ONNX graph, and proof of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.engine import (
    GRAPH,
    NETWORK,
    OUTPUT,
    TRANSFORMERS,
    TRUSTED_TYPES,
    KerasEngine,
    OnnxEngine,
)
from inference.errors import ModelError
from inference.predictor import SCHEMA
from inference.schema import Schema, to_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

TOLERANCE = 1e-5
# Of generated rows, whose values lie up to so many standard deviations out: logits reach some
# hundreds there, of which float32 holds 1e-5. An error of a conversion is a hundred times as large.
FAR_TOLERANCE, FAR = 1e-4, 10
# what float32 loses in a softmax over a hundred classes is a hundredth of it
SUM_TOLERANCE = 1e-3
GENERATED_ROWS = 1_000
PIECE_RECORDS = 10_000
UNSEEN = "a value that training never saw"
REFERENCE = "reference.parquet"


@dataclass(frozen=True)
class ModelFiles:
    """A model as bytes: what a Metaflow artifact can hold without importing TensorFlow.

    Attributes:
        disagreement: Largest difference found between the probabilities of the two engines.
    """

    graph: bytes
    network: bytes
    transformers: bytes
    disagreement: float

    def write(self, folder: Path, schema: Schema, reference: pd.DataFrame) -> None:
        """Write the model's folder, with its schema and reference data."""
        folder.mkdir(parents=True)
        (folder / GRAPH).write_bytes(self.graph)
        (folder / NETWORK).write_bytes(self.network)
        (folder / TRANSFORMERS).write_bytes(self.transformers)
        schema.write(folder / SCHEMA)
        reference.to_parquet(folder / REFERENCE)


def package(schema: Schema, transformers: Any, network: Any, rows: pd.DataFrame) -> ModelFiles:  # noqa: ANN401 - Keras and scikit-learn have no static types
    """Build the graph, and prove that it answers as Keras and scikit-learn do.

    Raises:
        ModelError: The two engines disagree; the message shows the worst row.
    """
    import skops.io  # noqa: PLC0415 - imports scikit-learn, 3 s

    graph = build_graph(schema, transformers, network)
    disagreement = prove_agreement(
        schema, OnnxEngine(graph), KerasEngine(transformers, network), rows
    )
    serialized = skops.io.dumps(transformers)
    untrusted = set(skops.io.get_untrusted_types(data=serialized)) - set(TRUSTED_TYPES)
    if untrusted:
        raise ModelError(f"the transformers hold types that are not trusted: {sorted(untrusted)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NETWORK
        network.save(path)
        return ModelFiles(graph, path.read_bytes(), serialized, disagreement)


def build_graph(schema: Schema, transformers: Any, network: Any) -> bytes:  # noqa: ANN401 - see package
    """Join the transformers and the network into one ONNX graph.

    Its inputs are the features by name, shape (rows, 1), float32 or text; its output is
    `probabilities`, shape (rows, classes).

    Raises:
        ModelError: A converter does not know a transformer or a layer.
    """
    import onnx  # noqa: PLC0415 - only training builds graphs

    try:
        first = convert_transformers(schema, transformers)
    except Exception as error:
        raise ModelError(f"skl2onnx cannot convert the transformers: {in_short(error)}") from error
    try:
        second = convert_network(network)
    except Exception as error:
        raise ModelError(f"Keras cannot export the network as ONNX: {in_short(error)}") from error
    second = onnx.compose.add_prefix(second, "network/")
    first.ir_version = second.ir_version = min(first.ir_version, second.ir_version)
    for part in (first, second):
        # a part may name sets of operators that it does not use, in versions that differ
        used = {node.domain for node in part.graph.node}
        kept = [entry for entry in part.opset_import if entry.domain in used]
        del part.opset_import[:]
        part.opset_import.extend(kept)
    joined = onnx.compose.merge_models(
        first, second, io_map=[(first.graph.output[0].name, second.graph.input[0].name)]
    )
    renamed = onnx.helper.make_node("Identity", [joined.graph.output[0].name], [OUTPUT])
    joined.graph.node.append(renamed)
    joined.graph.output[0].name = OUTPUT
    onnx.checker.check_model(joined)
    return joined.SerializeToString()


def convert_transformers(schema: Schema, transformers: Any) -> Any:  # noqa: ANN401 - no types
    """Return the transformers as ONNX, from the features by name to one matrix of inputs."""
    import skl2onnx  # noqa: PLC0415 - see build_graph
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType  # noqa: PLC0415

    kinds = {"number": FloatTensorType, "category": StringTensorType}
    converted = skl2onnx.to_onnx(
        transformers,
        initial_types=[(n, kinds[f.kind]([None, 1])) for n, f in schema.features.items()],
        target_opset={"": 15, "ai.onnx.ml": 3},
    )
    rename_inputs(converted, list(schema.features))
    return converted


def convert_network(network: Any) -> Any:  # noqa: ANN401 - Keras and ONNX have no static types
    """Return the network as ONNX."""
    import onnx  # noqa: PLC0415 - see build_graph

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / GRAPH
        network.export(path, format="onnx", verbose=False)
        exported = onnx.load(path)
    onnx.checker.check_model(exported)
    return exported


def in_short(error: Exception) -> str:
    """Return an error's kind and its first line that says anything."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


def rename_inputs(model: Any, names: Sequence[str]) -> None:  # noqa: ANN401 - an onnx.ModelProto
    """Give a graph's inputs their features' names; the converter has replaced odd characters."""
    renamed = {given.name: name for given, name in zip(model.graph.input, names, strict=True)}
    for given in model.graph.input:
        given.name = renamed[given.name]
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)


def prove_agreement(
    schema: Schema, graph: OnnxEngine, reference: KerasEngine, rows: pd.DataFrame
) -> float:
    """Compare the engines on every row, and on rows that are harder than those of training.

    Returns:
        The largest difference of a probability on the rows, also with a value missing or unseen.

    Raises:
        ModelError: It is larger than 1e-5, or than 1e-4 on rows that are generated; or a row's
            probabilities do not sum to 1.
    """
    known = to_records(rows[list(schema.features)])
    near = chain(
        known,
        ({**record, name: None} for record in known for name in schema.features),
        ({**known[0], name: UNSEEN} for name in schema.categories),
    )
    far = generate(schema, GENERATED_ROWS, rows=rows)
    largest = compare(schema, graph, reference, near, TOLERANCE)
    compare(schema, graph, reference, far, FAR_TOLERANCE)
    return largest


def compare(
    schema: Schema,
    graph: OnnxEngine,
    reference: KerasEngine,
    records: Iterable[Mapping[str, Any]],
    tolerance: float,
) -> float:
    """Return the largest difference between the engines' probabilities of these records.

    Raises:
        ModelError: It is larger than the tolerance, or a row's probabilities do not sum to 1.
    """
    largest, remaining = 0.0, iter(records)
    # all of a large table at once would take gigabytes
    while piece := list(islice(remaining, PIECE_RECORDS)):
        columns = schema.columns(piece)
        answered = graph.probabilities(columns)
        difference = np.abs(answered - reference.probabilities(columns)).max(axis=1)
        # NaN must count as the worst difference, not as none
        worst = int(np.where(np.isnan(difference), np.inf, difference).argmax())
        if not difference[worst] <= tolerance:
            raise ModelError(
                f"the ONNX graph and Keras disagree by {difference[worst]:.2g}"
                f" (limit {tolerance:g}) on {piece[worst]}; nothing was registered"
            )
        sums = answered.sum(axis=1)
        odd = int(np.abs(sums - 1).argmax())
        if abs(sums[odd] - 1) > SUM_TOLERANCE:
            raise ModelError(
                f"the probabilities of {piece[odd]} sum to {sums[odd]:.3g}, not 1; the network's"
                " last layer must be a softmax; nothing was registered"
            )
        largest = max(largest, float(difference[worst]))
    return largest


def generate(
    schema: Schema, count: int, seed: int = 0, rows: pd.DataFrame | None = None
) -> list[dict[str, Any]]:
    """Return random records that the schema allows, a tenth of their values missing.

    Args:
        schema: Names the features.
        count: Of the records.
        seed: Of the random values.
        rows: Those of training, where no number may lie further from their mean than FAR standard
            deviations: without a range, or in a wide one, float32 would be at its end.
    """
    rng = np.random.default_rng(seed)
    columns = {}
    for name, feature in schema.features.items():
        if feature.kind == "number":
            low, high = feature.range or (-1000.0, 1000.0)
            if rows is not None and (far := FAR * float(rows[name].std())) > 0:
                near = float(rows[name].mean()) - far, float(rows[name].mean()) + far
                low, high = (max(low, near[0]), min(high, near[1])) if feature.range else near
            values = rng.uniform(low, high, count).tolist()
        else:
            values = rng.choice([*feature.categories, UNSEEN], count).tolist()
        missing = rng.random(count) < 0.1  # noqa: PLR2004 - a tenth
        columns[name] = [None if gone else v for gone, v in zip(missing, values, strict=True)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
