"""The table's description, and the check of records against it at every border."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Optional, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from typing_extensions import TypedDict

from inference.errors import InvalidRecordsError

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, float | str | None]

MAX_TEXT = 200
# Cells that `Schema.check_some` checks at a time: where none of them fits, it takes a millisecond.
CELLS_AT_ONCE = 1_000
# columns of captured rows and of references; see Backend.load and common.fitting
RESERVED = {"id", "time", "model_version", "prediction", "confidence", "target"}
RESERVED |= {"row_origin", "row_current"}
# What pandas, and so MLflow's scoring server, reads as missing in a CSV cell.
MISSING_TEXTS = ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND")
MISSING_TEXTS += ("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
# the engines calculate in float32
MAX_NUMBER = float(np.finfo(np.float32).max)


class Strict(BaseModel):
    """Base of frozen descriptions that refuse keys they do not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Number(Strict):
    """A numeric feature.

    Attributes:
        range: Hard limits, both included; a number outside them is refused.
        unit: Unit of the figures, for people.
        required: Whether a record must name this column (its value may be null all the same).
    """

    kind: Literal["number"]
    range: tuple[float, float] | None = None
    unit: str | None = None
    required: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.range is None:
            return self
        low, high = self.range
        if not -MAX_NUMBER <= low < high <= MAX_NUMBER:
            msg = f"range {[low, high]} must go from low to high, within ±{MAX_NUMBER:.7g}"
            raise ValueError(msg)
        return self

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.range is None:
            return "a finite number or null"
        unit = f" {self.unit}" if self.unit else ""
        return f"a number from {self.range[0]:g} to {self.range[1]:g}{unit}, or null"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type built at run time has no static type
        """Pydantic type of one value."""
        low, high = self.range or (-MAX_NUMBER, MAX_NUMBER)
        return Optional[Annotated[float, Field(ge=low, le=high, allow_inf_nan=False)]]  # noqa: UP045 - made at run time


class Category(Strict):
    """A categorical feature. Values outside `categories` are allowed, and counted as unseen.

    Attributes:
        categories: Every value that training may meet.
        unit: Categories have none.
        required: Whether a record must name this column (its value may be null all the same).
    """

    kind: Literal["category"]
    categories: tuple[str, ...] = Field(min_length=1)
    unit: None = None
    required: bool = True

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return f"text of 1 to {MAX_TEXT} characters, or null"

    @property
    def annotation(self) -> Any:  # noqa: ANN401 - a type built at run time has no static type
        """Pydantic type of one value."""
        return Optional[Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]]  # noqa: UP045 - see Number


Feature = Annotated[Number | Category, Field(discriminator="kind")]


