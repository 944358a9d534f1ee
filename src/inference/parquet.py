"""Parquet bodies into records; the only module of this room that needs pyarrow."""

import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.types as of
from pyarrow.parquet import FileMetaData, ParquetFile, read_metadata

from inference.errors import MalformedRequestError, TooLargeError
from inference.schema import Schema
from inference.wire import Records, require_few

# What a body may unpack to, by its own word.
MAX_BYTES = 50_000_000
# What pandas calls the columns of the rows' labels.
INDEX = re.compile(r"__index_level_\d+__")


def parse(body: bytes, schema: Schema, max_rows: int) -> Records:
    """Read the records of a Parquet file.

    Args:
        body: The file.
        schema: Its columns must be those of this schema.
        max_rows: More rows than this are refused.

    Returns:
        One dictionary a row; what is in it is not checked yet.

    Raises:
        MalformedRequestError: The body is not a Parquet file, or a damaged one.
        TooLargeError: There are too many rows, or too many bytes once unpacked.
        InvalidRecordsError: A column is unknown or missing, or of a type that is not read.
    """
    source = pa.py_buffer(body)
    try:
        metadata = read_metadata(pa.BufferReader(source))
        fields = [f for f in metadata.schema.to_arrow_schema() if not INDEX.fullmatch(f.name)]
        _check_columns(fields, schema)
        _check_size(metadata, max_rows)
        names = [field.name for field in fields]
        file = ParquetFile(
            pa.BufferReader(source),
            metadata=metadata,
            # Text that stands in every row is unpacked once. Arrow does so for plain and dictionary
            # encoding, and refuses those that build a text from parts of the one before.
            read_dictionary=[field.name for field in fields if _is_text(field.type)],
            page_checksum_verification=True,
        )
        table = file.read(columns=names, use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise MalformedRequestError(
            "the body is not Parquet, is damaged, or has an encoding that is not read"
        ) from error
    if table.num_rows != metadata.num_rows:
        raise MalformedRequestError("the Parquet file does not hold the rows that it announces")
    rows = zip(*(_values(table.column(name)) for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _check_columns(fields: list[pa.Field], schema: Schema) -> None:
    names = {field.name for field in fields}
    if len(names) != len(fields):
        raise MalformedRequestError("the file names a column twice")
    # one column too many is enough to refuse them; see wire.parse
    few = fields[: len(schema.features) + 1]
    # a row without values, or with a type where it is none whose values could fit
    schema.check([{field.name: None if _is_plain(field.type) else field.type for field in few}])


def _check_size(metadata: FileMetaData, max_rows: int) -> None:
    require_few(metadata.num_rows, max_rows)
    # nothing is asked about single columns: pyarrow ends the process where that is damaged
    groups = (metadata.row_group(place) for place in range(metadata.num_row_groups))
    if sum(group.total_byte_size for group in groups) > MAX_BYTES:
        raise TooLargeError(f"the file unpacks to more than {MAX_BYTES} bytes")


def _is_plain(kind: pa.DataType) -> bool:
    tests = (of.is_integer, of.is_floating, of.is_boolean, of.is_null, _is_text)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    if of.is_dictionary(kind):
        kind = kind.value_type
    return any(test(kind) for test in (of.is_string, of.is_large_string, of.is_string_view))


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    """Yield a column's values, with None for what is missing."""
    for chunk in column.chunks:
        if of.is_dictionary(chunk.type):
            texts = chunk.dictionary.to_pylist()
            for place in chunk.indices.to_pylist():
                yield None if place is None else texts[place]
        else:
            for value in chunk.to_pylist():
                # only NaN is not itself
                yield value if value == value else None  # noqa: PLR0124
