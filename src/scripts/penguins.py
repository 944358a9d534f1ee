"""Make data/penguins.csv from the raw table of the palmerpenguins package.

The table comes from Gorman, Williams & Fraser (2014), https://doi.org/10.1371/journal.pone.0090081.
The package is no dependency of the project: `just data` adds it for this one command.
"""

import csv
import io
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from inference.errors import DatasetError

PACKAGE = "palmerpenguins"
RAW_TABLE = "palmerpenguins/data/penguins-raw.csv"
TARGET = Path(__file__).resolve().parents[2] / "data" / "penguins.csv"

# name in our table: name in the raw table
COLUMNS = {
    "species": "Species",
    "island": "Island",
    "culmen_length_mm": "Culmen Length (mm)",
    "culmen_depth_mm": "Culmen Depth (mm)",
    "flipper_length_mm": "Flipper Length (mm)",
    "body_mass_g": "Body Mass (g)",
    "sex": "Sex",
}
ROWS = 344
# how the raw table, written by R, marks a missing value
MISSING = "NA"

Row = dict[str, str]


def read_raw_table() -> list[Row]:
    """Read the raw table out of the installed package, which need not be imported for it.

    Raises:
        DatasetError: The package is not installed, or holds no raw table.
    """
    try:
        path = Path(str(distribution(PACKAGE).locate_file(RAW_TABLE)))
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except PackageNotFoundError as error:
        raise DatasetError(f"the package {PACKAGE} is not installed: run `just data`") from error
    except OSError as error:
        raise DatasetError(f"{PACKAGE} holds no raw table: {error}") from error


def tidy(raw: Mapping[str, str]) -> Row:
    """Keep our columns of one raw row, with the species' short name and missing values empty."""
    row = {ours: "" if raw[theirs] == MISSING else raw[theirs] for ours, theirs in COLUMNS.items()}
    # "Adelie Penguin (Pygoscelis adeliae)" -> "Adelie"
    row["species"] = row["species"].split(" ", maxsplit=1)[0]
    for name in COLUMNS:
        if name.endswith(("_mm", "_g")):
            row[name] = row[name].removesuffix(".0")
    return row


def make_table(raw: Iterable[Mapping[str, str]]) -> list[Row]:
    """Make our table from the raw one, in the same order.

    Raises:
        DatasetError: The raw table lacks a column or has another number of rows.
    """
    try:
        table = [tidy(row) for row in raw]
    except KeyError as error:
        raise DatasetError(f"the raw table has no column {error}") from error
    if len(table) != ROWS:
        raise DatasetError(f"the raw table has {len(table)} rows instead of {ROWS}")
    return table


def write_table(table: Iterable[Row], path: Path) -> None:
    """Write the table as CSV; a reader sees the old file or the new one, never a part."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_text(text.getvalue(), encoding="utf-8", newline="")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def main() -> None:
    """Make the table and say where it is."""
    try:
        write_table(make_table(read_raw_table()), TARGET)
    except DatasetError as error:
        sys.exit(f"penguins: {error}")
    print(f"{TARGET}: {ROWS} rows of {PACKAGE} {distribution(PACKAGE).version}")


if __name__ == "__main__":
    main()
