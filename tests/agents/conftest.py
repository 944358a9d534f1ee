"""What the agents' tests share: models whose answers a test writes, and nobody's settings."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from google.adk.agents.llm_agent import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.models.base_llm import LlmCapabilities
from google.genai import types
from pydantic import Field

from agents.running import Run, run

SETTINGS = ("AGENT_MODEL", "AGENT_API_BASE", "PLAYER_X", "PLAYER_O", "STYLE_X", "STYLE_O")


@pytest.fixture(autouse=True)
def _nobodys_model(monkeypatch):
    for name in SETTINGS:
        monkeypatch.setenv(name, "")


class Scripted(BaseLlm):
    """A model that says what a test has it say: text, a structured answer, (tool, arguments).

    A test may also have it give a whole response.
    """

    model: str = "scripted"
    reply: Callable[[LlmRequest], Any] = Field(exclude=True)
    native: bool = True
    seen: list[LlmRequest] = Field(default_factory=list, exclude=True)

    @property
    def capabilities(self) -> LlmCapabilities:
        return LlmCapabilities(output_schema_and_tools=self.native)

    async def generate_content_async(self, llm_request, **_):
        self.seen.append(llm_request)
        said = self.reply(llm_request)
        if said is None or isinstance(said, LlmResponse):
            yield said or LlmResponse()
            return
        if isinstance(said, tuple):
            part = types.Part.from_function_call(name=said[0], args=said[1])
        else:
            part = types.Part(text=said if isinstance(said, str) else json.dumps(said))
        yield LlmResponse(content=types.Content(role="model", parts=[part]))


@pytest.fixture
def scripted() -> Callable[..., Scripted]:
    """Make a model of a function from a request to what it says, or of what it always says."""

    def make(reply, **options) -> Scripted:
        return Scripted(reply=reply if callable(reply) else lambda _: reply, **options)

    return make


@pytest.fixture
def talk() -> Callable[..., Run]:
    """Send a message to an application: `talk(app, "hello")`."""

    def send(app, message, **options) -> Run:
        return asyncio.run(run(app, message, **options))

    return send


@pytest.fixture
def results() -> Callable[[LlmRequest], dict]:
    """Read from a request what each tool returned."""

    def read(request: LlmRequest) -> dict:
        parts = (part for content in request.contents for part in content.parts or [])
        answers = (part.function_response for part in parts if part.function_response)
        return {answer.name: answer.response for answer in answers}

    return read


@pytest.fixture
def lone_agent() -> Callable[[BaseLlm], LlmAgent]:
    """An agent that has nothing but a model."""
    return lambda model: LlmAgent(name="lone", model=model, instruction="Answer.")
