"""Show what was live when, why, and with what figures."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common import registry, settings
from common.progress import progress
from common.settings import DEFAULT_CONFIG
from inference.backend import Status
from scripts.command_line import CONFIG_HELP, one_line_errors
from scripts.rollback import connect

TABLE_WIDTH = 120
ALIASES = (registry.CHAMPION, registry.PREVIOUS, registry.CHALLENGER)


def history(
    *,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print it for machines.")] = False,
) -> None:
    """Print what happened to every version, newest last, and what is live now."""
    with one_line_errors():
        loaded = settings.load(config)
        with progress("reading the registry"):
            status = loaded.create_backend().status()
            connect(loaded.tracking_uri)
            events = registry.history(loaded.project)
            aliases = registry.aliases(loaded.project)
    trouble = apart(aliases.get(registry.CHAMPION), status)
    if as_json:
        content = {
            "project": loaded.project,
            "aliases": {name: aliases.get(name) for name in ALIASES},
            "served": {"version": status.version, "running": status.running},
            "apart": trouble,
            "events": [asdict(event) for event in events],
        }
        print(json.dumps(content, indent=2))
        return
    print_events(events, loaded.project)
    named = ", ".join(f"{name}: {aliases[name]}" for name in ALIASES if name in aliases)
    served = f"version {status.version}" if status.version else "nothing"
    running = "" if status.running else " (no server runs)"
    print(f"{named or 'no aliases'}; served at {status.target}: {served}{running}")
    if trouble:
        print(f"attention: {trouble}")


def apart(champion: str | None, status: Status) -> str | None:
    """Say what is wrong where the champion is not what is served."""
    if champion == status.version:
        return None
    if status.version is None:
        return f"version {champion} is champion, but nothing is deployed; `just deploy` mends it"
    if champion is None:
        return f"version {status.version} is served, but none is champion; `just deploy` mends it"
    return (
        f"version {champion} is champion, but version {status.version} is served: a deployment was"
        " interrupted, or somebody served it by hand. `just deploy` finishes it, `just rollback"
        f" --to {champion}` takes it back"
    )


def print_events(events: list[registry.Event], project: str) -> None:
    """Print one line an event."""
    table = Table(title=Text(project))
    for name in ("time (UTC)", "version", "event"):
        table.add_column(name, no_wrap=True)
    for name in ("why", "figures"):
        table.add_column(name)
    for event in events:
        time = event.time[:19].replace("T", " ")
        # not markup: what people wrote may hold brackets
        cells = (time, event.version, event.event, event.reason, describe(event.metrics))
        table.add_row(*map(Text, cells))
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)


def describe(metrics: Mapping[str, float]) -> str:
    """Return figures as text: the champion's and the challenger's where both were compared."""
    found = []
    for name, value in metrics.items():
        plain, _, side = name.rpartition(", ")
        if side == "challenger":
            found.append(f"{plain} {metrics[f'{plain}, champion']:.3g} → {value:.3g}")
        elif not side.startswith(("champion", "difference")) or not plain:
            found.append(f"{name} {value:.3g}")
    return ", ".join(found)


if __name__ == "__main__":
    typer.run(history)
