"""A game: an agent without a model that lets two players move in turn."""

import time
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import BaseAgent, InvocationContext, LlmAgent
from google.adk.events import Event, EventActions
from google.genai import types

from agents.tic_tac_toe import board
from agents.tic_tac_toe.player import is_legal, mend


class Game(BaseAgent):
    """Plays one game, or goes on with the one that was not finished.

    All that it knows stands in the session's state, and comes there by events, so that each
    session has a board of its own, which outlives the process where sessions are stored: board,
    game (how many were begun), moves, mended (by mark), result, and score.

    Attributes:
        players: The agents that play, by mark.
        commentator: Remarks on each move; None plays in silence.
    """

    players: dict[str, LlmAgent]
    commentator: LlmAgent | None = None

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        state = ctx.session.state
        current = state.get("board", "")
        if not current or board.result(current):
            current = board.EMPTY
            yield self._event(
                ctx,
                f"Game {state.get('game', 0) + 1}: X begins.\n\n{show(current)}",
                board=current,
                game=state.get("game", 0) + 1,
                moves=[],
                mended={},
                result="",
            )
        while not board.result(current):
            mark = board.to_move(current)
            began, tokens = time.monotonic(), 0
            # a player that says nothing leaves the last move in the state
            yield self._event(ctx, None, move=None)
            async for event in self.players[mark].run_async(ctx):
                tokens += (event.usage_metadata and event.usage_metadata.total_token_count) or 0
                yield event
            seconds = time.monotonic() - began
            move: dict[str, Any] = state.get("move") or {}
            mended = dict(state.get("mended", {}))
            if not is_legal(current, move):
                move = mend(current, move)
                mended[mark] = mended.get(mark, 0) + 1
            current = board.play(current, move["cell"], mark)
            end = board.result(current) or ""
            made = {"mark": mark, "cell": move["cell"], "reason": move.get("reason", "")}
            cost = {"seconds": round(seconds, 4), "tokens": tokens}
            changes: dict[str, Any] = {
                "board": current,
                "last": f"{mark} on {move['cell']}",
                "moves": [*state["moves"], made | cost],
                "mended": mended,
                "result": end,
            }
            if end:
                score = dict(state.get("score") or no_score())
                score[end] += 1
                changes["score"] = score
            yield self._event(ctx, f"{mark} plays {move['cell']}.\n\n{show(current)}", **changes)
            if self.commentator:
                async for event in self.commentator.run_async(ctx):
                    yield event
        said = "A draw." if state["result"] == board.DRAW else f"{state['result']} wins."
        yield self._event(ctx, f"Game {state['game']}: {said}")

    def _event(self, ctx: InvocationContext, text: str | None, **changes: Any) -> Event:  # noqa: ANN401 - any value of the state
        part = types.Part(text=text)
        return Event(
            author=self.name,
            invocation_id=ctx.invocation_id,
            branch=ctx.branch,
            content=types.Content(role="model", parts=[part]) if text else None,
            actions=EventActions(state_delta=changes),
        )


def show(current: str) -> str:
    """Return the board as Markdown that keeps its lines."""
    return f"```\n{board.draw_board(current)}\n```"


def no_score() -> dict[str, int]:
    """Return the score before the first game."""
    return {"X": 0, "O": 0, board.DRAW: 0}
