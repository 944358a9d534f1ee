"""CSV and Parquet files of any size, read and written a piece at a time."""

import codecs
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from inference.errors import DatasetError
from inference.schema import MAX_TEXT

# Bytes of a file that one piece comes from; a row of a CSV file cannot be longer.
BLOCK = 1 << 20
# Rows of one piece of a Parquet file, at most; more of them would not make a row quicker.
ROWS = 1 << 16
# A cell in quotes, from where a cell may begin; without `end`, it does not end as a cell must.
QUOTED = re.compile(rb'"(?<![^,\r\n]")[^"]*(?:""[^"]*)*(?P<end>"(?=[,\r\n]|\Z))?')
# What may stand before a quote that opens, and after one that closes; a quote in a cell is two.
BESIDE_QUOTE = np.isin(np.arange(256), list(b',"\r\n'))
QUOTE, LINE_FEED, CARRIAGE_RETURN = b'"\n\r'
MARKS = (b",", b'"', b"\r", b"\n")

# Arrow's own handlers lose some signals: Ctrl-C and SIGTERM would then not end the process.
pa.enable_signal_handlers(False)  # noqa: FBT003 - it takes no name


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that follow one another in a file.

    Attributes:
        table: The rows.
        numbers: The number of each in the file, from 0; shape (rows,).
        ragged: What is wrong with rows among these that do not have one cell a column: row,
            value, expected.
        done: Share of the file that was read so far, from 0 to 1.
        cells: Whether the values are cells of a CSV file: text, and null where there is none.
    """

    table: pa.RecordBatch
    numbers: np.ndarray
    ragged: list[dict[str, Any]]
    done: float
    cells: bool


class Rows(Protocol):
    """A file's rows: the columns at once, and the pieces as often as they are iterated over."""

    schema: pa.Schema

    def __iter__(self) -> Iterator[Piece]:
        """Read the file.

        Raises:
            DatasetError: It is damaged.
        """
        ...


class CsvRows:
    """A CSV file in UTF-8, separated by commas; every cell is text, an empty one is null.

    It is read as the service reads CSV: strictly. Blank lines are no rows.

    Raises:
        DatasetError: There is no such file, or it has no header.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        first = next(csv_blocks(path), None)
        if first is None:
            raise DatasetError(f"{path}: the file holds no rows")
        names = parse_csv(first[0], None, []).schema.names
        self.schema = pa.schema([(name, pa.string()) for name in names])

    def __iter__(self) -> Iterator[Piece]:
        """Read the file; see Rows."""
        start = -1  # the header
        for text, done in csv_blocks(self._path):
            ragged: list[dict[str, Any]] = []
            rows = parse_csv(text, self.schema.names, ragged)
            size = rows.num_rows + len(ragged)
            others = np.array([problem["row"] for problem in ragged], np.int64)
            numbers = np.delete(np.arange(start, start + size), others)
            ragged = [problem | {"row": start + problem["row"]} for problem in ragged]
            # the header is a row like any other, but for this
            header = 1 if start < 0 else 0
            table = pa.RecordBatch.from_arrays(
                [column.combine_chunks() for column in rows.slice(header).columns],
                schema=self.schema,
            )
            yield Piece(table, numbers[header:], ragged, done, cells=True)
            start += size


def parse_csv(text: bytes, names: list[str] | None, ragged: list[dict[str, Any]]) -> pa.Table:
    """Read whole rows of a CSV file.

    Args:
        text: The rows.
        names: Of the columns; where there are none, the first row names them.
        ragged: Takes what is wrong with rows that do not have one cell a column.
    """

    def skip(row: pa.csv.InvalidRow) -> str:
        expected = f"{row.expected_columns} values, one a column, not {row.actual_columns}"
        problem = {"row": row.number - 1, "value": row.text[:MAX_TEXT]}
        ragged.append(problem | {"expected": f"expected {expected}"})
        return "skip"

    return pa.csv.read_csv(
        pa.BufferReader(text),
        # with threads, a row that is skipped has no number
        pa.csv.ReadOptions(block_size=len(text) + 1, use_threads=False, column_names=names),
        pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names or [], pa.string()),
            check_utf8=False,  # csv_blocks did
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


def csv_blocks(path: Path) -> Iterator[tuple[bytes, float]]:
    """Cut a CSV file into blocks of whole rows, and refuse in it what Arrow would overlook.

    Yields:
        Rows, and the share of the file that was read so far.

    Raises:
        DatasetError: The file cannot be read, is not UTF-8, has stray quotes, or too long a row.
    """
    line, text, last = 1, b"", False
    with explained(path, "CSV in UTF-8"), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while not last:
            block = file.read(BLOCK)
            last = not block
            # the line end of the last row may be left out
            text += b"\n" if last and text else block
            try:
                rows = text[: end_of_rows(text)]
                rows.decode()
            except (UnicodeDecodeError, StrayQuoteError) as error:
                line += text.count(b"\n", 0, error.start)
                raise DatasetError(
                    f"{path}: line {line}: {error.reason}; the file must be CSV in UTF-8"
                ) from error
            line += np.count_nonzero(np.frombuffer(rows, np.uint8) == LINE_FEED)
            text = text[len(rows) :]
            if text and (last or len(text) > BLOCK):
                raise DatasetError(
                    f"{path}: line {line}: a quote is never closed, or a row longer than"
                    f" {BLOCK:,} bytes"
                )
            # Arrow wants at least one row
            if rows.strip(b"\r\n"):
                yield rows, file.tell() / size


class StrayQuoteError(Exception):
    """Text follows the closing quote of a cell.

    Attributes:
        start: Where the cell begins.
    """

    reason = "text follows the closing quote of a cell"

    def __init__(self, start: int) -> None:
        self.start = start


def end_of_rows(text: bytes) -> int:
    """Return where the last whole row of a text ends that begins with a row.

    Raises:
        StrayQuoteError: A strict reader of CSV would stop.
    """
    content = np.frombuffer(b"\n%b\n" % text, np.uint8)
    quotes = np.flatnonzero(content == QUOTE)
    opening, closing = quotes[::2], quotes[1::2]
    opened_well = BESIDE_QUOTE[content[opening - 1]].all()
    if opened_well and BESIDE_QUOTE[content[closing + 1]].all():
        # a line end after an odd number of quotes lies in a cell
        last = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        if np.searchsorted(quotes, last) % 2 == 0:
            return last
        ends = np.flatnonzero((content == LINE_FEED) | (content == CARRIAGE_RETURN))[:-1]
        return int(ends[np.searchsorted(quotes, ends) % 2 == 0][-1])

    # a fault, or quotes in cells that do not begin with one: cell by cell, in ten times the time
    def without_line_ends(cell: re.Match[bytes]) -> bytes:
        if cell["end"] is None and cell.end() < len(text):
            raise StrayQuoteError(cell.start())
        return b"." * len(cell[0])

    outside = QUOTED.sub(without_line_ends, text)
    return max(outside.rfind(b"\n"), outside.rfind(b"\r")) + 1


class ParquetRows:
    """A Parquet file.

    Raises:
        DatasetError: There is no such file, or it is no Parquet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path, "Parquet"), pa.parquet.ParquetFile(path) as file:
            self.schema = pa.schema(
                map(without_view, file.schema_arrow), file.schema_arrow.metadata
            )
            # Arrow cannot choose rows of every type, and should say so before any work is done
            pa.RecordBatch.from_pylist([], self.schema).filter(pa.array([], pa.bool_()))

    def __iter__(self) -> Iterator[Piece]:
        """Read the file; see Rows."""
        # what is read ahead is never given back; without a buffer, a column comes whole
        how = {"pre_buffer": False, "buffer_size": BLOCK}
        with explained(self._path, "Parquet"), pa.parquet.ParquetFile(self._path, **how) as file:
            meta = file.metadata
            total = sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups))
            # as many rows as a block holds on average, since one may hold whole documents
            rows = min(ROWS, 1 + BLOCK * meta.num_rows // max(total, 1))
            start = 0
            for table in file.iter_batches(rows):
                # text that is not UTF-8 would fail later, and elsewhere
                table.validate(full=True)
                numbers = np.arange(start, start + table.num_rows)
                start += table.num_rows
                yield Piece(
                    table.cast(self.schema), numbers, [], start / meta.num_rows, cells=False
                )


def without_view(field: pa.Field) -> pa.Field:
    """Give a column of views, from which Arrow cannot choose rows yet, the plain type."""
    if pa.types.is_string_view(field.type):
        return field.with_type(pa.large_string())
    return field.with_type(pa.large_binary()) if pa.types.is_binary_view(field.type) else field


READERS = {".csv": CsvRows, ".parquet": ParquetRows}


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn what Arrow and the system say of a file into one line of ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: there is no such file") from error
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0][:300]
        raise DatasetError(f"{path}: cannot be read as {what} ({reason})") from error


