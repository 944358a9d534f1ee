"""The base of every flow: configuration, common parameters, and what surrounds each step."""

import logging as python_logging
import os
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from metaflow import Config, FlowMutator, FlowSpec, Parameter, current
from metaflow.exception import MetaflowException
from metaflow.plugins.metadata_providers.local import LocalMetadataProvider
from metaflow.system_context import ExecutionPhase, system_context
from metaflow.user_decorators.mutable_flow import MutableFlow
from metaflow.user_decorators.user_step_decorator import UserStepDecorator

from common import remote, tracking
from common.dataset import is_production, read_table, shuffle_seed
from common.launching import launched
from common.settings import DEFAULT_CONFIG, Settings, parse_for_metaflow
from inference.errors import ConfigurationError, RookeryError
from inference.local import Local

logger = python_logging.getLogger("rookery")

CHATTY = (
    *("alembic", "bm25s", "boto3", "botocore", "evidently", "faiss", "matplotlib", "s3transfer"),
    *("skl2onnx", "tf2onnx", "urllib3"),
)

# Folders of this project as the code package has them, and where they lie here or there.
ROOMS = ("agents", "common", "inference", "pipelines")
SOURCES = Path(__file__).resolve().parents[1]
# MB that AWS Batch and Kubernetes reserve for a step that does not say otherwise; it means nothing
# on this machine. MLflow and what is read take 350 MB for the penguins.
MEMORY = 2048

FlowType = TypeVar("FlowType", bound=FlowSpec)


class StepFailedError(MetaflowException):
    """What a failed step prints: one line, where Metaflow would print some forty."""

    headline = "Failed"

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error) if isinstance(error, RookeryError) else locate(error))


def locate(error: BaseException) -> str:
    """Say what an unexpected error is, and the line of this project where it came up."""
    places = [
        f" ({place}:{frame.lineno}, in {frame.name})"
        for frame in traceback.extract_tb(error.__traceback__)
        if (place := own(frame.filename))
    ]
    return (
        f"{type(error).__name__}: {error}{places[-1] if places else ''}. This is unexpected; "
        "ROOKERY_TRACE=1 shows the whole trace."
    )


def own(file: str) -> str | None:
    """Return the name of one of this project's files in the repository; None for any other."""
    path = Path(file)
    if path.is_relative_to(SOURCES) and path.relative_to(SOURCES).parts[0] in ROOMS:
        return f"src/{path.relative_to(SOURCES)}"
    # in a code package the flow's own file lies beside the others' folders
    return f"src/pipelines/{path.name}" if path == Path(sys.argv[0]).absolute() else None


def shorten(error: Exception) -> Exception:
    """Return the error that says in one line what this one does; ROOKERY_TRACE=1 shows it all."""
    if isinstance(error, MetaflowException):
        return error
    if os.environ.get("ROOKERY_TRACE") == "1":
        traceback.print_exception(error)
    short = StepFailedError(error)
    short.__cause__ = error
    return short


class short_errors(UserStepDecorator):  # noqa: N801 - a decorator, named like Metaflow's own
    """Turns any error of a step into one line."""

    def post_step(
        self,
        step_name: str,  # noqa: ARG002 - Metaflow's signature
        flow: FlowSpec,  # noqa: ARG002 - Metaflow's signature
        exception: Exception | None = None,
    ) -> tuple[Exception | None, None]:
        """Replace the error."""
        return exception and shorten(exception), None


class Preparation(UserStepDecorator):
    """Base of decorators that do something before a step.

    Metaflow hands an error of a step to the decorators around it, but not one of a decorator.
    """

    def pre_step(self, step_name: str, flow: Any, inputs: Any = None) -> None:  # noqa: ANN401, ARG002 - Metaflow's signature
        """Prepare the step, with any error in one line."""
        try:
            self.prepare(flow)
        except Exception as error:
            raise shorten(error) from error

    def prepare(self, flow: Any) -> None:  # noqa: ANN401 - a Pipeline
        """Do what the step needs."""
        raise NotImplementedError


