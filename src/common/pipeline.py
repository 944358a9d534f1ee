"""The base of every flow: configuration, common parameters, and what surrounds each step."""

import logging as python_logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metaflow import Config, FlowMutator, FlowSpec, Parameter, user_step_decorator
from metaflow.exception import MetaflowException
from metaflow.user_decorators.mutable_flow import MutableFlow
from metaflow.user_decorators.user_step_decorator import UserStepDecorator

from common import ROOT, tracking
from common.dataset import read_table, shuffle_seed
from common.settings import DEFAULT_CONFIG, Settings, parse_for_metaflow
from inference.errors import ConfigurationError, RookeryError

logger = python_logging.getLogger("rookery")


class StepFailedError(MetaflowException):
    """What a failed step prints: one line, where Metaflow would print some forty."""

    headline = "Failed"

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error) if isinstance(error, RookeryError) else locate(error))


def locate(error: BaseException) -> str:
    """Say what an unexpected error is, and the line of this project where it came up."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(ROOT / "src")
    ]
    place = ""
    if own:
        name = Path(own[-1].filename).relative_to(ROOT)
        place = f" ({name}:{own[-1].lineno}, in {own[-1].name})"
    return (
        f"{type(error).__name__}: {error}{place}. This is unexpected; "
        "ROOKERY_TRACE=1 shows the whole trace."
    )


class short_errors(UserStepDecorator):  # noqa: N801 - a decorator, named like Metaflow's own
    """Turns any error of a step into one line; ROOKERY_TRACE=1 keeps the trace."""

    def post_step(
        self,
        step_name: str,  # noqa: ARG002 - Metaflow's signature
        flow: FlowSpec,  # noqa: ARG002 - Metaflow's signature
        exception: Exception | None = None,
    ) -> tuple[Exception | None, None]:
        """Replace the error."""
        if exception is None or isinstance(exception, MetaflowException):
            return exception, None
        if os.environ.get("ROOKERY_TRACE") == "1":
            traceback.print_exception(exception)
        short = StepFailedError(exception)
        short.__cause__ = exception
        return short, None


@user_step_decorator
def logging(step_name: str, flow: "Pipeline", inputs: Any = None) -> Iterator[None]:  # noqa: ANN401, ARG001
    """Set up Python's logging, and log how long the step took."""
    python_logging.basicConfig(
        level=flow.settings.logging.level, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    # other libraries' chatter says nothing about this project
    for name in ("alembic", "matplotlib", "urllib3", "evidently", "tf2onnx", "skl2onnx"):
        python_logging.getLogger(name).setLevel(python_logging.WARNING)
    # an environment made by uv holds no pip
    python_logging.getLogger("mlflow.utils.environment").setLevel(python_logging.ERROR)
    # MLflow would make a schema of them; ours is the config file's
    warnings.filterwarnings("ignore", message=".*Add type hints to the `predict` method")
    started = time.monotonic()
    yield
    logger.debug("step %s took %.1f s", step_name, time.monotonic() - started)


class mlflow(UserStepDecorator):  # noqa: N801 - a decorator, named like Metaflow's own
    """Points MLflow at the store, once it answers; a step that fails marks its MLflow run."""

    def pre_step(
        self,
        step_name: str,  # noqa: ARG002 - Metaflow's signature
        flow: "Pipeline",  # type: ignore[override] - used on pipelines only
        inputs: Any = None,  # noqa: ANN401, ARG002 - Metaflow's signature
    ) -> None:
        """Set what MLflow reads when a step imports it."""
        uri = flow.tracking_uri
        tracking.require_reachable(uri)
        os.environ["MLFLOW_TRACKING_URI"] = uri

    def post_step(
        self,
        step_name: str,
        flow: FlowSpec,
        exception: Exception | None = None,
    ) -> tuple[Exception | None, None]:
        """Mark the MLflow run as failed if the step failed."""
        run_id = getattr(flow, "mlflow_run_id", None)
        if exception and run_id:
            tracking.mark_failed(run_id, f"step {step_name}: {exception}")
        return exception, None


@user_step_decorator
def dataset(step_name: str, flow: "Pipeline", inputs: Any = None) -> Iterator[None]:  # noqa: ANN401, ARG001
    """Read the table into `self.data`, shuffled; its line numbers stay in the index."""
    table = read_table(flow.settings.dataset, flow.dataset and Path(flow.dataset))
    for line, reason in table.rejected:
        logger.warning("%s, line %d is left out: %s", table.path, line, reason)
    flow.shuffle_seed = shuffle_seed()
    flow.data = table.shuffled(flow.shuffle_seed)
    yield


class backend(UserStepDecorator):  # noqa: N801 - a decorator, named like Metaflow's own
    """Puts the backend into `self.backend_impl` while the step runs; it is no artifact."""

    def pre_step(
        self,
        step_name: str,  # noqa: ARG002 - Metaflow's signature
        flow: "Pipeline",  # type: ignore[override] - used on pipelines only
        inputs: Any = None,  # noqa: ANN401, ARG002 - Metaflow's signature
    ) -> None:
        """Make the backend."""
        flow.backend_impl = flow.settings.create_backend(flow.backend)

    def post_step(
        self,
        step_name: str,  # noqa: ARG002 - Metaflow's signature
        flow: FlowSpec,
        exception: Exception | None = None,
    ) -> tuple[Exception | None, None]:
        """Drop the backend: it may hold connections and credentials."""
        vars(flow).pop("backend_impl", None)
        return exception, None


class around_every_step(FlowMutator):  # noqa: N801 - a decorator, named like Metaflow's own
    """Adds to each step what all steps need; the last one added is the outermost."""

    def mutate(self, mutable_flow: MutableFlow) -> None:
        """Add the decorators."""
        for _, step in mutable_flow.steps:
            for decorator in (mlflow, logging, short_errors):
                step.add_decorator(decorator, duplicates=step.IGNORE)


@around_every_step
class Pipeline(FlowSpec):
    """What every flow of this project has."""

    project = Config(
        "project",
        default=str(DEFAULT_CONFIG),
        parser=parse_for_metaflow,
        help="Config file of the project.",
    )
    backend = Parameter(
        "backend",
        default=None,
        help="Backend to use instead of the config file's, such as backend.Local.",
    )
    dataset = Parameter(
        "dataset", default=None, help="CSV file to read instead of the config file's."
    )
    mlflow_tracking_uri = Parameter(
        "mlflow-tracking-uri", default=None, help="MLflow store instead of the config file's."
    )

    @property
    def settings(self) -> Settings:
        """The config file's settings."""
        return Settings.model_validate(self.project.to_dict())

    @property
    def tracking_uri(self) -> str:
        """URI of the MLflow store."""
        if self.mlflow_tracking_uri:
            given = self.settings.model_copy(
                update={"mlflow_tracking_uri": self.mlflow_tracking_uri}
            )
            return given.tracking_uri
        return self.settings.tracking_uri


def require_at_least(minimum: float, **parameters: float) -> None:
    """Stop if a parameter of a flow is too small.

    Raises:
        ConfigurationError: Names the parameter as it is typed.
    """
    for name, value in parameters.items():
        if not value >= minimum:
            raise ConfigurationError(
                f"--{name.replace('_', '-')}: expected at least {minimum}, not {value}"
            )


def show_progress() -> bool:
    """Whether a progress bar would be seen by a person."""
    return sys.stderr.isatty()
