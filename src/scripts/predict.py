"""Predict the rows of a file with a registered model, without a server."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from common import registry, scoring, settings, tracking
from common.progress import progress
from common.settings import DEFAULT_CONFIG
from inference.local import ARTIFACTS
from inference.predictor import Predictor
from scripts.command_line import CONFIG_HELP, fail, one_line_errors


def predict(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV (UTF-8, commas) or Parquet file to read.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write, .csv or .parquet; FILE's name with .predictions unless given."
        ),
    ] = None,
    model_version: Annotated[
        str | None, typer.Option(help="Version to predict with; the champion unless given.")
    ] = None,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Write a file's rows with prediction, confidence and probabilities.

    The model is the champion, or the newest version where nothing has been
    deployed yet. It runs in this process: no server is asked, and nothing is
    captured for monitoring.

    The file holds a column for each feature, in any order; other columns are
    passed on. A row that the service would refuse is not predicted. It goes to
    OUTPUT.rejected.csv, with its number (0 is the first after the header), the
    column, the value, and what was expected.

    Ends with 0 where rows were predicted, even if others were rejected, and
    with 1 where none was, or something is wrong with the file as a whole.
    """
    with one_line_errors():
        files = scoring.open_files(file, output)
        loaded = settings.load(config)
        tracking.require_reachable(loaded.tracking_uri)
        os.environ["MLFLOW_TRACKING_URI"] = loaded.tracking_uri
        with progress("fetching the model"), tempfile.TemporaryDirectory() as scratch:
            release = registry.choose(loaded.project, model_version, Path(scratch) / "model")
            predictor = Predictor.load(release.path / ARTIFACTS)
        predictor.try_out()
        started = time.perf_counter()
        with progress("scoring", 1.0) as show:
            summary = scoring.score(files, predictor, show)
        seconds = time.perf_counter() - started
        rejected = f", rejected {summary.rejected:,} ({files.rejects})" if summary.rejected else ""
        text = f"version {release.version} scored {summary.scored:,} rows{rejected}: {files.output}"
        print(f"{text}, {seconds:.1f} s, {summary.scored / seconds:,.0f} rows/s")
        if not summary.scored:
            fail(f"{file}: no row could be scored; {files.rejects} says why")


if __name__ == "__main__":
    # half-written files are removed on the way out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    typer.run(predict)
