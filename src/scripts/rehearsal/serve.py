"""Start a local AWS in the foreground, and print the variables that lead to it."""

import os
import shlex
import signal
from typing import Annotated

import typer

from common.progress import progress
from scripts.command_line import fail, one_line_errors
from scripts.rehearsal.place import PREFIXES, Place
from scripts.rehearsal.stage import Stage, running

PORT = 4566


def main(
    port: Annotated[int, typer.Option(help="Port to listen at, on 127.0.0.1.")] = PORT,
    *,
    empty: Annotated[
        bool, typer.Option("--empty", help="Leave bucket, roles and queue to `aws-setup`.")
    ] = False,
) -> None:
    """Start it, set it up, and wait for Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    place = Place.default()
    with one_line_errors():
        if running(place):
            fail(f"a local AWS is running already, see {place.address}")
        # its AWS is empty at first: what an earlier one was reached by would mislead
        place.clear()
        with Stage(place, port) as stage:
            if not empty:
                with progress("setting up a local AWS"):
                    stage.set_up()
            stage.announce()
            print(describe(stage), flush=True)
            try:
                raise SystemExit(stage.aws.wait())
            except KeyboardInterrupt:
                raise SystemExit(0) from None


def describe(stage: Stage) -> str:
    """Return the variables as a shell takes them, and what to do with them."""
    place = stage.place
    own = stage.environment
    wanted = {
        name: value
        for name, value in own.items()
        if name.startswith(PREFIXES) and os.environ.get(name) != value
    }
    secret = {name for name in place.variables() if "PASSWORD" in name}
    shown = {n: v for n, v in place.variables().items() if n not in secret} | wanted
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(shown.items())]
    return "\n".join(
        [
            f"# A local stand-in for AWS listens at {stage.url}; Ctrl-C ends it, and all it holds.",
            "# `just rehearse RECIPE` runs a recipe here; any other command needs these:",
            *lines,
        ]
    )


if __name__ == "__main__":
    typer.run(main)
