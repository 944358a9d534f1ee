"""Parameters that are too small, and errors in one line."""

import pytest
from metaflow.exception import MetaflowException

from common.fitting import summarize
from common.pipeline import require_at_least, shorten
from inference.errors import ConfigurationError, DatasetError


@pytest.mark.parametrize("value", [1, 0, -3, float("nan")])
def test_given_too_small_a_parameter_then_it_is_named_as_it_is_typed(value):
    with pytest.raises(ConfigurationError, match="--training-epochs: expected at least 2, not"):
        require_at_least(2, folds=2, training_epochs=value)


def test_given_an_error_of_ours_then_its_message_is_the_line():
    assert str(shorten(DatasetError("data/x.csv: empty"))) == "data/x.csv: empty"


def test_given_an_unexpected_error_then_the_line_names_our_own_place():
    with pytest.raises(IndexError) as caught:
        summarize([])

    line = str(shorten(caught.value))

    assert line.startswith("IndexError: list index out of range (src/common/fitting.py:")
    assert "in summarize). This is unexpected; ROOKERY_TRACE=1 shows the whole trace." in line


def test_given_an_error_of_metaflow_then_it_stays():
    error = MetaflowException("as it is")

    assert shorten(error) is error
