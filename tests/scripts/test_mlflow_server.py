"""Which store the MLflow server shows, and when it refuses to start."""

import socket
from pathlib import Path

import pytest

from common import registry
from inference.errors import ConfigurationError
from scripts import mlflow_server

ROOT = Path("/repository")
EMBEDDED = ("sqlite:////repository/mlflow.db", ROOT / "mlruns")


@pytest.mark.parametrize(
    ("tracking_uri", "expected"),
    [
        ("sqlite:////repository/mlflow.db", EMBEDDED),
        ("http://127.0.0.1:5000", EMBEDDED),
        (
            "sqlite:////elsewhere/runs.db",
            ("sqlite:////elsewhere/runs.db", Path("/elsewhere/mlruns")),
        ),
        ("postgresql://db/runs", ("postgresql://db/runs", ROOT / "mlruns")),
    ],
)
def test_store(tracking_uri, expected):
    assert mlflow_server.find_store(tracking_uri, ROOT) == expected


def test_environment_names_no_server():
    environment = mlflow_server.make_environment(
        {"MLFLOW_TRACKING_URI": "http://x", "PATH": "/bin"}, "postgresql://me:secret@db/runs"
    )
    assert environment == {
        "PATH": "/bin",
        "MLFLOW_BACKEND_STORE_URI": "postgresql://me:secret@db/runs",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db/runs", "postgresql://…@db/runs"),
        ("postgresql://me:sec/r@t@db/runs", "postgresql://…@db/runs"),
        ("http://me:secret@127.0.0.1:5000", "http://…@127.0.0.1:5000"),
        ("https://token@mlflow.example/", "https://…@mlflow.example/"),
        ("https://mlflow.example/runs/me@work", "https://mlflow.example/runs/me@work"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("sqlite:////data/a:b//me@work.db", "sqlite:////data/a:b//me@work.db"),
    ],
)
def test_no_password_is_shown(uri, shown):
    assert registry.without_password(uri) == shown


def test_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(ConfigurationError, match="--port"):
            mlflow_server.check_port(taken.getsockname())
        free = taken.getsockname()
    mlflow_server.check_port(free)
