"""The rules of the embedded model for each agent of the tournament."""

import re

from agents.embedded import Call, Reply, Request
from agents.tic_tac_toe import board

BOARD = re.compile(r"Board, [^:]*: ([XO.]{9})")
CENTRE_FIRST = (4, 0, 2, 6, 8, 1, 3, 5, 7)
TOOL_OF_STYLE = {"perfect": "best_move", "random": "random_move"}


def find(pattern: str | re.Pattern[str], text: str) -> str:
    """Return what a pattern's group matches in an instruction; nothing if it does not."""
    match = re.search(pattern, text)
    return match[1] if match else ""


def player(request: Request) -> Reply:
    """Play what the tool of its style says; without a tool, complete three, block, or go centre."""
    style = find(r"Style: (\w+)", request.instruction)
    if tool := TOOL_OF_STYLE.get(style):
        if tool not in request.results:
            return Call(tool, {})
        return {"cell": request.results[tool]["cell"], "reason": f"{tool} says so"}
    current = find(BOARD, request.instruction)
    mark = board.to_move(current)
    if (cell := board.completing_cell(current, mark)) is not None:
        return {"cell": cell, "reason": "completes three"}
    if (cell := board.completing_cell(current, board.other(mark))) is not None:
        return {"cell": cell, "reason": "blocks three"}
    cell = next(cell for cell in CENTRE_FIRST if cell in board.free_cells(current))
    return {"cell": cell, "reason": "the best place that is free"}


def commentator(request: Request) -> Reply:
    """Say what the last move did."""
    current = find(BOARD, request.instruction)
    mark, cell = (
        find(r"Last move: ([XO])", request.instruction),
        find(r"on (\d)", request.instruction),
    )
    end = find(r"Result: (X|O|draw)", request.instruction)
    if end == board.DRAW:
        return "The board is full: a draw."
    if end:
        return f"{end} completes three, and wins."
    threat = board.completing_cell(current, "X" if mark == "X" else "O")
    if threat is not None:
        return f"{mark} threatens to win on {threat}."
    return f"{mark} takes cell {cell}."


def tournament(request: Request) -> Reply:
    """Send whoever wants to play to the game, and tell the score to whoever asks for it."""
    if tally := request.results.get("tally"):
        score = ", ".join(f"{name} {count}" for name, count in tally.items())
        return f"Score so far: {score}."
    if re.search(r"\b(score|tally|standings?|winning|won|result)\b", request.user, re.IGNORECASE):
        return Call("tally", {})
    if re.search(r"\b(play|game|match|round|again|continue|go on)\b", request.user, re.IGNORECASE):
        return Call("transfer_to_agent", {"agent_name": "game"})
    return "Say `play` for a game, or `score` for how it stands."
