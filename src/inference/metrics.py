"""What the service counts, in Prometheus' form, added up over its workers.

prometheus-client keeps each worker's counts in a file below $PROMETHEUS_MULTIPROC_DIR, which the
launcher names and empties. They outlive a worker, so a counter never goes back while the service
runs.
"""

from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
# seconds, from what one row takes to what the largest request may
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)


class Metrics:
    """The counters of one worker."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self._requests = Counter(
            "rookery_requests", "Answered requests", ["path", "status"], registry=own
        )
        self._seconds = Histogram(
            "rookery_request_seconds",
            "Time from a request's headers to its answer",
            ["path"],
            buckets=BUCKETS,
            registry=own,
        )
        self._rows = Counter("rookery_rows", "Rows predicted", registry=own)
        self._captured = Counter("rookery_captured_rows", "Rows made durable", registry=own)
        self._unseen = Counter(
            "rookery_unseen_categories",
            "Values of a categorical feature that training did not know",
            ["feature"],
            registry=own,
        )
        # finding a counter by its labels takes longer than counting
        self._found: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` must be one of a few, or there is no end of counters."""
        found = self._found.get((path, status))
        if not found:
            found = (self._requests.labels(path, str(status)), self._seconds.labels(path))
            self._found[path, status] = found
        requests, durations = found
        requests.inc()
        durations.observe(seconds)

    def predicted(self, rows: int, unseen: Mapping[str, int]) -> None:
        """Count the rows of an answered request, and their unseen categories by feature."""
        self._rows.inc(rows)
        for feature, count in unseen.items():
            self._unseen.labels(feature).inc(count)

    def captured(self, rows: int) -> None:
        """Count rows that a commit, or the spool, made durable."""
        self._captured.inc(rows)


class Present(Collector):
    """What is not counted but simply so at this moment."""

    def __init__(self, model: Mapping[str, str], waiting: int) -> None:
        self._model = model
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """Yield the live model, and the number of rows that wait for their replay."""
        yield InfoMetricFamily("rookery_model", "The model that is live", value=dict(self._model))
        yield GaugeMetricFamily(
            "rookery_spool_rows", "Captured rows that wait for the database", value=self._waiting
        )


def exposition(present: Present) -> bytes:
    """Return the counts of all workers, and what is so at present, as Prometheus reads them."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    registry.register(present)
    return generate_latest(registry)
