"""Look at a CSV file, and write the config file of a project that predicts one of its columns."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
import yaml

from common import ROOT, settings
from common.dataset import read_lines, read_table, require_column_names
from common.settings import DatasetSettings
from inference.errors import ConfigurationError, DatasetError
from inference.wire import number
from scripts.command_line import one_line_errors
from scripts.survey import Column, survey

NAME = re.compile(r"[A-Za-z0-9][\w-]*", re.ASCII)
SHIPPED = ("local", "sagemaker")
PORT = re.compile(r"127\.0\.0\.1:(\d+)")
FIRST_PORT = 8081
MAX_CLASSES = 100
# A class with fewer rows cannot be in each of the five folds.
MIN_CLASS_ROWS = 5
SMALL, LARGE = 1_000, 10_000
SHOWN = 5


def new_project(
    name: Annotated[str, typer.Argument(help="Of the project, the model and the config file.")],
    *,
    data: Annotated[Path, typer.Option(help="CSV file.")],
    target: Annotated[str, typer.Option(help="The column to predict.")],
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = ROOT / "config",
    force: Annotated[bool, typer.Option(help="Replace a file of this name.")] = False,
) -> None:
    """Look at a CSV file and write config/NAME.yml, which predicts one of its columns."""
    with one_line_errors():
        file = config_file(name, folder, force=force)
        text, notes = describe(name, data.absolute(), target, free_port(folder, file))
        # what is described is this file, not one that stands in for it
        os.environ["DATASET"] = ""
        loaded = settings.parse(text, str(file))
        table = read_table(loaded.dataset)
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{file}: cannot be written ({error.strerror})") from error
    print(f"{shown_path(file)}: {len(loaded.dataset.classes)} classes,", end=" ")
    print(
        f"{len(loaded.dataset.numbers)} numbers, {len(loaded.dataset.categories)} categories;",
        end=" ",
    )
    print(f"{len(table.rows)} rows fit, {len(table.rejected)} do not")
    for note in notes:
        print(f"  {note}")
    print(f"Look through it; then: ROOKERY_CONFIG={shown_path(file)} just train")


def config_file(name: str, folder: Path, *, force: bool) -> Path:
    """Return where the config file goes.

    Raises:
        ConfigurationError: The name cannot be one, or is taken.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is no name of a project: expected letters, digits, - and _, such as my-table"
        )
    file = folder / f"{name}.yml"
    if name in SHIPPED:
        raise ConfigurationError(f"{shown_path(file)} comes with Rookery; choose another name")
    if file.exists() and not force:
        raise ConfigurationError(f"{shown_path(file)} exists; --force replaces it")
    return file


def describe(name: str, data: Path, target: str, port: int) -> tuple[str, list[str]]:
    """Describe a table as a config file.

    Returns:
        The file's text, and what its reader should know besides.

    Raises:
        DatasetError: The file is no such table, its path cannot stand in a config file, or the
            column cannot be predicted.
    """
    path = data.relative_to(ROOT) if data.is_relative_to(ROOT) else data
    if "}" in str(path):
        raise DatasetError(
            f"{data}: a }} ends a variable of the config file; rename the file, or its folder"
        )
    lines, _ = read_lines(str(data))
    (_, header), *body = lines
    require_column_names(header, str(data))
    if target not in header:
        raise DatasetError(f"{data}: there is no column {target!r}; it has {', '.join(header)}")
    missing = set(DatasetSettings.model_fields["placeholders"].default)
    whole = [line for _, line in body if len(line) == len(header)]
    cells = {
        column: [cell for line in whole if (cell := line[place].strip()) not in missing]
        for place, column in enumerate(header)
    }
    if not cells[target]:
        raise DatasetError(f"{data}: column {target!r} is empty in every row of full length")
    counts = Counter(cells[target])
    classes, rare = find_classes(target, counts, str(data))
    columns = [survey(column, cells[column]) for column in header if column != target]
    used = [column for column in columns if column.kind]
    if not used:
        raise DatasetError(f"{data}: no column can be predicted from; {reasons(columns)}")
    notes = [f"left out: {one.name}, {one.note}" for one in columns if not one.kind]
    notes += [f"left out: {count} rows of class {one!r}, too few" for one, count in rare.items()]
    default = one_line(f"${{DATASET:-{escaped(str(path))}}}")
    rows = sum(counts[one] for one in classes)
    lost = 1 - rows / len(body)
    text = "\n".join(
        [
            comment(f"Written from {path.name}. Look at every line: what a column stands for is"),
            "# not to be seen from its cells. All options: docs/reference/settings.md",
            f"project: {name}",
            "",
            "dataset:",
            f"  path: {default}",
            f"  target: {scalar(target)}",
            f"  {comment(', '.join(f'{one}: {counts[one]}' for one in classes))}",
            f"  classes: {sequence(classes)}",
            *rejected_lines(used, cells, lost),
            "  features:",
            "    # Ranges are hard limits: a number outside them is refused, not predicted.",
            *(line for column in columns for line in feature_lines(column)),
            "",
            "mlflow_tracking_uri: ${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}",
            "",
            "# of its own, so that its rows do not mix with those of other projects",
            "backend:",
            "  module: backend.Local",
            f"  database: ${{ROOKERY_STATE:-.rookery}}/{name}/captured.db",
            f"  serving: ${{ROOKERY_STATE:-.rookery}}/{name}/serving",
            f"  target: ${{ENDPOINT_URL:-http://127.0.0.1:{port}}}",
            "",
            *training_lines(rows, max(counts[one] for one in classes) / rows),
        ]
    )
    return text + "\n", notes


