"""Ask the endpoint for a prediction of rows of the table, and show question and answer."""

from pathlib import Path
from typing import Annotated

import orjson
import typer

from common import settings
from common.dataset import read_table
from common.settings import DEFAULT_CONFIG
from common.simulation import draw
from scripts.command_line import CONFIG_HELP, one_line_errors


def sample(
    rows: Annotated[int, typer.Option(min=1, help="Rows to send.")] = 1,
    seed: Annotated[int, typer.Option(help="Chooses the rows.")] = 1,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Send rows of the table to the endpoint and print what it answers."""
    with one_line_errors():
        loaded = settings.load(config)
        table = read_table(loaded.dataset).rows
        records = draw(loaded.dataset.schema, table, rows, seed, drift=False)
        show({"dataframe_records": records})
        answer = loaded.create_backend().invoke(records)
        show({"predictions": answer.predictions})
        print(f"answered by version {answer.model_version}, request {answer.request_id}")


def show(content: object) -> None:
    """Print JSON as a person reads it."""
    print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    typer.run(sample)
