"""A workshop: a folder in which flows run for real, and a model trained there once a session."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metaflow import Runner, metadata

from common import ROOT, settings
from common.dataset import read_table
from inference import launcher
from inference.local import Local


class Workshop:
    """Runs flows with every trace of them in one folder."""

    def __init__(self, folder: Path, config: str = "config/local.yml", **variables: str) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.tracking_uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.environment = {
            "ROOKERY_STATE": str(folder),
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder),
            "METAFLOW_CARD_LOCALROOT": str(folder),
            "ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "ROOKERY_CONFIG": config,
            **variables,
        }
        with pytest.MonkeyPatch.context() as patch:
            self.enter(patch)
            self.settings = settings.load(ROOT / config)
        backend = self.settings.create_backend()
        assert isinstance(backend, Local)
        self.backend = backend

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Set the variables that lead here."""
        for name, value in self.environment.items():
            patch.setenv(name, value)

    def runner(self, flow: str, **options) -> Runner:
        """Return what runs a flow, from a folder that is not the repository's."""
        return Runner(
            str(ROOT / "src" / "pipelines" / f"{flow}.py"),
            pylint=False,
            env={**os.environ, **self.environment},
            cwd=str(self.folder),
            **options,
        )

    def run(self, flow: str, *, options: dict | None = None, **parameters):
        """Run a flow; return (finished well, Metaflow run, everything it printed)."""
        with self.runner(flow, **(options or {})).run(**parameters) as running:
            return running.status == "successful", running.run, running.stdout + running.stderr


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Iterator[Workshop]:
    """A workshop whose server is stopped at the end."""
    made = Workshop(tmp_path_factory.mktemp("workshop"))
    yield made
    launcher.stop(made.backend.folder)


@pytest.fixture(autouse=True)
def _in_the_workshop(request, monkeypatch) -> None:
    """Let a test of the workshop, and Metaflow's client, look there and nowhere else."""
    if "workshop" in request.fixturenames:
        workshop = request.getfixturevalue("workshop")
        workshop.enter(monkeypatch)
        if (workshop.folder / ".metaflow").is_dir():
            metadata(f"local@{workshop.folder}")


@pytest.fixture(scope="session")
def workshop_class() -> type[Workshop]:
    """For tests that need a workshop of their own."""
    return Workshop


@pytest.fixture(scope="session")
def trained(workshop):
    """The Metaflow run of a training with default settings, as `--with retry` runs it."""
    options = {"decospecs": ["retry"]}
    fine, run, output = workshop.run("training", options=options, folds=5)
    assert fine, output
    # for who goes on from here in a place of their own
    shutil.copy(workshop.folder / "mlflow.db", workshop.folder / "trained.db")
    # what it is now; a deployment takes the alias away
    workshop.challenger = registry_client(workshop).get_model_version_by_alias(
        "penguins", "challenger"
    )
    return run


@pytest.fixture(scope="session")
def deployed(workshop, trained):
    """The Metaflow run that deployed what `trained` registered."""
    fine, run, output = workshop.run("deployment")
    assert fine, output
    return run


@pytest.fixture
def mlflow_client(workshop):
    """MLflow's client on the workshop's store."""
    return registry_client(workshop)


def registry_client(workshop: Workshop):
    """Return MLflow's client, which sees the workshop's store."""
    import mlflow  # noqa: PLC0415 - 4 s that only these tests pay

    mlflow.set_tracking_uri(workshop.tracking_uri)
    return mlflow.MlflowClient()


@pytest.fixture(scope="session")
def reference(schema) -> pd.DataFrame:
    """The penguins, all predicted rightly and with 0.98, as `fitting.reference` returns them."""
    rows = read_table(settings.load(ROOT / "config" / "local.yml").dataset).rows
    table = rows.rename(columns={schema.target: "target"}).reset_index(drop=True)
    for name in schema.classes:
        table[f"probability {name}"] = np.where(table["target"] == name, 0.98, 0.01)
    return table.assign(prediction=table["target"], confidence=0.98)
