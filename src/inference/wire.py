"""Request bodies into records: the formats that MLflow's scoring server reads."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from inference.errors import MalformedRequestError, TooLargeError, UnsupportedFormatError
from inference.schema import Schema

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FORMATS = ("inputs", "instances", "dataframe_records", "dataframe_split")

# What pandas calls the column of the rows' labels, which comes first.
CSV_INDEX = ""

Records = list[dict[str, Any]]


def parse(body: bytes, content_type: str, schema: Schema, max_rows: int) -> Records:
    """Read the records of a request.

    Args:
        body: The request's body.
        content_type: The request's Content-Type header.
        schema: Tells how the cells of a CSV body are read, and which columns a Parquet body may
            have.
        max_rows: More rows than this are refused.

    Returns:
        One dictionary a row; what is in it is not checked yet.

    Raises:
        UnsupportedFormatError: The content type or charset is not one of those read.
        MalformedRequestError: The body is not in the format that it claims.
        TooLargeError: There are too many rows.
        InvalidRecordsError: The columns of a Parquet body are not the schema's.
    """
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    charset = parameters.strip().lower()
    if charset and charset.replace('"', "") not in ("charset=utf-8", "charset=utf8"):
        raise UnsupportedFormatError("only charset=utf-8 is read")
    # A record of more columns than there are does not fit. As all that is wrong with it is listed,
    # its first columns must do: a small body can hold millions.
    most = len(schema.features) + 1
    if kind == JSON:
        records = _from_json(body, most, max_rows)
    elif kind == CSV:
        records = _from_csv(body, schema, most, max_rows)
    elif kind == PARQUET:
        records = _from_parquet(body, schema, max_rows)
    else:
        raise UnsupportedFormatError(f"Content-Type must be {JSON}, {CSV} or {PARQUET}")
    if not records:
        raise MalformedRequestError("the request holds no rows")
    return records


def require_few(rows: int, max_rows: int) -> None:
    """Stop at too many rows, best before they are unpacked.

    Raises:
        TooLargeError: There are more than `max_rows`.
    """
    if rows > max_rows:
        raise TooLargeError(f"{rows} rows; at most {max_rows} fit into one request")


def _from_json(body: bytes, most: int, max_rows: int) -> Records:
    try:
        document = orjson.loads(body.removeprefix(BYTE_ORDER_MARK))
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
    name, content = given[0], document[given[0]]
    if name == "dataframe_split":
        return _from_split(content, most, max_rows)
    if isinstance(content, list):
        require_few(len(content), max_rows)
        return [_cut(record, most) for record in content]
    if name == "dataframe_records":
        raise MalformedRequestError(f"{name} must be a list of records")
    return _from_columns(_cut(content, most), name, max_rows)


def _cut(record: Any, most: int) -> Any:  # noqa: ANN401 - not checked yet
    if isinstance(record, dict) and len(record) > most:
        return dict(islice(record.items(), most))
    return record


def _from_split(content: object, most: int, max_rows: int) -> Records:
    if not isinstance(content, dict) or not content.keys() <= {"columns", "data", "index"}:
        raise MalformedRequestError("dataframe_split must be an object with columns and data")
    columns, rows = content.get("columns"), content.get("data")
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise MalformedRequestError("dataframe_split.columns must be a list of names")
    if len(set(columns)) != len(columns):
        raise MalformedRequestError("dataframe_split.columns names a column twice")
    if not isinstance(rows, list):
        raise MalformedRequestError("dataframe_split.data must be a list of rows")
    index = content.get("index")
    if index is not None and not (isinstance(index, list) and len(index) == len(rows)):
        raise MalformedRequestError("dataframe_split.index must be a list of one label a row")
    require_few(len(rows), max_rows)
    for number, row in enumerate(rows):
        _require_whole(row, columns, number)
    return [dict(zip(columns[:most], row, strict=False)) for row in rows]


def _require_whole(row: object, columns: Sequence[str], number: int) -> None:
    if not isinstance(row, list) or len(row) != len(columns):
        raise MalformedRequestError(f"row {number}: expected {len(columns)} values, one a column")


def _from_columns(content: object, name: str, max_rows: int) -> Records:
    if not isinstance(content, Mapping):
        raise MalformedRequestError(f"{name} must be a list of records, or lists by column")
    if not all(isinstance(values, list) for values in content.values()):
        # one record that is not in a list
        return [dict(content)]
    lengths = {len(values) for values in content.values()}
    if len(lengths) > 1:
        raise MalformedRequestError(f"{name}: the columns differ in length")
    require_few(max(lengths, default=0), max_rows)
    return [dict(zip(content, row, strict=True)) for row in zip(*content.values(), strict=True)]


def _from_csv(body: bytes, schema: Schema, most: int, max_rows: int) -> Records:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedRequestError(f"the body is not UTF-8: {error.reason}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: Records = []
    try:
        columns = next((line for line in reader if line), [])
        if len(set(columns)) != len(columns):
            raise MalformedRequestError("the header names a column twice")
        start = 1 if columns and columns[0] == CSV_INDEX not in schema.features else 0
        kept = slice(start, start + most)
        for line in reader:
            if not line:
                continue
            _require_whole(line, columns, len(records))
            if len(records) >= max_rows:
                raise TooLargeError(f"more than {max_rows} rows in one request")
            records.append(
                {
                    name: read_cell(schema, name, cell) if name in schema.features else cell
                    for name, cell in zip(columns[kept], line[kept], strict=True)
                }
            )
    except csv.Error as error:
        raise MalformedRequestError(f"the body is not CSV: {error}") from error
    return records


def _from_parquet(body: bytes, schema: Schema, max_rows: int) -> Records:
    try:
        from inference import parquet  # noqa: PLC0415 - pyarrow takes 36 MB, and is not everywhere
    except ImportError as error:
        raise UnsupportedFormatError("Parquet is not read here: pyarrow is missing") from error
    return parquet.parse(body, schema, max_rows)


def read_cell(schema: Schema, name: str, text: str) -> float | str | None:
    """Read a feature's value from a cell of a CSV file, for training and for predictions alike."""
    text = text.strip()
    if text in schema.missing_cells[name]:
        return None
    return text if name in schema.categories else number(text)


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
