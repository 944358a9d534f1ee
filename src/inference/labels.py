"""Ground truth that a person brings: a CSV file with ids and labels, and what is wrong with it."""

import csv
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from inference.errors import BackendError

SHOWN = 5


def require_one_source(quality: float | None, file: Path | None) -> None:
    """Stop unless labels are either simulated or read, and as the one or the other allows.

    Raises:
        BackendError: Both or none is given, or the quality is no share.
    """
    if (quality is None) == (file is None):
        raise BackendError("label takes either a quality to simulate or a file with labels")
    if quality is not None and not 0 <= quality <= 1:
        raise BackendError(f"ground-truth quality must be from 0 to 1, not {quality:g}")


def read_label_file(file: Path) -> list[tuple[str, str]]:
    """Read (id, label) pairs from a CSV file with these two columns.

    Raises:
        BackendError: The file cannot be read, or has other columns.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source, strict=True)
            if not {"id", "label"} <= set(reader.fieldnames or []):
                raise BackendError(f"{file}: expected the columns id,label")
            labels = []
            for row in reader:
                if not row["id"] or not row["label"]:
                    raise BackendError(f"{file}, line {reader.line_num}: id or label is empty")
                labels.append((row["id"], row["label"]))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BackendError(f"{file}: cannot be read ({error})") from error
    return labels


def refuse(unknown: Collection[str], misspelt: Collection[str], count: int) -> None:
    """Stop if some labels do not fit, before any is stored.

    Args:
        unknown: Ids that were never captured.
        misspelt: Labels, each with its id, that are no class of the model that answered.
        count: How many labels there are.

    Raises:
        BackendError: There are some; the message names the first few.
    """
    if unknown:
        raise BackendError(
            f"{len(unknown)} of {count} ids were never captured: {first_of(unknown)};"
            " nothing was labelled. Take ids from the answers' request ids: <request id>-<row>"
        )
    if misspelt:
        raise BackendError(
            f"{len(misspelt)} of {count} labels are no class of the model that answered:"
            f" {first_of(misspelt)}; nothing was labelled"
        )


def first_of(names: Collection[str]) -> str:
    """Return the first few names, and whether there are more."""
    return ", ".join(islice(names, SHOWN)) + (", …" if len(names) > SHOWN else "")
