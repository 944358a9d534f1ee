"""What is said before tasks leave for other machines, and what they take along."""

import sys

import pytest

from common import dataset, remote, settings, tracking
from inference.errors import ConfigurationError, RegistryError

SERVER = "http://127.0.0.1:5000"


@pytest.fixture
def make_settings():
    """The shipped settings, with another table and another store."""

    def make(path="s3://bucket/table.csv", store=SERVER):
        loaded = settings.load()
        table = loaded.dataset.model_copy(update={"path": path})
        return loaded.model_copy(update={"dataset": table, "mlflow_tracking_uri": store})

    return make


@pytest.mark.parametrize(
    ("place", "elsewhere"),
    [("", False), ("local", False), ("aws-batch", True), ("kubernetes", True)],
)
def test_metaflow_says_where_a_task_runs(monkeypatch, place, elsewhere):
    monkeypatch.setenv("METAFLOW_RUNTIME_ENVIRONMENT", place)
    assert remote.is_remote() is elsewhere


@pytest.mark.parametrize(
    ("words", "decorators", "leaves"),
    [
        (["run"], {"card", "retry"}, False),
        (["run", "--with", "batch"], {"card", "batch"}, True),
        (["run"], {"kubernetes"}, True),
        (["argo-workflows", "create", "--only-json"], {"card"}, True),
        (["step-functions", "--name", "x", "create"], {"card"}, True),
        (["airflow", "create", "dag.py"], {"card"}, True),
        (["step-functions", "trigger"], {"card"}, False),
        (["step", "start"], set(), False),
    ],
)
def test_commands_that_send_tasks_away(monkeypatch, words, decorators, leaves):
    monkeypatch.setattr(sys, "argv", ["training.py", *words])
    assert remote.leaves(decorators) is leaves


def test_given_a_table_in_s3_and_a_server_then_tasks_may_leave(make_settings):
    remote.require_shared(make_settings(), reads_table=True)
    # monitoring reads none
    remote.require_shared(make_settings(path="data/penguins.csv"), reads_table=False)


def test_given_a_table_on_this_machine_then_the_line_says_where_it_belongs(make_settings):
    with pytest.raises(ConfigurationError, match=r"data/x\.csv: .*DATASET.*upload\.py"):
        remote.require_shared(make_settings(path="data/x.csv"), reads_table=True)


@pytest.mark.parametrize(
    "store", ["sqlite:///mlflow.db", "sqlite:////a/mlflow.db", "file:///a", "a"]
)
def test_given_a_store_on_this_machine_then_the_line_says_what_to_set(make_settings, store):
    with pytest.raises(RegistryError, match=r"is a file on one machine.*MLFLOW_TRACKING_URI"):
        remote.require_shared(make_settings(store=store), reads_table=False)


@pytest.mark.parametrize("words", [["--dataset", "s3://b/k"], ["--dataset=s3://b/k"]])
def test_given_a_parameter_then_it_counts_instead_of_the_config_file(
    monkeypatch, make_settings, words
):
    monkeypatch.setattr(sys, "argv", ["training.py", "run", *words])
    remote.require_shared(make_settings(path="data/x.csv"), reads_table=True)
    with pytest.raises(RegistryError):
        remote.require_shared(make_settings(store="sqlite:///x"), reads_table=True)


def test_a_task_takes_over_what_the_command_knew(monkeypatch):
    monkeypatch.setenv(remote.COMMIT, "abc+")
    assert tracking.git_commit() == "abc+"
    monkeypatch.setenv("METAFLOW_PROFILE", "")
    assert not dataset.is_production()
    monkeypatch.setenv(remote.PROFILE, "production")
    assert dataset.is_production()
