"""The config file, as frozen and typed settings."""

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from common import ROOT
from inference.backend import Backend, create_backend
from inference.errors import ConfigurationError
from inference.schema import Schema, Strict

# ROOKERY_CONFIG names another table's
DEFAULT_CONFIG = ROOT / (os.environ.get("ROOKERY_CONFIG") or "config/local.yml")
# Names a config file whose keys hold unless this one has them too.
EXTENDS = "extends"
VARIABLE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)(?::-([^}]*))?\})")


class DatasetSettings(Schema):
    """The table: its schema, where it lies, and how it is read.

    Attributes:
        path: CSV file, relative to the repository root, or s3://bucket/key.
        placeholders: Cells that stand for a missing value.
        max_rejected: Largest share of rows that may be unusable.
    """

    path: str = Field(min_length=1)
    placeholders: tuple[str, ...] = ("", ".", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")
    max_rejected: float = Field(default=0.05, ge=0, le=1)

    @property
    def schema(self) -> Schema:  # type: ignore[override] - pydantic's method of this name is retired
        """The part that travels with the model."""
        return Schema.model_validate(self.model_dump(include=set(Schema.model_fields)))


class NetworkSettings(Strict):
    """The Keras network.

    Attributes:
        layers: Units of each hidden layer.
        learning_rate: Step size of the Adam optimizer.
    """

    layers: tuple[Annotated[int, Field(gt=0)], ...] = (32, 16)
    learning_rate: float = Field(default=0.001, gt=0)


class TrainingSettings(Strict):
    """How the network is trained, and how good it must be; `just train --help` can replace these.

    Attributes:
        epochs: Passes over the rows, at most.
        batch_size: Rows a gradient step; a table of 10,000 rows and more is quicker with hundreds.
        patience: A fit keeps a tenth of its rows aside, and ends after so many epochs in which the
            loss on them did not fall, with the weights of the best epoch; null trains all epochs
            on all rows.
        accuracy_threshold: A model whose cross-validated accuracy is lower is not registered;
            one that is no better than naming the most common class never is.
    """

    epochs: int = Field(default=200, gt=0)
    batch_size: int = Field(default=32, gt=0)
    patience: int | None = Field(default=10, gt=0)
    accuracy_threshold: float = Field(default=0, ge=0, le=1)


class ModelCardSettings(Strict):
    """What a model card cannot know by itself.

    Attributes:
        intended_use: What the model is for; without it, something general.
        not_for: What it is not for; without it, what holds for most models.
        provenance: Who collected the data, how, and under which licence.
    """

    intended_use: str = ""
    not_for: tuple[str, ...] = ()
    provenance: str = ""


class LoggingSettings(Strict):
    """What the pipelines log.

    Attributes:
        level: The least important messages that are shown.
    """

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class MonitoringSettings(Strict):
    """The limits of monitoring's checks.

    With the defaults, none of 800 windows without a shift warned or failed, and shifts twice the
    size of a limit were found in nearly all windows of 300 rows; see docs/benchmarks.md.

    Attributes:
        min_rows: Fewer rows tell nothing about drift: below 100, chance alone moves a column as
            far as many real changes do. Of a single column, half as many values are enough.
        min_labelled: Fewer labelled rows tell nothing about quality: below 50, one wrong answer
            is 2 points of accuracy.
        drift: Largest distance that is no drift, Evidently's own default; small windows get a
            larger limit, see `drift.DEVIATIONS`.
        missing: How much the share of missing values may grow; smaller shares are imputed
            without harm.
        unseen: How much the share of unseen categories may grow; each is answered from the other
            columns alone.
        beyond: How many of a column's numbers may lie beyond all that training had; one in a
            hundred is harmless, and small tables get a larger limit, see `data.beyond_limit`.
        duplicates: How many rows may be copies of others beyond training's; a tenth moves no
            other figure past its limit.
        max_age_hours: Age of the newest row above which a verdict is no longer about now; a
            service in use answers something every day.
        association: Smallest change in how two columns hang together that counts, on the scale
            of correlations, from 0 to 2.
        quality_drop: How much accuracy and macro F1 may fall below the reference; labels are
            wrong now and then too, so it is wider than a model's own spread.
        part_drop: How much the recall of one class and the accuracy of one segment may fall; they
            have fewer rows, and there are many of them.
        calibration: How much the expected calibration error may grow; an accuracy that falls
            while the confidences stay makes it grow by as much.
        retrain_labels: Fewer new labels are not worth a training: of 200 rows, some 67 fall to
            each of three classes, so that a recall is known to within 10 points.
    """

    min_rows: int = Field(default=100, gt=0)
    min_labelled: int = Field(default=50, gt=0)
    drift: float = Field(default=0.1, gt=0)
    missing: float = Field(default=0.05, ge=0, le=1)
    unseen: float = Field(default=0.05, ge=0, le=1)
    beyond: float = Field(default=0.01, ge=0, le=1)
    duplicates: float = Field(default=0.1, ge=0, le=1)
    max_age_hours: float = Field(default=24, gt=0)
    association: float = Field(default=0.2, gt=0)
    quality_drop: float = Field(default=0.1, ge=0, le=1)
    part_drop: float = Field(default=0.2, ge=0, le=1)
    calibration: float = Field(default=0.1, ge=0, le=1)
    retrain_labels: int = Field(default=200, gt=0)


class PromotionSettings(Strict):
    """By how much a challenger may be worse than the champion; see `common.challenge`.

    Attributes:
        rows: So many captured rows with ground truth can tell, the newest ones: as many as
            monitoring judges, since older ones may tell of a world that has changed.
        min_labelled: Fewer tell too little: of 200 rows, a challenger that loses 5 points of macro
            F1 is found out in three of four cases, of 100 in fewer than half (champions with an
            accuracy of 0.94; see `common.bootstrap`).
        min_class_rows: A class with fewer rows has a recall that tells nothing: below 10, one row
            is more than 10 points.
        f1_drop: Macro F1 may fall by this much; retraining with another seed moves it by as much.
        recall_drop: Every class's recall may; twice as wide, for a class has fewer rows.
        log_loss_rise: Log loss may rise by this many nats: what is said to be 90 % certain and
            is right in 80 % of cases costs about as much.
        latency_rise: The median time of a row may rise by this share; less is not felt, as most
            of an answer's time is not the model's.
    """

    rows: int = Field(default=500, gt=0)
    min_labelled: int = Field(default=200, gt=0)
    min_class_rows: int = Field(default=10, gt=0)
    f1_drop: float = Field(default=0.02, ge=0, le=1)
    recall_drop: float = Field(default=0.05, ge=0, le=1)
    log_loss_rise: float = Field(default=0.05, ge=0)
    latency_rise: float = Field(default=0.5, ge=0)


class Settings(Strict):
    """All that the config file says.

    Attributes:
        project: Name of the registered model and of the MLflow experiment.
        mlflow_tracking_uri: Where runs and models are recorded: a database, or a server's address.
        backend: Key `module` names the backend; the others are its own settings.
    """

    project: str = Field(pattern=r"^[A-Za-z0-9][\w-]*$")
    dataset: DatasetSettings
    mlflow_tracking_uri: str
    backend: dict[str, Any]
    network: NetworkSettings = NetworkSettings()
    training: TrainingSettings = TrainingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    promotion: PromotionSettings = PromotionSettings()
    model_card: ModelCardSettings = ModelCardSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("backend")
    @classmethod
    def _has_module(cls, value: dict[str, Any]) -> dict[str, Any]:
        name = value.get("module")
        if not (isinstance(name, str) and "." in name):
            msg = "the key module must name a backend, such as backend.Local"
            raise ValueError(msg)
        return value

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI, with the path of a SQLite file made absolute."""
        prefix = "sqlite:///"
        if not self.mlflow_tracking_uri.startswith(prefix):
            return self.mlflow_tracking_uri
        return prefix + str(ROOT / self.mlflow_tracking_uri.removeprefix(prefix))

    def create_backend(self, module: str | None = None) -> Backend:
        """Make the backend that the config file names, or the one given here instead.

        Raises:
            ConfigurationError: The backend does not exist, or a setting of it is wrong.
        """
        own = {key: value for key, value in self.backend.items() if key != "module"}
        # only paths on this machine; URLs and bucket names pass as they are
        for key in ("database", "serving"):
            if isinstance(own.get(key), str):
                own[key] = str(ROOT / own[key])
        return create_backend(module or self.backend["module"], own)


def expand(value: Any, key: str, source: str) -> Any:  # noqa: ANN401 - any YAML value
    """Replace $VAR, ${VAR} and ${VAR:-default} in all text below `value`; $$ stands for $.

    Raises:
        ConfigurationError: A variable without a default is not set.
    """
    if isinstance(value, dict):
        return {k: expand(v, f"{key}.{k}".lstrip("."), source) for k, v in value.items()}
    if isinstance(value, list):
        return [expand(v, f"{key}.{i}", source) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        name = match[2] or match[3]
        # a default is text like any other
        found = os.environ.get(name) or (match[4] and match[4].replace("$$", "$"))
        if found is None:
            raise ConfigurationError(
                f"{source}: {key} needs the environment variable {name}, which is not set;"
                " set it in .env"
            )
        return found

    return VARIABLE.sub(substitute, value)


def parse(text: str, source: str) -> Settings:
    """Parse the text of a config file.

    Args:
        text: YAML, of which JSON is a part.
        source: Name of the file, for error messages.

    Raises:
        ConfigurationError: The text is not YAML, a variable is not set, a key is unknown or
            missing, or a value has the wrong type.
    """
    content = read_yaml(text, source)
    if base := content.pop(EXTENDS, None):
        content = read_base(base, source) | content
    try:
        settings = Settings.model_validate(expand(content, "", source))
        settings.create_backend()
    except ValidationError as error:
        raise ConfigurationError(f"{source}: {describe(error)}") from error
    except ConfigurationError as error:
        if str(error).startswith(source):
            raise
        raise ConfigurationError(f"{source}: {error}") from error
    return settings


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """Read keys and values from YAML.

    Raises:
        ConfigurationError: The text is something else.
    """
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # such as a date with a 13th month
        raise ConfigurationError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{source}: expected keys and values at the top level")
    return content


def read_base(name: object, source: str) -> dict[str, Any]:
    """Read the config file that another one extends, which cannot extend a third.

    Raises:
        ConfigurationError: It cannot be read.
    """
    if not isinstance(name, str):
        raise ConfigurationError(f"{source}: {EXTENDS}: expected the path of a config file")
    content = read_yaml(read_text(ROOT / name), name)
    if EXTENDS in content:
        raise ConfigurationError(f"{source}: {name} extends another file itself; name that one")
    return content


def describe(error: ValidationError) -> str:
    """Say in one line which keys are wrong and what was expected."""
    parts = []
    for detail in error.errors(include_url=False):
        key = ".".join(str(part) for part in detail["loc"])
        if detail["type"] == "extra_forbidden":
            parts.append(f"{key}: unknown key{known_keys(detail['loc'])}")
        elif detail["type"] == "missing":
            parts.append(f"{key}: required key is missing")
        else:
            text = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            parts.append(f"{key}: {text}, not {str(detail['input'])[:80]!r}")
    return "; ".join(parts)


def known_keys(location: tuple[int | str, ...]) -> str:
    """List the keys that would have been allowed at the place of an unknown one."""
    model: Any = Settings
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    fields = getattr(model, "model_fields", None)
    return f" (known: {', '.join(fields)})" if fields else ""


def load(path: Path = DEFAULT_CONFIG) -> Settings:
    """Read a config file.

    Raises:
        ConfigurationError: See `parse`; or the file cannot be read.
    """
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read a config file's text.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error


def parse_for_metaflow(text: str) -> dict[str, Any]:
    """Parse the text of a flow's `--config project FILE`, or of `--config-value`.

    Metaflow keeps what is returned with the run; variables are expanded at that moment, so that
    a task on another machine sees the same values.
    """
    return parse(text, config_source(sys.argv)).model_dump(mode="json")


def config_source(arguments: list[str]) -> str:
    """Name where the settings of a flow come from: Metaflow hands its parser the text alone."""
    for option, name, value in zip(arguments, arguments[1:], arguments[2:], strict=False):
        if option == "--config" and name == "project":
            return value
        if option == "--config-value" and name == "project":
            return "--config-value project"
    return os.environ.get("ROOKERY_CONFIG") or str(DEFAULT_CONFIG.relative_to(ROOT))
