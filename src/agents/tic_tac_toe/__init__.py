"""A Tic-Tac-Toe tournament between two agents: an ADK application."""

# By its full name: ADK imports this folder as `tic_tac_toe`, and would make every agent twice.
from agents.tic_tac_toe.agent import app, root_agent

__all__ = ["app", "root_agent"]
