"""The config file, as frozen and typed settings."""

import os
import re
import sys
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from common import ROOT
from inference.backend import Backend, create_backend
from inference.errors import ConfigurationError
from inference.schema import Schema, Strict

DEFAULT_CONFIG = ROOT / "config" / "local.yml"
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")


class DatasetSettings(Schema):
    """The table: its schema, where it lies, and how it is read.

    Attributes:
        path: CSV file, relative to the repository root.
        placeholders: Cells that stand for a missing value.
        max_rejected: Largest share of rows that may be unusable.
    """

    path: Path
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

    layers: tuple[int, ...] = (32, 16)
    learning_rate: float = Field(default=0.01, gt=0)


class LoggingSettings(Strict):
    """What the pipelines log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class MonitoringSettings(Strict):
    """The limits of monitoring's checks.

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
        quality_drop: How much accuracy and macro F1 may fall below the reference; labels are
            wrong now and then too, so it is wider than a model's own spread.
    """

    min_rows: int = Field(default=100, gt=0)
    min_labelled: int = Field(default=50, gt=0)
    drift: float = Field(default=0.1, gt=0)
    missing: float = Field(default=0.05, ge=0, le=1)
    unseen: float = Field(default=0.05, ge=0, le=1)
    quality_drop: float = Field(default=0.1, ge=0, le=1)


class Settings(Strict):
    """All that the config file says.

    Attributes:
        project: Name of the registered model and of the MLflow experiment.
        backend: Key `module` names the backend; the others are its own settings.
    """

    project: str = Field(pattern=r"^[A-Za-z0-9][\w-]*$")
    dataset: DatasetSettings
    mlflow_tracking_uri: str
    backend: dict[str, Any]
    network: NetworkSettings = NetworkSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
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
    """Replace $VAR, ${VAR} and ${VAR:-default} in all text below `value`.

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
        name = match[1] or match[2]
        found = os.environ.get(name) or match[3]
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
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # such as a date with a 13th month
        raise ConfigurationError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{source}: expected keys and values at the top level")
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error
    return parse(text, str(path))


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
    return str(DEFAULT_CONFIG.relative_to(ROOT))
