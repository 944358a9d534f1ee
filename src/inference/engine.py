"""Features in, probabilities out: the ONNX graph, and Keras with scikit-learn as its reference."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np

from inference.errors import ConfigurationError, ModelError

GRAPH = "graph.onnx"
NETWORK = "network.keras"
TRANSFORMERS = "transformers.skops"
OUTPUT = "probabilities"

# What skops may build when it reads the transformers, beyond what it trusts by itself.
TRUSTED_TYPES = ["numpy.dtype", "sklearn.compose._column_transformer._RemainderColsList"]


class Engine(Protocol):
    """What turns feature columns into class probabilities."""

    name: ClassVar[str]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the engine from a model's folder."""
        ...

    def probabilities(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probabilities, shape (rows, classes), for columns of shape (rows, 1)."""
        ...


class OnnxEngine:
    """The whole pipeline, imputation to softmax, as one graph in onnxruntime."""

    name: ClassVar[str] = "onnx"

    def __init__(self, graph: bytes) -> None:
        # read when it is imported: without it, onnxruntime reports every session to its maker
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # noqa: PLC0415 - half a second that only a process that predicts pays

        options = onnxruntime.SessionOptions()
        # One row takes 0.02 ms: handing it to a pool of threads costs more than it saves.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the graph from a model's folder.

        Raises:
            ModelError: The graph is missing or damaged.
        """
        path = folder / GRAPH
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror}); deploy again") from error
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise ModelError(f"{path}: not a graph that onnxruntime loads ({error})") from error

    def probabilities(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probabilities, shape (rows, classes), for columns of shape (rows, 1)."""
        return self._session.run([OUTPUT], dict(columns))[0]


class KerasEngine:
    """The reference: scikit-learn transformers, then the Keras network."""

    name: ClassVar[str] = "keras"

    def __init__(self, transformers: object, network: object) -> None:
        self._transformers = transformers
        self._network = network

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load transformers and network from a model's folder.

        Raises:
            ModelError: A file is missing or damaged, or holds a type that is not trusted.
        """
        import skops.io  # noqa: PLC0415 - imports scikit-learn, 3 s

        keras = import_keras()
        try:
            transformers = skops.io.load(folder / TRANSFORMERS, trusted=TRUSTED_TYPES)
            network = keras.saving.load_model(folder / NETWORK, compile=False)
        except Exception as error:  # both libraries raise many unrelated types
            raise ModelError(f"{folder}: the reference engine does not load ({error})") from error
        return cls(transformers, network)

    def probabilities(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the probabilities, shape (rows, classes), for columns of shape (rows, 1)."""
        import pandas as pd  # noqa: PLC0415 - serving with the graph needs no pandas

        table = pd.DataFrame({name: column[:, 0] for name, column in columns.items()})
        features = np.asarray(self._transformers.transform(table), dtype=np.float32)  # type: ignore[attr-defined] - an object to type checkers
        return np.asarray(self._network(features, training=False))  # type: ignore[operator] - see above


def import_keras() -> Any:  # noqa: ANN401 - a module
    """Import Keras, without the notices that TensorFlow's start writes past every log setting."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import keras  # noqa: PLC0415 - TensorFlow, 7 s
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    return keras


ENGINES: dict[str, type[OnnxEngine | KerasEngine]] = {
    engine.name: engine for engine in (OnnxEngine, KerasEngine)
}


def load_engine(folder: Path, name: str) -> OnnxEngine | KerasEngine:
    """Load the engine called `name` (onnx or keras) from a model's folder."""
    if name not in ENGINES:
        raise ConfigurationError(f"ROOKERY_ENGINE: expected {' or '.join(ENGINES)}, not {name!r}")
    return ENGINES[name].load(folder)
