"""Deployment: registry, backend, smoke test, aliases."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from metaflow import step

from common import registry
from common.pipeline import Pipeline, backend, dataset, logger, parameter, require_at_least
from common.smoke import smoke_test

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


class Deployment(Pipeline):
    """Put the challenger live, and make it the champion once it answers as it should."""

    smoke_rows: int = parameter(
        "smoke-rows", default=20, help="Rows of the table that are sent through the new version."
    )

    @dataset
    @backend
    @step
    def start(self) -> None:
        """Deploy the challenger, and send real rows through it; go back if they fail.

        One step, not three: each would pay for importing MLflow again.
        """
        require_at_least(1, smoke_rows=self.smoke_rows)
        version = registry.candidate(self.settings.project)
        self.version = str(version.version)
        rows = self.data.rows.head(self.smoke_rows)
        with tempfile.TemporaryDirectory() as scratch:
            release = registry.download(version, Path(scratch) / "model")
            self.backend_impl.deploy(release)
            self.smoke = smoke_test(self.backend_impl, release, rows)
        registry.promote(version, f"smoke test: {self.smoke}", version_metrics(version))
        status = self.backend_impl.status()
        self.target, self.previous = status.target, status.previous
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what is live."""
        logger.info(
            "%s version %s is champion and answers at %s (%s)",
            self.settings.project,
            self.version,
            self.target,
            f"version {self.previous} before it" if self.previous else "the first one",
        )


def version_metrics(version: "ModelVersion") -> dict[str, float]:
    """Return the figures that stand on a version as tags."""
    return {"accuracy": float(version.tags["accuracy"])} if "accuracy" in version.tags else {}


if __name__ == "__main__":
    Deployment()