def find_classes(target: str, counts: Counter[str], path: str) -> tuple[list[str], dict[str, int]]:
    """Return the classes, and those with too few rows to learn from, with their rows.

    Raises:
        DatasetError: The column is no class.
    """
    figures = [value for text in counts if isinstance(value := number(text), float)]
    if len(figures) == len(counts) and any(not value.is_integer() for value in figures):
        raise DatasetError(
            f"{path}: {target!r} holds figures, such as {next(iter(counts))}; Rookery predicts"
            " classes: make ranges of them first"
        )
    enough = sorted(text for text, count in counts.items() if count >= MIN_CLASS_ROWS)
    rare = {text: count for text, count in sorted(counts.items()) if count < MIN_CLASS_ROWS}
    if len(enough) < 2:  # noqa: PLR2004 - this or that
        raise DatasetError(
            f"{path}: {target!r} has {len(enough)} values with at least {MIN_CLASS_ROWS} rows; two"
            " classes are needed"
        )
    if len(enough) > MAX_CLASSES:
        raise DatasetError(
            f"{path}: {target!r} has {len(enough)} different values, more than {MAX_CLASSES}"
            " classes; is it the column to predict?"
        )
    return enough, rare


def reasons(columns: Sequence[Column]) -> str:
    """Say why the first few columns are left out."""
    return "; ".join(f"{column.name}: {column.note}" for column in columns[:SHOWN])


def feature_lines(column: Column) -> list[str]:
    """Return the lines of a feature, or the comment that says why it is none."""
    if not column.kind:
        return [f"    {comment(f'left out: {column.name}: {column.note}')}"]
    note = [f"    {comment(column.note)}"] if column.note else []
    if column.kind == "category":
        body = f"{{kind: category, categories: {sequence(column.categories)}}}"
    else:
        unit = f", unit: {scalar(column.unit)}" if column.unit else ""
        body = f"{{kind: number, range: [{column.low!r}, {column.high!r}]{unit}}}"
    return [*note, f"    {scalar(column.name, key=True)}: {body}"]


def rejected_lines(used: Sequence[Column], cells: dict[str, list[str]], lost: float) -> list[str]:
    """Return how many rows may be unusable, where that is more than the usual share."""
    strange = sum(
        sum(not isinstance(number(cell), float) for cell in cells[column.name])
        / max(1, len(cells[column.name]))
        for column in used
        if column.kind == "number"
    )
    usual = DatasetSettings.model_fields["max_rejected"].default
    if lost + strange <= usual:
        return []
    share = min(1.0, round(lost + strange + 0.01, 2))
    return [
        "  # so many rows have no known class, other than the usual cells, or no number for one",
        f"  max_rejected: {share}",
    ]


def training_lines(rows: int, commonest: float) -> list[str]:
    """Return how to train on a table of this size."""
    small = rows < SMALL
    epochs, patience = (50, "null") if small else (100, 5)
    size = 256 if rows >= LARGE else 32
    return [
        f"network: {{layers: [32, 16], learning_rate: {0.01 if small else 0.003}}}",
        f"# naming the most common class is right in {commonest:.0%}; ask for more than that with",
        "# accuracy_threshold once you know what a good model reaches",
        f"training: {{epochs: {epochs}, batch_size: {size}, patience: {patience}}}",
    ]


def scalar(value: str | None, *, key: bool = False) -> str:
    """Return a text as YAML writes it on one line; variables are no variables in it."""
    text = (value or "") if key else escaped(value or "")
    plain = one_line(text)
    # such as a colon or comma, which mean something within brackets
    risky = set(plain) & set(",[]{}:#&*!|>%@`") and plain[0] not in "'\""
    return f"'{plain.replace(chr(39), 2 * chr(39))}'" if risky else plain


def one_line(text: str) -> str:
    """Return a text as YAML writes it on one line outside of brackets."""
    written = yaml.safe_dump(text, allow_unicode=True, width=float("inf"))
    return written.removesuffix("...\n").strip()


def comment(text: str) -> str:
    """Return a text as a comment on one line, without what YAML does not read."""
    return "# " + "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def escaped(text: str) -> str:
    """Return a text in which $ stands for itself."""
    return text.replace("$", "$$")


def sequence(values: Iterable[str]) -> str:
    """Return texts as a YAML list on one line."""
    return f"[{', '.join(scalar(value) for value in values)}]"


def free_port(folder: Path, own: Path) -> int:
    """Return the first port that no config file names but the one that is written anew."""
    taken = {
        int(port)
        for file in folder.glob("*.yml")
        if file != own
        for port in PORT.findall(file.read_text(encoding="utf-8", errors="replace"))
    }
    return next(port for port in range(FIRST_PORT, FIRST_PORT + 1000) if port not in taken)


def shown_path(file: Path) -> Path:
    """Return a path as it is typed at the repository root."""
    return file.relative_to(ROOT) if file.is_relative_to(ROOT) else file


if __name__ == "__main__":
    typer.run(new_project)
