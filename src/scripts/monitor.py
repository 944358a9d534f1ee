"""Monitor once, or again and again: an exit code, JSON for machines, and retraining on fail."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import orjson
import typer
from typer.exceptions import TyperException

from common import ROOT
from common.settings import DEFAULT_CONFIG
from inference.errors import ConfigurationError, RookeryError
from scripts.command_line import CONFIG_HELP, fail, stop_all

EXIT_FAIL = 2
SECONDS = {"s": 1, "m": 60, "h": 3600}
# Parameters that every flow has: what comes after monitoring needs them as well.
SHARED = ("--backend", "--dataset", "--mlflow-tracking-uri")

app = typer.Typer(add_completion=False)


class FlowFailedError(RookeryError):
    """A flow could not do its work; what it printed says why."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; typer would turn Python's own into an exit code of its choice."""


@dataclass(frozen=True)
class Flows:
    """Runs flows, each as a process of its own.

    Attributes:
        config: Config file of the project.
        quiet: Keep the standard output free: what flows print goes to standard error.
    """

    config: Path
    quiet: bool

    def run(self, name: str, *words: str) -> Any:  # noqa: ANN401 - see artifacts
        """Run a flow to its end.

        Args:
            name: Name of its file.
            words: Its parameters, as they are typed.

        Returns:
            The artifacts of its last step.

        Raises:
            FlowFailedError: It did not finish well.
        """
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "run-id"
            flow = str(ROOT / "src" / "pipelines" / f"{name}.py")
            config = ("--config", "project", str(self.config))
            command = [sys.executable, flow, *config, "run", "--run-id-file", str(file), *words]
            # in a session of its own, so that all of its tasks can be stopped together
            process = subprocess.Popen(  # noqa: S603 - a flow of this project
                command, stdout=sys.stderr if self.quiet else None, start_new_session=True
            )
            try:
                code = process.wait()
            except BaseException:
                stop_all(process)
                raise
            if code:
                raise FlowFailedError(f"{name} could not do its work; what it printed says why")
            return artifacts(name, file.read_text(encoding="utf-8").strip())


def artifacts(name: str, run_id: str) -> Any:  # noqa: ANN401 - whatever the flow stored
    """Return the artifacts of a finished run's last step."""
    from metaflow import Run, namespace  # noqa: PLC0415 - half a second

    namespace(None)
    return Run(f"{name.capitalize()}/{run_id}").data


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def monitor(
    context: typer.Context,
    *,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print what was found as one JSON object, and nothing else."),
    ] = False,
    watch: Annotated[
        str | None, typer.Option(help="Do it again and again, each time after: 30s, 15m, 1h.")
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="On fail, train again if there are enough new labels.")
    ] = False,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="With --retrain: deploy what was registered.")
    ] = False,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Compare what was captured with what the deployed version was trained on.

    Other words go to the flow: --samples 1000, --with retry, --backend backend.Local.

    Exits 0 if nothing is wrong (pass, warn, no data or not enough to judge), 2 on fail, and 1 if
    it could not do its work. With --watch it goes on until Ctrl-C or SIGTERM, whatever it finds,
    and then exits 0.
    """
    seconds = None if watch is None else parse_interval(watch)
    if deploy and not retrain:
        raise ConfigurationError("--deploy: needs --retrain, which makes the version to deploy")
    flows = Flows(config, quiet=json)
    if seconds is not None:
        watch_rounds(flows, context.args, seconds, json=json, retrain=retrain, deploy=deploy)
    outcome = one_round(flows, context.args, json=json, retrain=retrain, deploy=deploy)
    raise SystemExit(EXIT_FAIL if outcome["verdict"] == "fail" else 0)


def one_round(
    flows: Flows, words: Sequence[str], *, json: bool, retrain: bool, deploy: bool
) -> dict[str, Any]:
    """Monitor, and retrain if that is asked for and due.

    Raises:
        FlowFailedError: A flow could not do its work.
    """
    outcome: dict[str, Any] = flows.run("monitoring", *words).outcome
    try:
        if retrain and outcome["verdict"] == "fail":
            follow_up(flows, outcome, shared_words(words), deploy=deploy)
    finally:
        # what was found stands, even where the retraining after it did not work
        if json:
            sys.stdout.buffer.write(encode(outcome))
            sys.stdout.flush()
    return outcome


def encode(outcome: dict[str, Any]) -> bytes:
    """Return the outcome as one line of JSON; what is no number becomes null."""
    return orjson.dumps(outcome, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def follow_up(
    flows: Flows, outcome: dict[str, Any], shared: Sequence[str], *, deploy: bool
) -> None:
    """Retrain if enough rows have got labels that no model was trained on, or say how many lack.

    What was done is added to `outcome["retraining"]`.
    """
    due = outcome["retraining"]
    due |= {"missing": max(0, due["needed"] - due["labels"]), "version": None, "deployed": False}
    if due["missing"]:
        print(
            f"retraining: {due['labels']} rows have labels that no model was trained on,"
            f" {due['missing']} more are needed (monitoring.retrain_labels)",
            file=sys.stderr,
        )
        return
    rows = str(due["reference_rows"])
    due["version"] = flows.run("training", "--captured", "--reference-rows", rows, *shared).version
    if due["version"] is None:
        print("retraining: no new version was registered", file=sys.stderr)
    elif deploy:
        flows.run("deployment", *shared)
        due["deployed"] = True


def shared_words(words: Sequence[str]) -> list[str]:
    """Return those words that all flows understand."""
    found: list[str] = []
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in SHARED:
            found += [word] if equals else list(words[place : place + 2])
    return found


def watch_rounds(
    flows: Flows, words: Sequence[str], seconds: float, *, json: bool, retrain: bool, deploy: bool
) -> NoReturn:
    """Monitor at every interval until Ctrl-C or SIGTERM; a round that fails is not the last one."""
    while True:
        began = time.monotonic()
        try:
            one_round(flows, words, json=json, retrain=retrain, deploy=deploy)
        except Exception as error:  # noqa: BLE001 - a full disk, say, must not end the watch
            reason = str(error) or type(error).__name__
            print(f"error: {reason}", file=sys.stderr)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))


def parse_interval(text: str) -> float:
    """Return the seconds of a time such as 15m.

    Raises:
        ConfigurationError: It is none.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh])", text)
    seconds = float(match[1]) * SECONDS[match[2]] if match else 0.0
    if not seconds:
        raise ConfigurationError(f"--watch: expected a time such as 30s, 15m or 1h, not {text!r}")
    return seconds


def interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - Python's signature
    """End whatever is being done."""
    raise Stopped(number)


def main() -> None:
    """Run the command; only a verdict may end it with 2, which is typer's code for wrong usage."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        app(standalone_mode=False)
    except (TyperException, RookeryError) as error:
        fail(str(error))
    except Stopped as stopped:
        print("stopped", file=sys.stderr)
        watched = any(word.partition("=")[0] == "--watch" for word in sys.argv)
        raise SystemExit(0 if watched else 128 + stopped.args[0]) from None


if __name__ == "__main__":
    main()
