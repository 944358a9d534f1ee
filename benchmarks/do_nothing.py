"""An MLflow model that does nothing: what `mlflow models serve` costs by itself."""

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class DoNothing(PythonModel):
    """Answers every row with the same text."""

    def predict(self, context, model_input, params=None):  # noqa: ANN001, ANN201, ARG002, D102
        return [{"prediction": "nothing"}] * len(model_input)


set_model(DoNothing())