class Schema(Strict):
    """Columns, types, ranges and classes of a table.

    Attributes:
        target: Name of the column to predict.
        classes: Every value that the target takes, in the order of the probabilities.
        features: The columns to predict from, by name.
        placeholders: Cells of a CSV file that stand for a missing value. Models that were made
            before these came with them are served with the default.
    """

    target: str
    classes: tuple[str, ...] = Field(min_length=2)
    features: dict[str, Feature] = Field(min_length=1)
    placeholders: tuple[str, ...] = MISSING_TEXTS

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.target in self.features:
            msg = f"target {self.target!r} is among the features"
            raise ValueError(msg)
        taken = RESERVED & self.features.keys()
        if taken:
            msg = f"features may not be called {', '.join(sorted(taken))}: captured rows have these"
            raise ValueError(msg)
        if len(set(self.classes)) != len(self.classes):
            msg = f"classes {list(self.classes)} hold a class twice"
            raise ValueError(msg)
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a schema that `write` wrote."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def write(self, path: Path) -> None:
        """Write the schema as JSON."""
        path.write_text(self._json + "\n", encoding="utf-8")

    @cached_property
    def _json(self) -> str:
        plain = Schema.model_validate(self.model_dump(include=set(Schema.model_fields)))
        return plain.model_dump_json(indent=2)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the schema's JSON form: equal schemas have equal hashes."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """Names of the numeric features."""
        return tuple(name for name, f in self.features.items() if f.kind == "number")

    @cached_property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Known values of each categorical feature, by its name."""
        return {n: f.categories for n, f in self.features.items() if f.kind == "category"}

    @cached_property
    def missing_cells(self) -> dict[str, frozenset[str]]:
        """Cells that stand for a missing value of each feature; a known category never does."""
        return {
            name: frozenset(self.placeholders).difference(self.categories.get(name, ())) | {""}
            for name in self.features
        }

    @cached_property
    def record_type(self) -> Any:  # noqa: ANN401 - a type built at run time has no static type
        """The type of one record, as a TypedDict that pydantic understands."""
        fields = {
            name: f.annotation if f.required else NotRequired[f.annotation]
            for name, f in self.features.items()
        }
        # type checkers want fields that they can read
        record = TypedDict("Record", fields)  # type: ignore[misc]
        record.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
        return record

    @cached_property
    def _adapter(self) -> TypeAdapter[list[Record]]:
        record = self.record_type
        return TypeAdapter(list[record])  # type: ignore[valid-type] - made at run time

    def check(self, records: Sequence[Mapping[str, Any]]) -> list[Record]:
        """Check records against the schema; nothing is converted except int to float.

        Args:
            records: One mapping a row, from column name to value. None stands for missing.

        Returns:
            The records as plain dictionaries.

        Raises:
            InvalidRecordsError: A value has the wrong type or lies outside its hard range, a
                column is unknown, or a required column is missing.
        """
        try:
            return self._adapter.validate_python(records)
        except ValidationError as error:
            problems = [self._problem(detail) for detail in error.errors(include_url=False)]
            raise InvalidRecordsError(problems) from error

    def check_some(self, records: Sequence[Mapping[str, Any]], most: int) -> list[Record]:
        """Check records as `check` does, but look no further once there are problems enough.

        Args:
            records: See `check`.
            most: So many problems are enough; there may be some more in the error, and it says
                from which row on nothing was looked at.

        Returns:
            The records as plain dictionaries.

        Raises:
            InvalidRecordsError: See `check`.
        """
        step = CELLS_AT_ONCE // len(self.features) + 1
        if len(records) <= step:
            return self.check(records)
        checked: list[Record] = []
        problems: list[dict[str, Any]] = []
        end = 0
        while end < len(records) and len(problems) < most:
            start, end = end, end + step
            try:
                checked += self.check(records[start:end])
            except InvalidRecordsError as error:
                problems += [found | {"row": start + found["row"]} for found in error.problems]
        if not problems:
            return checked
        raise InvalidRecordsError(problems, end if end < len(records) else None)

    def _problem(self, detail: Mapping[str, Any]) -> dict[str, Any]:
        row, *rest = detail["loc"] or ("all",)
        if not rest:
            return {"row": row, "expected": "expected an object with one value a column"}
        column = str(rest[0])
        problem = {"row": row, "column": column[:MAX_TEXT]}
        if detail["type"] == "missing":
            return problem | {"expected": "required column is missing"}
        # what is no text cannot be a column either
        if detail["type"] in ("extra_forbidden", "invalid_key"):
            return problem | {"expected": f"unknown column; known are {', '.join(self.features)}"}
        expected = f"expected {self.features[column].expected}"
        return problem | {"value": shown(detail["input"]), "expected": expected}

    def columns(self, records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Turn checked records into the arrays that the engines take.

        Returns:
            One array of shape (rows, 1) a feature: numbers as float32 with NaN for missing,
            categories as text with "" for missing.
        """
        arrays: dict[str, np.ndarray] = {}
        for name, feature in self.features.items():
            if feature.kind == "number":
                # numpy reads None as NaN
                column = np.array([record.get(name) for record in records], dtype=np.float32)
            else:
                column = np.array([record.get(name) or "" for record in records], dtype=object)
            arrays[name] = column.reshape(-1, 1)
        return arrays

    def count_unseen(self, records: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Count, for each categorical feature, the values that training did not know."""
        counts = {}
        for name, known in self.categories.items():
            usual = {*known, None}
            if count := sum(record.get(name) not in usual for record in records):
                counts[name] = count
        return counts


def shown(value: object) -> bool | float | str:
    """Return a refused value in a form that any JSON reader takes."""
    # every integer up to here is a float too
    if isinstance(value, int | float) and -(2**53) <= value <= 2**53:
        return value
    try:
        return str(value)[:MAX_TEXT]
    except (ValueError, RecursionError):
        # Python writes integers of up to 4300 digits, and nesting that fits its stack
        return f"{type(value).__name__}, too large to show"


def to_records(table: "pd.DataFrame | Sequence[Mapping[str, Any]]") -> Sequence[Mapping[str, Any]]:
    """Turn a table into records, with None for what is missing; records pass unchanged."""
    if isinstance(table, Sequence):
        return table
    complete = table.astype(object)
    complete[table.isna()] = None
    return complete.to_dict(orient="records")  # type: ignore[return-value] - columns are text
