"""Run a recipe against the local AWS, in an environment from which nothing reaches a real one."""

import signal
import subprocess
import sys
from contextlib import ExitStack

from common import ROOT
from common.progress import progress
from scripts.command_line import one_line_errors
from scripts.rehearsal.circle import run_circle
from scripts.rehearsal.place import Place
from scripts.rehearsal.stage import Stage, running

USAGE = "usage: just rehearse RECIPE [ARGUMENTS …], or: just rehearse all"


def main(*words: str) -> int:
    """Run it, and return its exit code."""
    if words[:1] == ("--help",):
        print(USAGE)
        return 0
    if not words or words[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    # the `with` blocks below end what they started
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with one_line_errors():
        if words == ("all",):
            return run_circle(Place(Place.default().folder.with_name("rehearsal-all")))
        return run_recipe(Place.default(), *words)


def run_recipe(place: Place, *words: str) -> int:
    """Run a recipe on the stage that is there, or on one for this time only."""
    with ExitStack() as stack:
        found = running(place)
        if found is None:
            place.clear()
            stage = stack.enter_context(Stage(place))
            if words[0] != "aws-setup":
                with progress("setting up a local AWS"):
                    stage.set_up()
            found = stage.url, stage.tracking_uri
            print(f"rehearsing on {stage.url}, for this time only", file=sys.stderr)
        done = subprocess.run(  # noqa: S603 - a recipe of this project
            place.recipe(*words), cwd=ROOT, env=place.environment(*found), check=False
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
