"""Answers that a smoke test lets through, and those it does not."""

import pytest

from common.smoke import compare
from inference.errors import BackendError

GOOD = [{"prediction": "a", "probabilities": {"a": 0.9, "b": 0.1}}]


def test_given_the_models_own_answers_then_they_pass():
    compare("3", "3", GOOD, [{"prediction": "a", "probabilities": {"a": 0.90001, "b": 0.09999}}])


@pytest.mark.parametrize(
    ("live", "given", "complaint"),
    [
        ("2", GOOD, "the endpoint answers with version 2"),
        ("", GOOD, "the endpoint answers with version unknown"),
        ("3", [], "0 predictions came back for 1 rows"),
        ("3", [{"probabilities": {"a": 0.5, "b": 0.5}}], r"row 0: a probability differs by 0\.4"),
        ("3", [{"probabilities": {"a": 0.9}}], "row 0: a probability differs by 1.9"),
    ],
)
def test_given_other_answers_then_the_difference_is_named(live, given, complaint):
    with pytest.raises(BackendError, match=complaint):
        compare("3", live, GOOD, given)
