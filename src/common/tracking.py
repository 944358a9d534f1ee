"""MLflow's store: whether it answers, the experiment, and the run of a flow."""

import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from metaflow.util import get_username

from common import ROOT, registry
from common.fitting import CURRENT, ORIGIN
from common.remote import COMMIT
from inference.engine import import_keras
from inference.errors import RegistryError

if TYPE_CHECKING:
    from mlflow.entities import Run

    from common.dataset import Table

REACH_SECONDS = 5.0
# MLflow allows no other characters in the name of a metric, no slash that ends a part or stands
# beside another one, and no longer name.
REFUSED = re.compile(r"[^\w\-. :]")
LONGEST_NAME = 250


def require_reachable(uri: str) -> None:
    """Stop if an MLflow server does not answer, or a store's file cannot be opened.

    Raises:
        RegistryError: Names the URI, the reason, and what to do.
    """
    registry.require_database(uri)
    if not uri.startswith(("http://", "https://")):
        return
    try:
        request = registry.make_request(f"{uri.rstrip('/')}/health")
        with urllib.request.urlopen(request, timeout=REACH_SECONDS):  # noqa: S310 - checked above
            return
    except urllib.error.HTTPError:
        # something answers; whether it lets us in shows when it is asked for something
        return
    except OSError as error:
        cause, reason = error, getattr(error, "reason", error)
    except (HTTPException, ValueError):
        # whose text may hold the password
        cause, reason = None, "this is no address, or what is there does not speak HTTP"
    raise RegistryError(
        f"MLflow at {registry.without_password(uri)} does not answer ({reason}); start it with"
        " `just mlflow`, or unset MLFLOW_TRACKING_URI to use the store in mlflow.db"
    ) from cause


def open_experiment(name: str) -> str:
    """Return the id of an experiment, which is made where there is none.

    In a SQLite store its artifacts go beside the database: MLflow's default would be a folder
    `mlruns` wherever the command happens to run.
    """
    import mlflow  # noqa: PLC0415 - 4 s
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifact_location(name))
        except MlflowException:
            # another process may have made it in the meantime
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise RegistryError(f"MLflow experiment {name!r} was deleted; restore it, or purge it")
    return found.experiment_id


def artifact_location(name: str) -> str | None:
    """Return where a new experiment's artifacts go; None leaves it to the server."""
    import mlflow  # noqa: PLC0415 - 4 s

    uri = mlflow.get_tracking_uri()
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).parent / "mlruns" / name).resolve().as_uri()


def start_run(experiment: str, name: str, flow: str) -> "Run":
    """Start the MLflow run of a flow; it stays open until `finish`."""
    import mlflow  # noqa: PLC0415 - 4 s

    return mlflow.MlflowClient().create_run(
        open_experiment(experiment),
        run_name=name,
        tags={
            "flow": flow,
            "git_commit": git_commit(),
            "mlflow.user": get_username() or "unknown",
        },
    )


def describe_run(run_id: str, params: Mapping[str, object], table: "Table") -> None:
    """Log a run's parameters, and the table that it trains on as its input."""
    import mlflow  # noqa: PLC0415 - 4 s
    from mlflow.data.pandas_dataset import from_pandas  # noqa: PLC0415

    data = from_pandas(
        table.rows,
        source=source(table),
        name=Path(table.path).stem,
        targets=table.target,
        # MLflow's own digest is short and of a sample
        digest=table.hash[:36],
    )
    with mlflow.start_run(run_id=run_id):
        mlflow.log_params(dict(params))
        mlflow.log_input(data, context="training")
        mlflow.set_tags({"dataset.sha256": table.hash, "dataset.rejected": len(table.rejected)})
        if ORIGIN in table.rows:
            # MLflow keeps a table's columns and its hash, but not what its rows are
            origins = table.rows[[ORIGIN, "id", "time", CURRENT]]
            mlflow.log_text(origins.to_csv(index=False), "dataset/rows.csv")
    # leaving the context has ended the run, which goes on in the next steps
    mlflow.MlflowClient().update_run(run_id, status="RUNNING")


def source(table: "Table") -> str:
    """Return where a table lies, from the repository's root if it is below it."""
    path = Path(table.path)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else table.path


@contextmanager
def fold_run(parent: str, fold: int) -> Iterator[Callable[[Mapping[str, float]], object]]:
    """Keep the MLflow run of one fold, with its learning curve logged by itself.

    Yields:
        A function that logs the fold's scores.
    """
    import_keras()  # here, where its notices are kept quiet
    import mlflow  # noqa: PLC0415 - 4 s
    import mlflow.keras  # noqa: PLC0415

    experiment = mlflow.get_run(parent).info.experiment_id
    # mlflow.autolog would ask for TensorBoard, and log the model a second time
    mlflow.keras.autolog(log_models=False)
    try:
        with mlflow.start_run(
            experiment_id=experiment, run_name=f"fold-{fold}", parent_run_id=parent
        ):
            yield lambda scores: mlflow.log_metrics(by_metric_name(scores))
    finally:
        mlflow.keras.autolog(disable=True)


def metric_name(*parts: str) -> str:
    """Return the name of a metric as MLflow takes it: parts of any text, with slashes between."""
    taken = [REFUSED.sub("_", part) for part in parts]
    # a part of nothing but dots would name a folder; an ending and a number find room behind
    name = "/".join(part if part.strip(".") else "_" for part in taken)
    return name[: LONGEST_NAME - 10]


def numbered(names: Iterable[str]) -> list[str]:
    """Return names each of which occurs once: later ones have a number behind them."""
    found: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in found:
            number += 1
            free = f"{name} {number}"
        found[free] = None
    return list(found)


def by_metric_name(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures, whose names may hold those of classes, by names that MLflow takes."""
    names = numbered(metric_name(name) for name in figures)
    return dict(zip(names, figures.values(), strict=True))


def finish(run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Log a run's last figures and mark it as finished, whatever an earlier attempt came to."""
    import mlflow  # noqa: PLC0415 - 4 s
    from mlflow.entities import Metric, RunTag  # noqa: PLC0415

    client = mlflow.MlflowClient()
    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    # MLflow deletes no tag that is not there
    if "failure" in client.get_run(run_id).data.tags:
        client.delete_tag(run_id, "failure")
    client.set_terminated(run_id, "FINISHED")


def mark_failed(run_id: str, reason: str) -> None:
    """Mark a run as failed, with the reason as a tag, unless it had finished."""
    import mlflow  # noqa: PLC0415 - 4 s

    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status == "FINISHED":
        return
    client.set_tag(run_id, "failure", reason[:1000])
    client.set_terminated(run_id, "FAILED")


def mark_killed(flow: str, name: str) -> None:
    """Mark a flow's run as killed, with the runs of its folds, unless it had finished."""
    import mlflow  # noqa: PLC0415 - 4 s

    client = mlflow.MlflowClient()
    experiments = [one.experiment_id for one in client.search_experiments()]
    left = "attributes.status != 'FINISHED'"
    for run in client.search_runs(
        experiments, f"{left} and attributes.run_name = '{name}' and tags.flow = '{flow}'"
    ):
        folds = f"{left} and tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        for one in (run, *client.search_runs([run.info.experiment_id], folds)):
            client.set_tag(one.info.run_id, "failure", "interrupted")
            client.set_terminated(one.info.run_id, "KILLED")


def git_commit() -> str:
    """Return the commit that is checked out, with + if files differ from it."""
    if known := os.environ.get(COMMIT):
        return known
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(  # noqa: S603 - fixed arguments
        ["git", "-C", str(ROOT), *arguments],  # noqa: S607 - whichever git the user has
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
