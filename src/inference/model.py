"""The MLflow model (models from code): validate, predict, capture."""

import os
import uuid
from pathlib import Path
from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from inference.backend import Captured, create_backend, settings_from_environment
from inference.predictor import ARTIFACT, Prediction, Predictor
from inference.schema import to_records


class Model(PythonModel):
    """A schema and an engine behind MLflow's interface.

    Where MODEL_BACKEND names a backend (such as backend.Local), what was answered is captured
    there; MODEL_BACKEND_CONFIG holds that backend's settings as JSON.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load schema and engine from the model's artifacts."""
        self._predictor = Predictor.load(Path(context.artifacts[ARTIFACT]))
        self._version = os.environ.get("MODEL_VERSION", "unknown")
        name = os.environ.get("MODEL_BACKEND")
        self._backend = create_backend(name, settings_from_environment()) if name else None

    def predict(  # type: ignore[override] - MLflow declares it with other names for its own use
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input,  # noqa: ANN001 - MLflow would read a hint as a signature
        params: dict[str, Any] | None = None,  # noqa: ARG002 - MLflow's signature
    ) -> list[Prediction]:
        """Predict a table or a list of records.

        Args:
            context: Unused; the model was loaded before.
            model_input: A DataFrame, or a list of records.
            params: Unused.

        Returns:
            For each row its prediction, confidence, and probabilities by class.

        Raises:
            InvalidRecordsError: A record does not fit the schema.
        """
        records = self._predictor.check(to_records(model_input))
        predictions = self._predictor.predict(records)
        if self._backend:
            self._backend.save(
                Captured.from_answer(uuid.uuid4().hex, self._version, records, predictions)
            )
        return predictions


set_model(Model())
