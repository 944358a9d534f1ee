"""What the pipelines share.

Importing it sets up the environment that the libraries expect.
"""

import os
from pathlib import Path

from dotenv import load_dotenv

# Without this line, Metaflow leaves this package behind when it sends a flow's code away.
METAFLOW_PACKAGE_POLICY = "include"

ROOT = Path(os.environ.get("ROOKERY_ROOT") or Path(__file__).resolve().parents[2])


def prepare_environment() -> None:
    """Read .env, and give Metaflow and the libraries the variables that a bare machine lacks."""
    load_dotenv(ROOT / ".env")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    # TensorFlow's start-up notices
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    # Evidently's telemetry
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Metaflow stops where it finds no user name, or only root. It has read METAFLOW_USER by now,
    # where a flow's file imports it first; the others it reads later.
    names = [os.environ.get(key) for key in ("METAFLOW_USER", "SUDO_USER", "USERNAME", "USER")]
    if not any(name and name != "root" for name in names):
        os.environ["USERNAME"] = "rookery"


prepare_environment()
