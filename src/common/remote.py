"""Tasks that run on another machine: what they take along, and what they could not find there.

Code and settings travel in Metaflow's code package. Files, `.env` and the Metaflow profile do not.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from inference.errors import ConfigurationError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from common.settings import Settings

# Metaflow's decorators that run a step elsewhere, and its commands that give a flow to a scheduler.
COMPUTE = {"batch", "kubernetes"}
SCHEDULERS = {"airflow", "argo-workflows", "step-functions"}
# What a profile and a checkout say of a run, for tasks that have neither.
PROFILE, COMMIT = "ROOKERY_PROFILE", "ROOKERY_COMMIT"
# Name of a secret in AWS Secrets Manager whose JSON keys become variables of each task.
SECRET = "MLFLOW_SECRET"  # noqa: S105 - the name of one
# None of these is a secret: they stand in the definition of each job.
PASSED_ON = (PROFILE, COMMIT, SECRET, "KERAS_BACKEND", "ROOKERY_TRACE")


def is_remote() -> bool:
    """Whether this process is a task that Metaflow runs on another machine."""
    return os.environ.get("METAFLOW_RUNTIME_ENVIRONMENT", "local") not in {"", "local"}


def leaves(decorators: Iterable[str]) -> bool:
    """Whether this command sends tasks to other machines.

    Args:
        decorators: Names of the decorators of all steps, those given by --with among them.
    """
    if "--help" in sys.argv:
        return False
    scheduled = "create" in sys.argv and not SCHEDULERS.isdisjoint(sys.argv)
    return scheduled or not COMPUTE.isdisjoint(decorators)


def require_shared(settings: Settings, *, reads_table: bool) -> None:
    """Stop before anything is sent away if tasks could not find table and store there.

    What a parameter of the flow names instead is up to the task.

    Raises:
        ConfigurationError: The table is a file on this machine.
        RegistryError: MLflow's store is.
    """
    if not given("--mlflow-tracking-uri"):
        require_shared_store(settings.tracking_uri)
    if reads_table and not given("--dataset") and not settings.dataset.path.startswith("s3://"):
        raise ConfigurationError(missing_table(settings.dataset.path))


def require_shared_store(uri: str) -> None:
    """Stop if MLflow's store is a file, which another machine would not find, but start anew.

    Raises:
        RegistryError: It is.
    """
    if uri.startswith(("sqlite:", "file:")) or "://" not in uri:
        raise RegistryError(
            f"MLflow's store {uri} is a file on one machine, and tasks run on others; set"
            " MLFLOW_TRACKING_URI to a server that they reach (`just aws-mlflow` starts one)"
        )


def missing_table(path: str) -> str:
    """Say how a table gets to where tasks on other machines find it."""
    return (
        f"{path}: a task on another machine finds no file of this one; set DATASET to the table's"
        " address in S3, s3://bucket/key (`uv run src/scripts/upload.py` puts it there and prints"
        " the address)"
    )


def given(option: str) -> bool:
    """Whether the command line holds an option."""
    return any(word == option or word.startswith(f"{option}=") for word in sys.argv)
