"""Scoring a file: predictions of its rows, and a side file of those that the service refuses."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from common.columns import Problem, check, is_scalar
from common.streams import READERS, WRITERS, Piece, Rows, replacing
from inference.errors import DatasetError
from inference.predictor import Predictor
from inference.schema import Schema

REJECT_COLUMNS: tuple[str, ...] = ("row", "column", "value", "expected")


@dataclass(frozen=True, slots=True)
class Files:
    """What is read, and what is written.

    Attributes:
        rows: Those of the file at `path`.
        output: Where predictions go.
        rejects: Where rows go that are not predicted.
    """

    path: Path
    rows: Rows
    output: Path
    rejects: Path


@dataclass(frozen=True, slots=True)
class Summary:
    """How many rows were predicted, and how many were not."""

    scored: int
    rejected: int


def open_files(path: Path, output: Path | None = None) -> Files:
    """Read a file's columns, and decide where predictions and rejects go.

    Args:
        path: The file to read.
        output: Where predictions go; `<stem>.predictions.<suffix>` beside the file unless given.

    Raises:
        DatasetError: A file is of a kind that is not read or written, there is no such file, it is
            damaged, or would be replaced.
    """
    output = output or path.with_name(f"{path.stem}.predictions{path.suffix}")
    rejects = output.with_name(f"{output.stem}.rejected.csv")
    for file in (path, output):
        if file.suffix.lower() not in READERS:
            raise DatasetError(f"{file}: the name must end in {' or '.join(READERS)}")
    for file in (output, rejects):
        with suppress(OSError):
            if file.samefile(path):
                raise DatasetError(f"{file}: this is the input; choose another --output")
    return Files(path, READERS[path.suffix.lower()](path), output, rejects)


def score(
    files: Files, predictor: Predictor, show: Callable[[float], object] = lambda _: None
) -> Summary:
    """Predict a file's rows.

    Predictions and rejects take the place of an earlier run's when all rows are done; where
    nothing was rejected, there is no file of rejects.

    Args:
        files: What to read and write.
        predictor: The model.
        show: Is told the share of the file that is done, from 0 to 1.

    Raises:
        DatasetError: The file is damaged, holds no rows, or not the columns that it must; or the
            predictions cannot be written.
    """
    rows = files.rows
    require_columns(predictor.schema, rows.schema, files.path)
    kinds = files.path.suffix.lower(), files.output.suffix.lower()
    typed = kinds == (".csv", ".parquet")
    results = result_schema(predictor.schema, rows.schema, typed=typed)
    scored = rejected = 0
    with writable(files.output), replacing(files.output) as part, replacing(files.rejects) as side:
        with part.open("wb") as file, WRITERS[kinds[1]](file, results) as writer:
            for piece in rows:
                table, problems = score_piece(predictor, piece, results)
                writer.write_batch(table)
                write_problems(problems, side)
                scored += table.num_rows
                rejected += len(piece.numbers) + len(piece.ragged) - table.num_rows
                show(piece.done)
        if not scored + rejected:
            raise DatasetError(f"{files.path}: the file holds no rows")
    return Summary(scored, rejected)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn what the system says of writing into one line of ours."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror or error})") from error


def require_columns(schema: Schema, table: pa.Schema, path: Path) -> None:
    """Stop unless the file has the model's columns, and none that the predictions will add.

    Raises:
        DatasetError: Names the columns.
    """
    names = table.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"{path}: the file names {', '.join(twice)} twice")
    required = [name for name, feature in schema.features.items() if feature.required]
    if lacking := [name for name in required if name not in names]:
        raise DatasetError(
            f"{path}: column {', '.join(lacking)} is missing; the file has {', '.join(names)}"
        )
    if taken := [name for name in result_columns(schema) if name in names]:
        raise DatasetError(
            f"{path}: column {', '.join(taken)} is there already; rename it, the predictions need"
            " the name"
        )
    for name, feature in schema.features.items():
        if name in names and not is_scalar(kind := table.field(name).type):
            raise DatasetError(f"{path}: column {name} holds {kind}; expected {feature.expected}")


def result_columns(schema: Schema) -> list[str]:
    """Name the columns that predictions add, as `Backend.load` does."""
    return ["prediction", "confidence", *(f"probability {name}" for name in schema.classes)]


def result_schema(schema: Schema, table: pa.Schema, *, typed: bool) -> pa.Schema:
    """Return the columns of the predictions: the input's, then what is predicted.

    Args:
        schema: The model's.
        table: The input's.
        typed: Whether what the model reads as numbers becomes numbers.
    """
    fields = [
        field.with_type(pa.float64()) if typed and field.name in schema.numbers else field
        for field in table
    ]
    prediction, *numbers = result_columns(schema)
    fields.append(pa.field(prediction, pa.string()))
    fields += [pa.field(name, pa.float64()) for name in numbers]
    return pa.schema(fields, table.metadata)


def score_piece(
    predictor: Predictor, piece: Piece, results: pa.Schema
) -> tuple[pa.RecordBatch, list[Problem]]:
    """Predict the rows of a piece.

    Returns:
        The good rows, in the columns of `results`, and the problems of the others, by row.
    """
    schema, table = predictor.schema, piece.table
    checked = check(schema, table, cells=piece.cells)
    good = checked.good
    raw = np.zeros((0, len(schema.classes)))
    if good.any():
        columns = {
            name: values[good].astype(object if name in schema.categories else np.float32)
            for name, values in checked.columns.items()
        }
        raw = predictor.engine.probabilities({n: c.reshape(-1, 1) for n, c in columns.items()})
    finite = np.isfinite(raw).all(axis=1)
    reason = "the model's probabilities are no finite numbers"
    problems = checked.problems + [
        {"row": row, "expected": reason} for row in np.flatnonzero(good)[~finite]
    ]
    problems = [problem | {"row": int(piece.numbers[problem["row"]])} for problem in problems]
    good[good] = finite

    raw = raw[finite].astype(np.float64)
    best = raw.argmax(axis=1)
    # as many digits as the service answers
    rounded = np.round(raw, 7)
    arrays = [
        column
        if column.type == field.type
        else pa.array(checked.columns[field.name][good], from_pandas=True)
        for column, field in zip(table.filter(pa.array(good)).columns, results, strict=False)
    ]
    arrays.append(pa.array(schema.classes).take(pa.array(best)))
    arrays.append(pa.array(rounded[np.arange(len(best)), best]))
    arrays += [pa.array(column) for column in rounded.T]
    problems = sorted([*piece.ragged, *problems], key=lambda problem: problem["row"])
    return pa.RecordBatch.from_arrays(arrays, schema=results), problems


def write_problems(problems: list[Problem], path: Path) -> None:
    """Append problems to a CSV file, which is made for the first."""
    if not problems:
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        # all text in quotes: by itself, the writer leaves a lone carriage return without
        how = {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n"}
        writer = csv.DictWriter(file, REJECT_COLUMNS, restval="", **how)
        if not file.tell():
            writer.writeheader()
        writer.writerows(problems)
