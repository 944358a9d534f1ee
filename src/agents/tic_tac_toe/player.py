"""A player: an agent with two tools, a structured move, and a guardrail that mends bad ones."""

import json
import random
from typing import Any, Literal, TypeAlias, get_args

from google.adk.agents import LlmAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.tools import ToolContext
from google.genai import types
from pydantic import BaseModel, Field, ValidationError

from agents.models import create_model
from agents.tic_tac_toe import board, policy

Style: TypeAlias = Literal["perfect", "random", "unaided"]
STYLES: tuple[Style, ...] = get_args(Style)
ADVICE: dict[Style, str] = {
    "perfect": "Call best_move, and play the cell that it returns.",
    "random": "Call random_move, and play the cell that it returns.",
    "unaided": "Call no tool but the one to answer with; find the best cell yourself.",
}
# The tool with which ADK lets a model answer that cannot do so beside other tools.
ANSWER = "set_model_response"
# More tools than there are, for one move, are a loop.
MAX_TOOL_CALLS = 4


class Move(BaseModel):
    """A player's answer."""

    cell: int = Field(ge=0, le=8, description="The free cell to play, from 0 to 8, row by row.")
    reason: str = Field(default="", max_length=200, description="Why, in a few words.")


def best_move(tool_context: ToolContext) -> dict[str, Any]:
    """Find the strongest cell for the player to move."""
    return {"cell": board.best_cell(tool_context.state["board"])}


def random_move(tool_context: ToolContext) -> dict[str, Any]:
    """Pick any free cell by chance."""
    state = tool_context.state
    # the same seed, game and board give the same cell; another game gives another
    seed = f"{state.get('seed', tool_context.session.id)}/{state['game']}/{state['board']}"
    return {"cell": random.Random(seed).choice(board.free_cells(state["board"]))}  # noqa: S311 - a game


TOOLS = (best_move, random_move)


def mend(current: str, told: object) -> dict[str, Any]:
    """Return a legal move in place of one that is not: the first free cell."""
    said = " ".join(str(told or "nothing").split())[:80]
    return {"cell": board.free_cells(current)[0], "reason": f"mended: the model said {said}"}


def is_legal(current: str, told: object) -> bool:
    """Whether what a model answered, as JSON or as a tool's arguments, is a move on a free cell."""
    try:
        parse = Move.model_validate_json if isinstance(told, str) else Move.model_validate
        return parse(told).cell in board.free_cells(current)  # type: ignore[arg-type] - either of the two takes what it is given
    except ValidationError:
        return False


def count_mended(callback_context: CallbackContext) -> None:
    """Note that the move of whoever is to move was mended."""
    state = callback_context.state
    mended = dict(state.get("mended", {}))
    mark = board.to_move(state["board"])
    state["mended"] = mended | {mark: mended.get(mark, 0) + 1}


def referee(callback_context: CallbackContext, llm_response: LlmResponse) -> LlmResponse | None:
    """Let tools and legal moves pass, and replace anything else by a legal move."""
    parts = (llm_response.content and llm_response.content.parts) or []
    calls = [part.function_call for part in parts if part.function_call]
    answer = next((call for call in calls if call.name == ANSWER), None)
    known = {tool.__name__ for tool in TOOLS}
    if calls and not answer and all(call.name in known for call in calls):
        return None
    text = "".join(part.text or "" for part in parts if not part.thought)
    told = (answer.args or {}) if answer else text or [call.name for call in calls] or ""
    current = callback_context.state["board"]
    if is_legal(current, told):
        # a tool beside the answer would make the model answer again
        if answer is None or len(calls) == 1:
            return None
        move = answer.args or {}
    else:
        count_mended(callback_context)
        move = mend(current, told)
    if answer:
        part = types.Part(function_call=types.FunctionCall(id=answer.id, name=ANSWER, args=move))
    else:
        part = types.Part(text=json.dumps(move))
    content = types.Content(role="model", parts=[part])
    return llm_response.model_copy(
        update={"content": content, "error_code": None, "error_message": None}
    )


def stop_loops(callback_context: CallbackContext, llm_request: LlmRequest) -> LlmResponse | None:
    """Answer in place of a model that calls one tool after another."""
    called = sum(
        bool(part.function_response)
        for content in llm_request.contents
        for part in content.parts or []
    )
    if called < MAX_TOOL_CALLS:
        return None
    count_mended(callback_context)
    move = mend(callback_context.state["board"], f"{called} tools, and no move")
    return LlmResponse(
        content=types.Content(role="model", parts=[types.Part(text=json.dumps(move))])
    )


def create_player(mark: board.Mark, model: str | BaseLlm | None, style: Style) -> LlmAgent:
    """Make the agent that plays X or O."""
    return LlmAgent(
        name=f"player_{mark.lower()}",
        model=create_model(policy.player, model),
        description=f"Plays {mark}.",
        instruction=(
            f"You play {mark} in Tic-Tac-Toe. Cells have the numbers 0 to 8, row by row; three of"
            " a mark in a row, a column or a diagonal win.\n"
            "Board, where . is a free cell: {board}\n"
            f"Style: {style}. {ADVICE[style]}\n"
            'Answer with your move as JSON: {{"cell": number, "reason": "few words"}}.'
        ),
        tools=list(TOOLS),
        output_schema=Move,
        output_key="move",
        include_contents="none",
        before_model_callback=stop_loops,
        after_model_callback=referee,
        disallow_transfer_to_parent=True,
        disallow_transfer_to_peers=True,
    )
