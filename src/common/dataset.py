"""Reading and cleaning the table."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from common import ROOT
from common.remote import PROFILE, is_remote, missing_table
from inference.errors import DatasetError, InvalidRecordsError
from inference.wire import read_cell

if TYPE_CHECKING:
    import pandas as pd

    from common.settings import DatasetSettings

SHUFFLE_SEED = 42
SHOWN_REJECTS = 5
S3 = "s3://"


@dataclass(frozen=True)
class Table:
    """A table that was read and cleaned.

    Attributes:
        rows: One column a feature, in the schema's order and types, then the target. Missing
            numbers are NaN, missing categories None. The index holds line numbers of the file.
        rejected: Rows that could not be used: line number and reason.
        hash: SHA-256 of the file.
        path: Where it was read: an absolute path, or s3://bucket/key.
    """

    rows: pd.DataFrame
    target: str
    rejected: tuple[tuple[int, str], ...]
    hash: str
    path: str

    def shuffled(self, seed: int) -> Table:
        """Return the table with its rows in another order."""
        return replace(self, rows=self.rows.sample(frac=1, random_state=seed))


def read_table(settings: DatasetSettings, path: str | Path | None = None) -> Table:
    """Read the CSV file and keep the rows that fit the schema.

    Args:
        settings: Describe the table.
        path: Read this file, or this s3://bucket/key, instead of the configured one.

    Raises:
        DatasetError: The file is missing, cannot be had from S3, is empty, or not such a table,
            or too many of its rows cannot be used.
    """
    import pandas as pd  # noqa: PLC0415 - a second that only steps which read a table pay

    path = str(path or settings.path)
    if not path.startswith(S3):
        path = str(ROOT / path)
    lines, digest = read_lines(path)
    (_, header), *body = lines
    require_columns(settings, header, path)

    records, targets, positions, rejected = [], [], [], []
    for position, line in body:
        if len(line) != len(header):
            rejected.append((position, f"{len(line)} values instead of {len(header)}"))
            continue
        cells = dict(zip(header, line, strict=True))
        target = cells[settings.target].strip()
        if target not in settings.classes:
            missing = {"", *settings.placeholders}
            shown = "is missing" if target in missing else f"{target!r} is not a known class"
            rejected.append((position, f"{settings.target} {shown}"))
            continue
        records.append({name: read_cell(settings, name, cells[name]) for name in settings.features})
        targets.append(target)
        positions.append(position)

    bad = row_problems(settings, records)
    rejected += [(positions[row], text) for row, text in bad.items()]
    rejected.sort()
    if len(rejected) > settings.max_rejected * len(body):
        shown = "; ".join(f"line {line}: {text}" for line, text in rejected[:SHOWN_REJECTS])
        raise DatasetError(
            f"{path}: {len(rejected)} of {len(body)} rows cannot be used, more than the share of"
            f" {settings.max_rejected:g} that dataset.max_rejected allows ({shown})"
        )
    good = [row for row in range(len(records)) if row not in bad]
    rows = pd.DataFrame(
        {
            name: pd.Series(
                [records[row][name] for row in good],
                index=[positions[row] for row in good],
                dtype=float if feature.kind == "number" else object,
            )
            for name, feature in settings.features.items()
        }
    )
    rows[settings.target] = [targets[row] for row in good]
    return Table(rows, settings.target, tuple(rejected), digest, path)


def read_lines(path: str) -> tuple[list[tuple[int, list[str]]], str]:
    """Read a CSV file into its rows of cells, each with the line it starts in, and hash it."""
    lines, start = [], 1
    try:
        content = read_object(path) if path.startswith(S3) else Path(path).read_bytes()
        # newline="": only CSV's own line ends are any, and those in quotes stay as they are
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        for cells in reader:
            # a blank line has none
            if cells:
                lines.append((start, cells))
            start = reader.line_num + 1
    except FileNotFoundError as error:
        if is_remote():
            raise DatasetError(missing_table(path)) from error
        raise DatasetError(f"{path}: there is no such file; set dataset.path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
    if len(lines) < 2:  # noqa: PLR2004 - a header and a row
        raise DatasetError(f"{path}: the file holds no rows")
    return lines, hashlib.sha256(content).hexdigest()


def read_object(uri: str) -> bytes:
    """Read an object from S3, with the credentials and under the role that the environment names.

    Raises:
        DatasetError: It is not there, or cannot be had.
    """
    from inference.aws import client, explained  # noqa: PLC0415 - only tables in S3 need it

    bucket, _, key = uri.removeprefix(S3).partition("/")
    if not (bucket and key):
        raise DatasetError(f"{uri}: expected s3://bucket/key; set dataset.path")
    s3 = client("s3", os.environ.get("AWS_REGION"), os.environ.get("AWS_ROLE"))
    with explained("s3:GetObject", uri, DatasetError):
        try:
            return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey as error:
            raise DatasetError(f"{uri}: there is no such object; set dataset.path") from error


def require_columns(settings: DatasetSettings, header: list[str], path: str) -> None:
    """Stop unless the header names the target and every feature once."""
    require_column_names(header, path)
    lacking = [name for name in (settings.target, *settings.features) if name not in header]
    if lacking:
        raise DatasetError(
            f"{path}: column {', '.join(lacking)} is missing; the file has {', '.join(header)}"
        )


def require_column_names(header: list[str], path: str) -> None:
    """Stop unless the header has several columns, each with a name of its own."""
    if len(header) == 1:
        other = next((mark for mark in ";\t|" if mark in header[0]), None)
        found = f"; it looks as if {other!r} separates them" if other else ""
        raise DatasetError(f"{path}: one column only, so the delimiter is not ','{found}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: the header names {', '.join(twice)} twice")


def row_problems(settings: DatasetSettings, records: list[dict]) -> dict[int, str]:
    """Return what is wrong with each bad row, by its position in `records`."""
    try:
        settings.check(records)
    except InvalidRecordsError as error:
        found: dict[int, str] = {}
        for problem in error.problems:
            text = f"{problem['column']}: {problem['expected']}, not {problem.get('value')!r}"
            found.setdefault(problem["row"], text)
        return found
    return {}


def is_production() -> bool:
    """Whether this run was started under the Metaflow profile `production`."""
    return "production" in (os.environ.get("METAFLOW_PROFILE"), os.environ.get(PROFILE))


def shuffle_seed() -> int:
    """Return the seed to shuffle with: always the same in development, fresh in production."""
    return int.from_bytes(os.urandom(4)) if is_production() else SHUFFLE_SEED


def require_rows_per_class(settings: DatasetSettings, rows: pd.DataFrame, folds: int) -> None:
    """Stop unless every class has a row for each fold.

    Raises:
        DatasetError: A class has too few rows.
    """
    counts = rows[settings.target].value_counts()
    for name in settings.classes:
        if (count := int(counts.get(name, 0))) < folds:
            raise DatasetError(
                f"class {name!r} has {count} rows, too few for {folds} folds; add rows, use fewer"
                " --folds, or remove the class from dataset.classes"
            )
