"""What came of a tournament: figures of each player, as a table and as a picture."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from agents.tic_tac_toe.board import DRAW, MARKS, Mark
from common.pages import render

COLOURS = {"X": "#1f5fa8", "O": "#b3541e", DRAW: "#6b7280"}


@dataclass(frozen=True)
class Standing:
    """The figures of a player.

    Attributes:
        mark: X or O.
        model: Name of its model.
        style: How it was told to play.
        games: Games that ended.
        wins: Games that it won.
        draws: Games that nobody won.
        moves: Its moves.
        mended: Those in place of which the guardrail played another.
        seconds: For a move, on average.
        tokens: For a game, on average; 0 where the model counts none.
    """

    mark: Mark
    model: str
    style: str
    games: int
    wins: int
    draws: int
    moves: int
    mended: int
    seconds: float
    tokens: float


def standings(
    games: Sequence[Mapping[str, Any]], models: Mapping[Mark, str], styles: Mapping[Mark, str]
) -> list[Standing]:
    """Count what the states of games that ended say of each player."""
    found = []
    for mark in MARKS:
        moves = [move for game in games for move in game["moves"] if move["mark"] == mark]
        found.append(
            Standing(
                mark=mark,
                model=models[mark],
                style=styles[mark],
                games=len(games),
                wins=sum(game["result"] == mark for game in games),
                draws=sum(game["result"] == DRAW for game in games),
                moves=len(moves),
                mended=sum(game["mended"].get(mark, 0) for game in games),
                seconds=sum(move["seconds"] for move in moves) / max(len(moves), 1),
                tokens=sum(move["tokens"] for move in moves) / max(len(games), 1),
            )
        )
    return found


def write_table(file: Path, players: Iterable[Standing]) -> None:
    """Write a CSV file with a row for each player."""
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, [field.name for field in fields(Standing)])
        writer.writeheader()
        writer.writerows(asdict(player) for player in players)


def write_chart(file: Path, players: Sequence[Standing]) -> None:
    """Write an SVG file: who won, and what each player's moves cost."""
    first, second = players
    counts = {"X": first.wins, DRAW: first.draws, "O": second.wins}
    results, start = [], 0.0
    for name, count in counts.items():
        share = count / max(first.games, 1)
        label = "draws" if name == DRAW else f"{name} wins"
        results.append(
            {
                "name": label,
                "count": count,
                "start": start,
                "share": share,
                "colour": COLOURS[name],
            }
        )
        start += share
    figures = [
        bars("mended moves", [(player, player.mended, f"{player.mended}") for player in players]),
        bars(
            "time of a move",
            [(player, player.seconds, f"{1000 * player.seconds:,.0f} ms") for player in players],
        ),
        bars(
            "tokens of a game",
            [(player, player.tokens, f"{player.tokens:,.0f}") for player in players],
        ),
    ]
    text = render(
        "tournament.svg.j2",
        title=f"{first.games} games",
        players=[f"{player.mark}: {player.model}, {player.style}" for player in players],
        results=results,
        figures=figures,
    )
    file.write_text(text, encoding="utf-8")


def bars(name: str, values: Sequence[tuple[Standing, float, str]]) -> dict[str, Any]:
    """Return a figure as bars whose lengths compare the players."""
    largest = max(value for _, value, _ in values) or 1
    return {
        "name": name,
        "bars": [
            {
                "mark": player.mark,
                "share": value / largest,
                "text": text,
                "colour": COLOURS[player.mark],
            }
            for player, value, text in values
        ],
    }
