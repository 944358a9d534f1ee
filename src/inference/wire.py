"""Request bodies into records: the formats that MLflow's scoring server reads."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from inference.errors import MalformedRequestError, TooLargeError, UnsupportedFormatError
from inference.schema import Schema

JSON = "application/json"
CSV = "text/csv"
FORMATS = ("inputs", "instances", "dataframe_records", "dataframe_split")

Records = list[dict[str, Any]]


def parse(body: bytes, content_type: str, schema: Schema, max_rows: int) -> Records:
    """Read the records of a request.

    Args:
        body: The request's body.
        content_type: The request's Content-Type header.
        schema: Tells which columns of a CSV body are numbers.
        max_rows: More rows than this are refused.

    Returns:
        One dictionary a row; what is in it is not checked yet.

    Raises:
        UnsupportedFormatError: The content type or charset is not one of those read.
        MalformedRequestError: The body is not in the format that it claims.
        TooLargeError: There are too many rows.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    charset = parameters.strip().lower()
    if charset and charset.replace('"', "") not in ("charset=utf-8", "charset=utf8"):
        raise UnsupportedFormatError("only charset=utf-8 is read")
    if kind == JSON:
        records = _from_json(body)
    elif kind == CSV:
        records = _from_csv(body, schema, max_rows)
    else:
        raise UnsupportedFormatError(f"Content-Type must be {JSON} or {CSV}")
    if len(records) > max_rows:
        raise TooLargeError(f"{len(records)} rows; at most {max_rows} fit into one request")
    if not records:
        raise MalformedRequestError("the request holds no rows")
    return records


def _from_json(body: bytes) -> Records:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedRequestError(f"expected a JSON object with one of {', '.join(FORMATS)}")
    given = [name for name in FORMATS if name in document]
    others = document.keys() - {*FORMATS, "params"}
    if len(given) != 1 or others:
        raise MalformedRequestError(
            f"expected exactly one of {', '.join(FORMATS)}"
            + (f"; unknown: {', '.join(sorted(others))[:200]}" if others else "")
        )
    content = document[given[0]]
    if given[0] == "dataframe_split":
        return _from_split(content)
    if given[0] == "dataframe_records" or isinstance(content, list):
        if not isinstance(content, list):
            raise MalformedRequestError(f"{given[0]} must be a list of records")
        return content
    return _from_columns(content, given[0])


def _from_split(content: object) -> Records:
    if not isinstance(content, dict) or not content.keys() <= {"columns", "data", "index"}:
        raise MalformedRequestError("dataframe_split must be an object with columns and data")
    columns, rows = content.get("columns"), content.get("data")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise MalformedRequestError("dataframe_split.columns must be a list of names")
    if len(set(columns)) != len(columns):
        raise MalformedRequestError("dataframe_split.columns names a column twice")
    if not isinstance(rows, list):
        raise MalformedRequestError("dataframe_split.data must be a list of rows")
    return [_row(columns, row, number) for number, row in enumerate(rows)]


def _row(columns: Sequence[str], row: object, number: int) -> dict[str, Any]:
    if not isinstance(row, list) or len(row) != len(columns):
        raise MalformedRequestError(f"row {number}: expected {len(columns)} values, one a column")
    return dict(zip(columns, row, strict=True))


def _from_columns(content: object, name: str) -> Records:
    if not isinstance(content, Mapping):
        raise MalformedRequestError(f"{name} must be a list of records, or lists by column")
    if not all(isinstance(values, list) for values in content.values()):
        # one record that is not in a list
        return [dict(content)]
    if len({len(values) for values in content.values()}) > 1:
        raise MalformedRequestError(f"{name}: the columns differ in length")
    return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]


def _from_csv(body: bytes, schema: Schema, max_rows: int) -> Records:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedRequestError(f"the body is not UTF-8: {error.reason}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    numbers = set(schema.numbers)
    records: Records = []
    try:
        columns = next(reader, [])
        if len(set(columns)) != len(columns):
            raise MalformedRequestError("the header names a column twice")
        for line in reader:
            if not line:
                continue
            if len(line) != len(columns):
                raise MalformedRequestError(
                    f"row {len(records)}: expected {len(columns)} values, one a column"
                )
            if len(records) >= max_rows:
                raise TooLargeError(f"more than {max_rows} rows in one request")
            records.append(
                {
                    c: number(v) if c in numbers else v or None
                    for c, v in zip(columns, line, strict=True)
                }
            )
    except csv.Error as error:
        raise MalformedRequestError(f"the body is not CSV: {error}") from error
    return records


def number(text: str) -> float | str | None:
    """Read a number from a table's cell; blank is missing, and what is no number stays text."""
    if not text.strip():
        return None
    # Python would read more than the tools that make tables: 1_000, and digits of other scripts
    if "_" in text or not text.isascii():
        return text
    try:
        return float(text)
    except ValueError:
        return text
