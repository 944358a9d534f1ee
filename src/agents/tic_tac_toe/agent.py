"""The tournament: an agent that starts games and tells the score.

AGENT_MODEL is every agent's model; PLAYER_X and PLAYER_O name another for one player, and STYLE_X
and STYLE_O say how it plays.
"""

import os
from collections.abc import Mapping
from typing import cast

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm
from google.adk.tools import ToolContext

from agents.models import create_model
from agents.tic_tac_toe import policy
from agents.tic_tac_toe.board import MARKS, Mark
from agents.tic_tac_toe.commentator import create_commentator
from agents.tic_tac_toe.game import Game, no_score
from agents.tic_tac_toe.player import STYLES, Style, create_player
from inference.errors import AgentError

DEFAULT_STYLES: dict[Mark, Style] = {"X": "perfect", "O": "random"}


def tally(tool_context: ToolContext) -> dict[str, int]:
    """Return how many games each player has won, and how many were drawn."""
    return dict(tool_context.state.get("score") or no_score())


def player_settings(mark: Mark) -> tuple[str | None, Style]:
    """Return a player's model and style as the environment sets them.

    Raises:
        AgentError: There is no such style.
    """
    style = os.environ.get(f"STYLE_{mark}") or DEFAULT_STYLES[mark]
    if style not in STYLES:
        raise AgentError(f"STYLE_{mark}: expected one of {', '.join(STYLES)}, not {style!r}")
    return os.environ.get(f"PLAYER_{mark}") or None, cast("Style", style)


def create_game(
    models: Mapping[Mark, str | BaseLlm | None],
    styles: Mapping[Mark, Style],
    *,
    commentator: str | BaseLlm | None = None,
    silent: bool = False,
) -> Game:
    """Make the agent that plays games between two players."""
    players = {mark: create_player(mark, models[mark], styles[mark]) for mark in MARKS}
    remarks = None if silent else create_commentator(commentator)
    return Game(
        name="game",
        description="Plays a game of Tic-Tac-Toe, or goes on with the unfinished one.",
        players=players,
        commentator=remarks,
        sub_agents=[*players.values(), *([remarks] if remarks else [])],
    )


def create_tournament(model: str | BaseLlm | None = None) -> LlmAgent:
    """Make the tournament's agent; a model given here is the one of all its agents."""
    settings: dict[Mark, tuple[str | None, Style]] = {mark: player_settings(mark) for mark in MARKS}
    models: dict[Mark, str | BaseLlm | None] = {mark: model or settings[mark][0] for mark in MARKS}
    styles: dict[Mark, Style] = {mark: settings[mark][1] for mark in MARKS}
    game = create_game(models, styles, commentator=model)
    return LlmAgent(
        name="tournament",
        model=create_model(policy.tournament, model),
        description="Runs a Tic-Tac-Toe tournament: say `play`, or `score`.",
        instruction=(
            "You run a Tic-Tac-Toe tournament between two players. Whoever wants a game, or wants"
            " the unfinished one to go on, is transferred to the agent `game`. Whoever asks for"
            " the score gets what the tool `tally` returns. Anything else you answer with: Say"
            " `play` for a game, or `score` for how it stands."
        ),
        tools=[tally],
        sub_agents=[game],
    )


root_agent = create_tournament()
app = App(name="tic_tac_toe", root_agent=root_agent)
