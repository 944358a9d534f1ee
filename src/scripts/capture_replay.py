"""Move rows that the database refused from the spool beside it into the database."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from common.progress import progress
from common.settings import DEFAULT_CONFIG
from inference.capture import LOCK_TIMEOUT
from inference.spool import Spool
from inference.store import Store
from scripts.command_line import CONFIG_HELP, fail, local_backend, one_line_errors


def capture_replay(
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Replay the spool, whether a server runs or not; each row ends up in the database once."""
    with one_line_errors():
        _, backend = local_backend(config)
        database = backend.settings.database
        spool = Spool(database)
        moved = damaged = 0
        try:
            if spool.empty:
                print(f"nothing waits for {database}")
                return
            # no longer, for a server that wants to spool waits until this step is over
            limits = backend.settings
            with (
                closing(Store(database, limits.capture_sync, timeout=LOCK_TIMEOUT)) as store,
                progress("moving rows", len(spool), "rows") as show,
            ):
                while not spool.empty:
                    rows, lines = spool.replay(store)
                    moved, damaged = moved + rows, damaged + lines
                    show(moved + damaged)
        except sqlite3.Error as error:
            fail(
                f"{database} still refuses ({error}): {moved} rows moved, {len(spool)} wait in"
                f" {spool.path}; run this again when the database is back"
            )
        except OSError as error:
            fail(f"{moved} rows moved, then {error}")
        finally:
            if damaged:
                print(f"{damaged} damaged lines set aside in {spool.damaged_path}")
        print(f"{moved} rows moved into {database}, none waits")


if __name__ == "__main__":
    typer.run(capture_replay)
