"""Rows that a version takes, and answers that a smoke test lets through."""

import pandas as pd
import pytest

from common.smoke import compare, smoke_records
from inference.errors import BackendError

GOOD = [{"prediction": "a", "probabilities": {"a": 0.9, "b": 0.1}}]


def test_given_rows_of_the_table_then_the_version_gets_its_features_alone(release, record):
    rows = pd.DataFrame([record, record | {"sex": None}]).assign(species="Adelie", new=1.0)
    assert smoke_records(release("1"), rows) == [record, record | {"sex": None}]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ({"body_mass_g": 1e5}, "row 0, column 'body_mass_g': expected a number from .*, not 1"),
        ({"body_mass_g": "light"}, "row 0, column 'body_mass_g': .*, not 'light'"),
        ({"sex": 1.0}, "row 0, column 'sex': expected text .*, not 1"),
    ],
)
def test_given_rows_that_a_version_does_not_take_then_the_first_problem_is_named(
    release, record, rows, complaint
):
    with pytest.raises(BackendError, match=rf"version 1 failed .* live: {complaint}.*; train"):
        smoke_records(release("1"), pd.DataFrame([record | rows]))


def test_given_a_table_that_lacks_a_feature_then_it_is_named(release, record):
    rows = pd.DataFrame([record]).drop(columns="sex")
    with pytest.raises(BackendError, match="column 'sex': required column is missing"):
        smoke_records(release("1"), rows)


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