class logging(Preparation):  # noqa: N801 - a decorator, named like Metaflow's own
    """Sets up Python's logging, and logs how long the step took."""

    def prepare(self, flow: Any) -> None:  # noqa: ANN401 - a Pipeline
        """Set the level, and keep other libraries quiet."""
        level = flow.settings.logging.level
        python_logging.basicConfig(
            level=level, format="%(levelname)s %(name)s: %(message)s", force=True
        )
        # other libraries' chatter says nothing about this project
        for name in CHATTY:
            python_logging.getLogger(name).setLevel(python_logging.WARNING)
        # an environment made by uv holds no pip
        python_logging.getLogger("mlflow.utils.environment").setLevel(python_logging.ERROR)
        self._started = time.monotonic()

    def post_step(
        self,
        step_name: str,
        flow: FlowSpec,  # noqa: ARG002 - Metaflow's signature
        exception: Exception | None = None,
    ) -> tuple[Exception | None, None]:
        """Log the time, and where the code lies that ran."""
        seconds = time.monotonic() - self._started
        logger.debug("step %s took %.1f s, code in %s", step_name, seconds, SOURCES)
        return exception, None


class mlflow(Preparation):  # noqa: N801 - a decorator, named like Metaflow's own
    """Points MLflow at the store, once it answers; a step that fails marks its open MLflow run."""

    def prepare(self, flow: Any) -> None:  # noqa: ANN401 - a Pipeline
        """Set what MLflow reads when a step imports it."""
        uri = flow.tracking_uri
        if remote.is_remote():
            remote.require_shared_store(uri)
        tracking.require_reachable(uri)
        os.environ["MLFLOW_TRACKING_URI"] = uri

    def post_step(
        self,
        step_name: str,
        flow: FlowSpec,
        exception: Exception | None = None,
    ) -> tuple[Exception | None, None]:
        """Mark the MLflow run as failed if the step failed, unless the run had finished."""
        run_id = getattr(flow, "mlflow_run_id", None)
        if exception and run_id:
            tracking.mark_failed(run_id, f"step {step_name}: {exception}")
        return exception, None


class registration(Preparation):  # noqa: N801 - a decorator, named like Metaflow's own
    """Lets Metaflow's client find the task on a machine that has not started the run.

    Cards ask the client. Metaflow's local metadata is empty on another machine, and is copied back
    when the task ends, whatever is newer; so these files are very old.
    """

    def prepare(self, flow: Any) -> None:  # noqa: ANN401, ARG002 - a Pipeline
        """Write down the run and the task."""
        provider = system_context.metadata
        if not isinstance(provider, LocalMetadataProvider):
            return
        run_id, step, task = current.run_id, current.step_name, current.task_id
        # Metaflow has no public way
        provider._new_run(run_id)  # noqa: SLF001
        provider._new_task(run_id, step, task, current.retry_count)  # noqa: SLF001
        if root := provider._make_path(current.flow_name):  # noqa: SLF001
            for file in Path(root).rglob("_self.json"):
                os.utime(file, (0, 0))


class dataset(Preparation):  # noqa: N801 - a decorator, named like Metaflow's own
    """Reads the table into `self.data`, shuffled; its line numbers stay in the index."""

    def prepare(self, flow: Any) -> None:  # noqa: ANN401 - a Pipeline
        """Read the table, and tell of the rows that cannot be used."""
        table = read_table(flow.settings.dataset, flow.dataset)
        for line, reason in table.rejected:
            logger.warning("%s, line %d is left out: %s", table.path, line, reason)
        flow.shuffle_seed = shuffle_seed()
        flow.data = table.shuffled(flow.shuffle_seed)


class backend(Preparation):  # noqa: N801 - a decorator, named like Metaflow's own
    """Puts the backend into `self.backend_impl` while the step runs; it is no artifact."""

    def prepare(self, flow: Any) -> None:  # noqa: ANN401 - a Pipeline
        """Make the backend."""
        flow.backend_impl = flow.settings.create_backend(flow.backend)
        # training asks it for captured rows, and for nothing without them
        asked = getattr(flow, "captured", True)
        if asked and remote.is_remote() and isinstance(flow.backend_impl, Local):
            raise ConfigurationError(
                "backend.Local keeps everything on one machine, and this task runs on another; use"
                " --config project config/sagemaker.yml"
            )

    def post_step(
        self,
        step_name: str,  # noqa: ARG002 - Metaflow's signature
        flow: FlowSpec,
        exception: Exception | None = None,
    ) -> tuple[Exception | None, None]:
        """Drop the backend: it may hold connections and credentials."""
        vars(flow).pop("backend_impl", None)
        return exception, None