class CsvWriter:
    """Writes CSV with quotes only around the cells that need them; Arrow's own quotes all text."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        for field in schema:
            # a type that is no text fails here, before any work is done
            as_text(pa.nulls(0, field.type), field.name)
        names = [pa.array([name]) for name in schema.names]
        self.write_batch(pa.RecordBatch.from_arrays(names, names=schema.names))

    def write_batch(self, table: pa.RecordBatch) -> None:
        """Write rows.

        Raises:
            DatasetError: A column holds what CSV cannot.
        """
        cells = [
            as_text(c, name) for name, c in zip(table.schema.names, table.columns, strict=True)
        ]
        lines = pc.binary_join_element_wise(
            *map(quoted, cells), ",", null_handling="replace", null_replacement=""
        )
        _, ends, text = pc.binary_join_element_wise(lines, "", "\n").buffers()
        if len(lines):
            # the buffer may be longer than what is in it
            self._file.write(text.slice(0, np.frombuffer(ends, np.int32)[len(lines)]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the file open; nothing waits to be written."""


def as_text(column: pa.Array, name: str) -> pa.Array:
    """Turn a column into text."""
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise DatasetError(
            f"column {name!r} holds {column.type}, which CSV cannot; choose an --output that ends"
            " in .parquet"
        ) from error


def quoted(cells: pa.Array) -> pa.Array:
    """Put quotes around the cells that need them."""
    # a look at all bytes at once: most columns have none of these
    raw = cells.buffers()[2]
    content = raw.to_pybytes() if raw else b""
    if not any(mark in content for mark in MARKS):
        return cells
    doubled = pc.replace_substring(cells, '"', '""')
    inside = pc.binary_join_element_wise('"', doubled, '"', "")
    return pc.if_else(pc.match_substring_regex(cells, '[",\r\n]'), inside, cells)


WRITERS = {".csv": CsvWriter, ".parquet": pa.parquet.ParquetWriter}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write that takes the place of `path` at the end, if all goes well.

    Where nothing was written to it, `path` is removed.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    # a process of this number may have been killed
    part.unlink(missing_ok=True)
    try:
        yield part
        if part.exists():
            part.replace(path)
        else:
            path.unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)
