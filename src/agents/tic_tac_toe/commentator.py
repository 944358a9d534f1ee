"""The commentator: an agent that remarks on each move."""

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm

from agents.models import create_model
from agents.tic_tac_toe import policy


def create_commentator(model: str | BaseLlm | None) -> LlmAgent:
    """Make the agent that remarks on each move."""
    return LlmAgent(
        name="commentator",
        model=create_model(policy.commentator, model),
        description="Remarks on each move.",
        instruction=(
            "You comment on a game of Tic-Tac-Toe. Remark on its last move in one short sentence,"
            " without advice.\nBoard, where . is a free cell, row by row: {board}\n"
            "Last move: {last}\nResult: {result?}"
        ),
        include_contents="none",
        disallow_transfer_to_parent=True,
        disallow_transfer_to_peers=True,
    )