class AroundEveryStep(FlowMutator):
    """Adds to each step what all steps need; the last one added is the outermost."""

    def mutate(self, mutable_flow: MutableFlow) -> None:
        """Add the decorators, and stop what would fail on other machines only."""
        names = {spec[0] for _, step in mutable_flow.steps for spec in step.decorator_specs}
        if remote.leaves(names) and system_context.phase == ExecutionPhase.LAUNCH:
            prepare_to_leave(mutable_flow, names)
        passed_on = {name: os.environ[name] for name in remote.PASSED_ON if os.environ.get(name)}
        secret = os.environ.get(remote.SECRET)
        for _, step in mutable_flow.steps:
            # Metaflow's own hint leaves out the classes that it takes
            for decorator in (mlflow, logging, short_errors):
                step.add_decorator(decorator, duplicates=step.IGNORE)  # type: ignore[arg-type]
            step.add_decorator("resources", deco_kwargs={"cpu": 1, "memory": MEMORY})
            step.add_decorator("environment", deco_kwargs={"vars": passed_on})
            if remote.is_remote():
                step.add_decorator(registration, duplicates=step.IGNORE)  # type: ignore[arg-type] - see above
            if secret:
                source = {"type": "aws-secrets-manager", "id": secret}
                # where the variables are set already, they are the same or out of date
                given = {"sources": [source], "allow_override": True}
                step.add_decorator("secrets", deco_kwargs=given)


def prepare_to_leave(flow: MutableFlow, decorators: set[str]) -> None:
    """Make sure that tasks on other machines will find what they need, and note what they lack."""
    project = dict(flow.configs).get("project")
    if project is not None:
        try:
            settings = Settings.model_validate(project.to_dict())
            remote.require_shared(settings, reads_table=dataset.__name__ in decorators)
        except RookeryError as error:
            raise shorten(error) from error
    os.environ[remote.COMMIT] = tracking.git_commit()
    if is_production():
        os.environ[remote.PROFILE] = "production"


def around_every_step(flow: type[FlowType]) -> type[FlowType]:
    """Add to each step of a flow what all steps need."""
    return AroundEveryStep(flow)  # type: ignore[return-value] - Metaflow returns the class itself


def parse_config(text: str) -> dict[str, Any]:
    """Parse a config file, with what is wrong with it in one line."""
    try:
        return parse_for_metaflow(text)
    except RookeryError as error:
        raise shorten(error) from error


def parameter(name: str, **options: Any) -> Any:  # noqa: ANN401 - a step sees the value
    """Return a Metaflow parameter; annotate it with the type that its value has in a step."""
    return Parameter(name, **options)


@around_every_step
class Pipeline(FlowSpec):
    """What every flow of this project has."""

    # Whether it opens runs in MLflow, which Ctrl-C leaves open. Metaflow keeps what has a
    # name without an underscore.
    _keeps_mlflow_runs = False

    project = Config(
        "project",
        default=str(DEFAULT_CONFIG),
        parser=parse_config,
        help="Config file of the project.",
    )
    # no text means the config file's: Airflow takes no parameter without a default
    backend: str = parameter(
        "backend",
        default="",
        show_default=False,
        help="Backend to use instead of the config file's, such as backend.Local.",
    )
    dataset: str = parameter(
        "dataset",
        default="",
        show_default=False,
        help="CSV file or s3://bucket/key to read instead of the config file's.",
    )
    mlflow_tracking_uri: str = parameter(
        "mlflow-tracking-uri",
        default="",
        show_default=False,
        help="MLflow store instead of the config file's.",
    )

    def __init__(self, use_cli: bool = True) -> None:  # noqa: FBT001, FBT002 - Metaflow's signature
        """Do what the command line says; Metaflow makes others without it."""
        if "--help" in sys.argv and "--config" in sys.argv:
            # help is the same with each config file, and one may need variables that are not set
            place = sys.argv.index("--config")
            del sys.argv[place : place + 3]
        with launched(keeps_runs=self._keeps_mlflow_runs) if use_cli else nullcontext():
            super().__init__(use_cli=use_cli)

    @property
    def settings(self) -> Settings:
        """The config file's settings."""
        # a dictionary where tasks are launched
        known = self.project if isinstance(self.project, dict) else self.project.to_dict()
        return Settings.model_validate(known)

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
