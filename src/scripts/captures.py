"""Count what the local server answered: captured, labelled and unlabelled rows by version."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.settings import DEFAULT_CONFIG
from inference.spool import Spool
from scripts.command_line import CONFIG_HELP, local_backend, one_line_errors


def captures(config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG) -> None:
    """Print a table of counts."""
    with one_line_errors():
        _, backend = local_backend(config)
        database = backend.settings.database
        counts = backend.counts() if database.exists() else []
        print_counts(counts, f"{database}")
        if waiting := len(Spool(database)):
            print(
                f"{waiting} rows wait in {Spool(database).path}; `just capture-replay` moves them"
            )


def print_counts(counts: list[tuple[str, int, int]], title: str) -> None:
    """Print (version, rows, labelled) with a total."""
    table = Table("model version", title=title)
    for name in ("captured", "labelled", "unlabelled"):
        table.add_column(name, justify="right")
    total = ("all", sum(c[1] for c in counts), sum(c[2] for c in counts))
    for version, rows, labelled in [*sorted(counts), total]:
        table.add_row(version, f"{rows:,}", f"{labelled:,}", f"{rows - labelled:,}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(captures)
