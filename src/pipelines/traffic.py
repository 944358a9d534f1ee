"""Traffic: requests that look like production's, and ground truth for what was answered."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
import csv
from collections.abc import Sequence
from pathlib import Path

from metaflow import step

from common.interruption import finishing
from common.pipeline import Pipeline, backend, dataset, logger, parameter, require_at_least
from common.simulation import describe_drift, draw, send, truth
from inference.errors import ConfigurationError

MODES = ("traffic", "labels")


class Traffic(Pipeline):
    """Send rows of the table to the endpoint, or attach ground truth to what it answered."""

    mode: str = parameter("mode", default="traffic", help="traffic or labels.")
    samples: int = parameter("samples", default=300, help="Rows to send.")
    drift: bool = parameter("drift", default=False, is_flag=True, help="Shift a numeric feature.")
    truth: str | None = parameter(
        "truth", default=None, help="Write the true classes of the rows sent, for --labels."
    )
    ground_truth_quality: float = parameter(
        "ground-truth-quality",
        default=0.95,
        help="Share of simulated labels that agree with the prediction.",
    )
    labels: str | None = parameter(
        "labels", default=None, help="CSV file (id,label) with real labels."
    )
    connections: int = parameter("connections", default=4, help="Connections to send over.")
    seed: int = parameter("seed", default=0, help="Of the drawn rows and simulated labels.")

    @dataset
    @backend
    @step
    def start(self) -> None:
        """Do what the mode says."""
        require_at_least(1, samples=self.samples, connections=self.connections)
        if self.mode not in MODES:
            raise ConfigurationError(f"--mode: expected {' or '.join(MODES)}, not {self.mode!r}")
        if self.mode == "traffic":
            schema = self.settings.dataset.schema
            records = draw(schema, self.data.rows, self.samples, self.seed, drift=self.drift)
            ids = send(self.backend_impl, records, self.connections)
            self.count = len(ids)
            drifted = f", {describe_drift(schema)}" if self.drift else ""
            self.outcome = f"{self.count} rows sent and answered{drifted}"
            if self.truth:
                classes = truth(schema, self.data.rows, self.samples, self.seed)
                write_labels(Path(self.truth), ids, classes)
        elif self.labels is not None:
            # a script's unset variable must not become simulated truth
            if not self.labels:
                raise ConfigurationError("--labels: expected a CSV file, not nothing")
            self.count = self.backend_impl.label(file=Path(self.labels))
            self.outcome = f"{self.count} rows labelled from {self.labels}"
        else:
            self.count = self.backend_impl.label(quality=self.ground_truth_quality, seed=self.seed)
            self.outcome = (
                f"{self.count} rows labelled, {self.ground_truth_quality:.0%} of them as predicted"
            )
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what was done."""
        logger.info(self.outcome)


def write_labels(file: Path, ids: Sequence[str], labels: Sequence[str]) -> None:
    """Write a CSV file with the columns id and label.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        with (
            finishing(f"{file} is written"),
            file.open("w", encoding="utf-8", newline="") as target,
        ):
            csv.writer(target).writerows([("id", "label"), *zip(ids, labels, strict=True)])
    except OSError as error:
        raise ConfigurationError(f"--truth: {file} cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    Traffic()
