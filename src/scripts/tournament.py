"""Let two agents play Tic-Tac-Toe against each other, game after game."""

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common import ROOT
from common.progress import progress
from inference.errors import AgentError
from scripts.command_line import one_line_errors

if TYPE_CHECKING:
    from google.adk.events import Event

    from agents.tic_tac_toe.standings import Standing

SESSIONS = "sessions.db"
TABLE_WIDTH = 140
# Columns of the table that hold no figures.
TEXTS = 3
MODEL_HELP = "Model of {}, such as gemini-2.5-flash or openai/gpt-5; AGENT_MODEL unless given."


class Style(StrEnum):
    """How a player is told to play."""

    PERFECT = "perfect"
    RANDOM = "random"
    UNAIDED = "unaided"


def tournament(
    *,
    games: Annotated[int, typer.Option(min=1, help="Games to play.")] = 10,
    player_x: Annotated[
        str | None, typer.Option(metavar="MODEL", help=MODEL_HELP.format("X"))
    ] = None,
    player_o: Annotated[
        str | None, typer.Option(metavar="MODEL", help=MODEL_HELP.format("O"))
    ] = None,
    style_x: Annotated[Style, typer.Option(help="How X plays.")] = Style.PERFECT,
    style_o: Annotated[Style, typer.Option(help="How O plays.")] = Style.RANDOM,
    commentator: Annotated[
        str, typer.Option(metavar="MODEL", help="Model of who remarks on each move; none: nobody.")
    ] = "embedded/rules",
    seed: Annotated[int, typer.Option(help="Of random moves.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder to write; one in .rookery/tournaments unless given."),
    ] = None,
) -> None:
    """Play games, and write table.csv and chart.svg.

    perfect asks a tool for the best move, random asks one for any move, and
    unaided is left to itself.

    Games are kept in the folder. With --output, the same command goes on where
    a former one was stopped, in the middle of a game too.
    """
    with one_line_errors():
        try:
            with progress("starting the agents"):
                from agents import tic_tac_toe  # noqa: F401, PLC0415 - 3 s
        except ModuleNotFoundError as error:
            raise missing_group(error) from error
        folder = output or new_folder()
        folder.mkdir(parents=True, exist_ok=True)
        models = {"X": player_x, "O": player_o}
        styles = {"X": style_x.value, "O": style_o.value}
        remarks = None if commentator == "none" else commentator
        players = asyncio.run(play(games, models, styles, remarks, seed, folder))
        print_table(players)
        print(f"written: {folder / 'table.csv'}, {folder / 'chart.svg'}")


def missing_group(error: ModuleNotFoundError) -> AgentError:
    """Say how to install what agents need."""
    return AgentError(f"{error.name} is not installed: run `just setup --group agents`")


def new_folder() -> Path:
    """Return a folder named by the time."""
    state = ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery")
    return state / "tournaments" / time.strftime("%Y-%m-%d-%H-%M-%S")


async def play(
    games: int,
    models: Mapping[Any, str | None],
    styles: Mapping[Any, Any],
    commentator: str | None,
    seed: int,
    folder: Path,
) -> "list[Standing]":
    """Play all games that are not finished yet, and write what came of them.

    Raises:
        AgentError: A model did not answer; the games until then are kept.
    """
    from google.adk.apps import App  # noqa: PLC0415 - 3 s, see tournament
    from google.adk.sessions.sqlite_session_service import SqliteSessionService  # noqa: PLC0415

    from agents import models as agent_models  # noqa: PLC0415 - import ADK
    from agents.running import run  # noqa: PLC0415
    from agents.tic_tac_toe import agent, standings  # noqa: PLC0415

    app = App(
        name="tic_tac_toe",
        root_agent=agent.create_game(
            models, styles, commentator=commentator, silent=commentator is None
        ),
    )
    sessions = SqliteSessionService(str(folder / SESSIONS))
    titles = {
        mark: agent_models.title(name or agent_models.model_name()) for mark, name in models.items()
    }
    finished: list[dict[str, Any]] = []
    board = Board(titles, games)
    with Live(board.show([]), console=board.console, transient=True, auto_refresh=False) as live:

        def show(event: "Event") -> None:
            board.take(event)
            live.update(board.show(finished), refresh=board.console.is_terminal)

        for number in range(1, games + 1):
            name = f"game-{number}"
            stored = await sessions.get_session(app_name=app.name, user_id="user", session_id=name)
            if stored and stored.state.get("result"):
                finished.append(stored.state)
                continue
            try:
                told = await run(
                    app,
                    "Play.",
                    sessions=sessions,
                    session_id=name,
                    state={"seed": f"{seed}/{number}"},
                    on_event=show,
                )
            except AgentError as error:
                raise AgentError(
                    f"game {number}: {error}; `--output {folder}` goes on with it"
                ) from error
            finished.append(told.state)
    players = standings.standings(finished, titles, styles)
    standings.write_table(folder / "table.csv", players)
    standings.write_chart(folder / "chart.svg", players)
    return players


class Board:
    """What is shown while games are played."""

    def __init__(self, titles: dict[Any, str], games: int) -> None:
        self.console = Console()
        self.titles, self.games = titles, games
        self.cells = self.said = ""

    def take(self, event: "Event") -> None:
        """Note what an event says."""
        from agents.running import event_text  # noqa: PLC0415 - imported by now

        self.cells = event.actions.state_delta.get("board", self.cells)
        if event.author == "commentator":
            self.said = event_text(event)

    def show(self, finished: Iterable[dict[str, Any]]) -> Group:
        """Return board, remark and score."""
        from agents.tic_tac_toe.board import draw_board  # noqa: PLC0415 - imported by now

        ends = [game["result"] for game in finished]
        score = f"X {ends.count('X')}, O {ends.count('O')}, draws {ends.count('draw')}"
        return Group(
            Text(f"game {min(len(ends) + 1, self.games)} of {self.games}; {score}"),
            Text(f"X: {self.titles['X']}; O: {self.titles['O']}\n"),
            Text(draw_board(self.cells) if self.cells else "", style="bold"),
            Text(f"\n{self.said}"),
        )


def print_table(players: "Iterable[Standing]") -> None:
    """Print a line for each player."""
    table = Table()
    names = ("player", "model", "style", "wins", "draws", "mended", "ms a move", "tokens a game")
    for place, name in enumerate(names):
        table.add_column(name, no_wrap=True, justify="left" if place < TEXTS else "right")
    for player in players:
        table.add_row(
            player.mark,
            Text(player.model),
            player.style,
            f"{player.wins} of {player.games}",
            str(player.draws),
            f"{player.mended} of {player.moves}",
            f"{1000 * player.seconds:,.0f}",
            f"{player.tokens:,.0f}",
        )
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)


if __name__ == "__main__":
    typer.run(tournament)
