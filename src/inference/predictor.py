"""A loaded model: records in, checked and predicted; no web, no store, no MLflow."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from inference.engine import Engine, load_engine
from inference.errors import ModelError
from inference.schema import Record, Schema

SCHEMA = "schema.json"
# Name of the folder with schema and engine among an MLflow model's artifacts.
ARTIFACT = "model"

Prediction = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Predictor:
    """A schema and an engine that fit each other."""

    schema: Schema
    engine: Engine

    @classmethod
    def load(cls, folder: Path, engine: str | None = None) -> Self:
        """Load a model's folder.

        Args:
            folder: Holds schema, graph, network and transformers.
            engine: onnx or keras; $ROOKERY_ENGINE decides where it is not given.

        Raises:
            ModelError: A file is missing or damaged.
        """
        try:
            schema = Schema.read(folder / SCHEMA)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder / SCHEMA}: not a readable schema ({error})") from error
        return cls(
            schema, load_engine(folder, engine or os.environ.get("ROOKERY_ENGINE") or "onnx")
        )

    def check(self, records: Sequence[Mapping[str, Any]]) -> list[Record]:
        """Check records against the model's schema; see `Schema.check`."""
        return self.schema.check(records)

    def try_out(self) -> None:
        """Answer a record in which every value is missing: the least that a model must do.

        Raises:
            ModelError: It does not answer.
        """
        try:
            self.predict(self.check([dict.fromkeys(self.schema.features)]))
        except Exception as error:  # whatever it is, this model must not go live
            raise ModelError(f"the model loads but does not answer ({error})") from error

    def predict(self, records: Sequence[Record]) -> list[Prediction]:
        """Predict checked records.

        Returns:
            One dictionary a record: the predicted class, its probability as confidence, and the
            probability of every class.

        Raises:
            ModelError: What the model calculates are no numbers.
        """
        if not records:
            return []
        classes = self.schema.classes
        predictions = []
        # plain Python: for the few rows of a usual request, numpy's calls cost more than they save
        for number, row in enumerate(
            self.engine.probabilities(self.schema.columns(records)).tolist()
        ):
            if not math.isfinite(sum(row)):
                raise ModelError(f"row {number}: the model's probabilities are no finite numbers")
            top = row.index(max(row))
            # Seven digits are what float32 holds; shorter figures are a third less to store.
            rounded = [round(probability, 7) for probability in row]
            predictions.append(
                {
                    "prediction": classes[top],
                    "confidence": rounded[top],
                    "probabilities": dict(zip(classes, rounded, strict=True)),
                }
            )
        return predictions
