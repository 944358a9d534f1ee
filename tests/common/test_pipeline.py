"""Parameters that are too small, and errors in one line."""

from types import SimpleNamespace

import pytest
from metaflow.exception import MetaflowException

from common import pipeline, tracking
from common.pipeline import require_at_least, shorten
from inference.errors import ConfigurationError, DatasetError


@pytest.mark.parametrize("value", [1, 0, -3, float("nan")])
def test_given_too_small_a_parameter_then_it_is_named_as_it_is_typed(value):
    with pytest.raises(ConfigurationError, match="--training-epochs: expected at least 2, not"):
        require_at_least(2, folds=2, training_epochs=value)


def test_given_an_error_of_ours_then_its_message_is_the_line():
    assert str(shorten(DatasetError("data/x.csv: empty"))) == "data/x.csv: empty"


def test_given_an_unexpected_error_then_the_line_names_our_own_place():
    with pytest.raises(TypeError) as caught:
        require_at_least(2, folds="five")

    line = str(shorten(caught.value))

    assert line.startswith("TypeError: '>=' not supported between")
    assert "(src/common/pipeline.py:" in line
    assert (
        "in require_at_least). This is unexpected; ROOKERY_TRACE=1 shows the whole trace." in line
    )


def test_given_an_error_of_metaflow_then_it_stays():
    error = MetaflowException("as it is")

    assert shorten(error) is error


@pytest.fixture
def run(mlflow_store):
    """Return what an MLflow run has become: its status, and why it failed."""
    import mlflow  # noqa: PLC0415 - 4 s that only these tests pay

    def look(run_id):
        found = mlflow.MlflowClient().get_run(run_id)
        return found.info.status, found.data.tags.get("failure")

    return look


@pytest.mark.integration
def test_given_an_error_then_only_a_run_that_had_not_finished_is_marked_as_failed(run):
    run_id = tracking.start_run("penguins-monitoring", "7", "Monitoring").info.run_id
    flow = SimpleNamespace(mlflow_run_id=run_id)

    pipeline.mlflow().post_step("start", flow, ValueError("disk full"))
    assert run(run_id) == ("FAILED", "step start: disk full")

    # tried again, with success
    tracking.finish(run_id, {"drift": 1.5}, {"verdict": "fail"})
    assert run(run_id) == ("FINISHED", None)

    pipeline.mlflow().post_step("end", flow, ValueError("nobody listens"))
    assert run(run_id) == ("FINISHED", None)
