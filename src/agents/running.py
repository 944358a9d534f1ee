"""Runs an application for one message, within limits, with any error in one line."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.adk.agents.invocation_context import LlmCallsLimitExceededError
from google.adk.agents.run_config import RunConfig
from google.adk.apps import App
from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import BaseSessionService, InMemorySessionService, Session
from google.genai import types

from agents import MAX_CALLS
from inference.errors import AgentError, RookeryError

# Seconds of one run.
RUN_SECONDS = 600.0
USER = "user"


@dataclass(frozen=True)
class Run:
    """What came of one message.

    Attributes:
        text: The last text of the agents.
        state: The session's state after it.
        calls: The tools that were called, in order, each with its arguments.
        tokens: Tokens that the models counted, prompts included; 0 where they count none.
        seconds: How long it took.
    """

    text: str
    state: dict[str, Any]
    calls: list[tuple[str, dict[str, Any]]]
    tokens: int
    seconds: float


async def run(
    app: App,
    message: str,
    *,
    sessions: BaseSessionService | None = None,
    session_id: str = "session",
    user: str = USER,
    state: dict[str, Any] | None = None,
    on_event: Callable[[Event], None] | None = None,
    max_calls: int = MAX_CALLS,
    seconds: float = RUN_SECONDS,
) -> Run:
    """Send one message to an application.

    Args:
        app: The application.
        message: What the user says.
        sessions: Where sessions are kept; one that is forgotten, without it.
        session_id: The session, which is made where there is none.
        user: Whose session it is.
        state: State of a session that is made.
        on_event: Called with each event when it happens.
        max_calls: Model calls after which the run is stopped.
        seconds: Time after which it is.

    Raises:
        AgentError: The run was stopped, or a model did not answer.
        RookeryError: A tool could not do its work.
    """
    sessions = sessions or InMemorySessionService()

    async def stored() -> Session | None:
        return await sessions.get_session(app_name=app.name, user_id=user, session_id=session_id)

    if await stored() is None:
        await sessions.create_session(
            app_name=app.name, user_id=user, session_id=session_id, state=state
        )
    runner = Runner(app=app, session_service=sessions)
    text, tokens = "", 0
    calls: list[tuple[str, dict[str, Any]]] = []
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            async for event in runner.run_async(
                user_id=user,
                session_id=session_id,
                new_message=types.Content(role="user", parts=[types.Part(text=message)]),
                run_config=RunConfig(max_llm_calls=max_calls),
            ):
                text = event_text(event) or text
                tokens += (event.usage_metadata and event.usage_metadata.total_token_count) or 0
                calls += [(call.name or "", call.args or {}) for call in event.get_function_calls()]
                if on_event:
                    on_event(event)
    except Exception as error:
        raise shorten(error, max_calls, seconds) from error
    finally:
        await runner.close()
    session = await stored()
    spent = time.monotonic() - began
    return Run(text, dict(session.state) if session else {}, calls, tokens, spent)


def event_text(event: Event) -> str:
    """Return the text that an event shows; empty if it shows none."""
    parts = (event.content and event.content.parts) or []
    return "".join(part.text or "" for part in parts if not part.thought)


def shorten(error: Exception, max_calls: int, seconds: float) -> Exception:
    """Return the error that says in one line why a run ended."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RookeryError):
            return cause
        if isinstance(cause, LlmCallsLimitExceededError):
            return AgentError(
                f"stopped after {max_calls} model calls without an end: the model goes in circles;"
                " set AGENT_MODEL to another one"
            )
        # a workflow's error holds that of its node
        cause = getattr(cause, "error", None) or cause.__cause__
    if isinstance(error, TimeoutError):
        return AgentError(f"stopped after {seconds:g} s: set AGENT_MODEL to a faster model")
    return AgentError(f"the agent failed: {type(error).__name__}: {' '.join(str(error).split())}")
