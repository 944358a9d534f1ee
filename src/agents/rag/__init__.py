"""Answers questions from documents, with references: an ADK application."""

# By its full name: ADK imports this folder as `rag`, and would make every agent twice.
from agents.rag.agent import app, root_agent

__all__ = ["app", "root_agent"]
