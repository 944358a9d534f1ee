"""Checking whole columns as the service checks records.

The check of a column lets nothing pass that is wrong, but may doubt what is right. A row with a
value in doubt goes through the service's own check.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from inference.errors import InvalidRecordsError
from inference.schema import MAX_NUMBER, MAX_TEXT, Feature, Number, Schema
from inference.wire import read_cell

# Rows that go through the service's check at once: what it says of them takes memory.
CAREFUL_ROWS = 4096
# Of what Python reads as a number, what Arrow reads as the same one.
PLAIN_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

Problem = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows after their check.

    Attributes:
        columns: Each feature's values, shape (rows,): float64 with NaN for missing, or text with
            "" for missing. They mean nothing in rows that do not fit.
        good: Which rows fit the schema, shape (rows,).
        problems: What is wrong with the others: row, column, value, expected.
    """

    columns: dict[str, np.ndarray]
    good: np.ndarray
    problems: list[Problem]


def check(schema: Schema, table: pa.RecordBatch, *, cells: bool) -> Checked:
    """Check rows.

    Args:
        schema: What they must fit.
        table: Their columns. One that is no feature is left alone; a feature that has none is
            missing in every row.
        cells: Whether the values are cells of a CSV file: text, and null where there is none.
    """
    given = {
        name: plain(table.column(name), feature)
        for name, feature in schema.features.items()
        if name in table.schema.names
    }
    columns, good = {}, np.ones(table.num_rows, dtype=bool)
    for name, feature in schema.features.items():
        column = given.get(name, pa.nulls(table.num_rows, pa.string()))
        missing = pa.array(schema.missing_cells[name], pa.string()) if cells else None
        columns[name], sure = check_column(column, feature, missing)
        good &= sure

    problems = []
    doubtful = np.flatnonzero(~good)
    for start in range(0, len(doubtful), CAREFUL_ROWS):
        rows = doubtful[start : start + CAREFUL_ROWS]
        values = {
            name: read_values(schema, name, column.take(pa.array(rows)), cells=cells)
            for name, column in given.items()
        }
        found = problems_of(schema, values)
        problems += [problem | {"row": int(rows[problem["row"]])} for problem in found]
        fine = np.ones(len(rows), dtype=bool)
        fine[[problem["row"] for problem in found]] = False
        good[rows] = fine
        for name, column in values.items():
            missing, kind = ("", object) if name in schema.categories else (np.nan, np.float64)
            kept = [missing if column[row] is None else column[row] for row in np.flatnonzero(fine)]
            columns[name][rows[fine]] = np.array(kept, dtype=kind)
    return Checked(columns, good, problems)


def plain(column: pa.Array, feature: Feature) -> pa.Array:
    """Bring a column into one of a few types that hold the same values."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if feature.kind == "number" and is_number(column.type):
        # an integer beyond 2**53 becomes the float next to it, as it does in a record
        return column.cast(pa.float64(), safe=False)
    return column.cast(pa.string()) if is_text(column.type) else column


def check_column(
    column: pa.Array, feature: Feature, missing: pa.Array | None
) -> tuple[np.ndarray, np.ndarray]:
    """Read a feature's values, and say which of them certainly fit.

    Args:
        column: The values.
        feature: What they must be.
        missing: The cells that stand for a missing value; None if the values are no cells.

    Returns:
        Both of shape (rows,).
    """
    if feature.kind == "number":
        return check_numbers(column, feature, missing)
    return check_categories(column, missing)


def check_numbers(
    column: pa.Array, feature: Number, missing: pa.Array | None
) -> tuple[np.ndarray, np.ndarray]:
    """Check a column of numbers; see check_column."""
    absent = column.is_null()
    if missing is not None:
        text = pc.ascii_trim_whitespace(column)
        text = pc.if_else(pc.is_in(text, missing), None, text)
        absent = text.is_null()
        try:
            column = text.cast(pa.float64())
        except pa.ArrowInvalid:
            looks_right = pc.match_substring_regex(text, PLAIN_NUMBER)
            column = pc.if_else(looks_right, text, None).cast(pa.float64())
    if column.type != pa.float64():
        # text or truth values where numbers belong
        return np.full(len(column), np.nan), as_array(absent)
    values, fits = as_array(column), as_array(absent)
    if missing is None:
        fits |= np.isnan(values)
    low, high = feature.range or (-MAX_NUMBER, MAX_NUMBER)
    return values, fits | ((low <= values) & (values <= high))


def check_categories(column: pa.Array, missing: pa.Array | None) -> tuple[np.ndarray, np.ndarray]:
    """Check a column of categories; see check_column."""
    absent = column.is_null()
    if column.type != pa.string():
        return np.full(len(column), "", dtype=object), as_array(absent)
    text = column.fill_null("")
    if missing is not None:
        text = pc.utf8_trim_whitespace(text)
        absent = pc.is_in(text, missing)
        text = pc.if_else(absent, "", text)
    length = as_array(pc.utf8_length(text))
    # one object for each text that occurs, not one a row
    coded = text.dictionary_encode()
    values = as_array(coded.dictionary)[as_array(coded.indices)]
    return values, as_array(absent) | ((length >= 1) & (length <= MAX_TEXT))


def as_array(column: pa.Array) -> np.ndarray:
    """Copy a column into an array that can be written to; a missing number becomes NaN."""
    return np.array(column.to_numpy(zero_copy_only=False))


def read_values(schema: Schema, name: str, column: pa.Array, *, cells: bool) -> list[Any]:
    """Turn a feature's column into what a record holds, with None for missing."""
    values = column.to_pylist()
    if not cells:
        # only NaN is not itself
        return [value if value == value else None for value in values]  # noqa: PLR0124
    return [read_cell(schema, name, value or "") for value in values]


def problems_of(schema: Schema, values: dict[str, list[Any]]) -> list[Problem]:
    """Return what the service's check says of rows, given by column."""
    records = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    try:
        schema.check(records)
    except InvalidRecordsError as error:
        return error.problems
    return []


def is_number(kind: pa.DataType) -> bool:
    """Whether the values of a type are numbers, if any."""
    of = pa.types
    return of.is_integer(kind) or of.is_floating(kind) or of.is_decimal(kind) or of.is_null(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether the values of a type are text, if any."""
    of = pa.types
    return of.is_string(kind) or of.is_large_string(kind) or of.is_null(kind)


def is_scalar(kind: pa.DataType) -> bool:
    """Whether a record could hold the values of a type."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return is_number(kind) or is_text(kind) or pa.types.is_boolean(kind)
