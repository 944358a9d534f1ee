"""A model that needs no key and no network: rules, not an LLM.

It stands behind ADK's own interface for models and sees what any model sees, one request. It can
answer with text or ask for a tool that it was offered; it cannot read state or run a tool.
"""

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.models.base_llm import LlmCapabilities
from google.genai import types
from pydantic import Field

from inference.errors import AgentError

NAME = "embedded/rules"
# What people read wherever they meet it.
TITLE = f"{NAME} (rules, not an LLM)"


@dataclass(frozen=True)
class Request:
    """What a policy reads of a request.

    Attributes:
        instruction: The agent's instruction, with what ADK adds to it.
        user: The newest message that is not a tool's.
        tools: Names of the tools on offer.
        results: What each tool called since that message returned last, by its name.
    """

    instruction: str
    user: str
    tools: frozenset[str]
    results: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, request: LlmRequest) -> "Request":
        """Take a request of ADK's apart."""
        user, results = "", {}
        for content in request.contents:
            for part in content.parts or []:
                if (answer := part.function_response) and answer.name:
                    results[answer.name] = answer.response or {}
                elif part.text and content.role == "user":
                    user, results = part.text, {}
        declared = [
            declaration.name
            for tool in request.config.tools or []
            if isinstance(tool, types.Tool)
            for declaration in tool.function_declarations or []
        ]
        instruction = request.config.system_instruction
        return cls(str(instruction or ""), user, frozenset(filter(None, declared)), results)


@dataclass(frozen=True)
class Call:
    """A tool to call, and with what."""

    name: str
    arguments: dict[str, Any]


Reply: TypeAlias = str | dict[str, Any] | Call  # text, a structured answer, a tool
Policy: TypeAlias = Callable[[Request], Reply]


class EmbeddedLlm(BaseLlm):
    """The rules of one agent behind the interface of a model."""

    model: str = TITLE
    policy: Policy = Field(exclude=True, repr=False)

    @property
    def capabilities(self) -> LlmCapabilities:
        """What it can do: a structured answer beside tools."""
        return LlmCapabilities(output_schema_and_tools=True)

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - ADK's signature
    ) -> AsyncGenerator[LlmResponse, None]:
        """Answer one request.

        Raises:
            AgentError: The rules ask for a tool that was not offered.
        """
        request = Request.read(llm_request)
        reply = self.policy(request)
        if isinstance(reply, Call):
            if reply.name not in request.tools:
                offered = ", ".join(sorted(request.tools)) or "none"
                raise AgentError(f"{TITLE} asked for tool {reply.name!r}; offered: {offered}")
            part = types.Part.from_function_call(name=reply.name, args=reply.arguments)
        else:
            part = types.Part(text=reply if isinstance(reply, str) else json.dumps(reply))
        yield LlmResponse(
            content=types.Content(role="model", parts=[part]),
            model_version=self.model,
            # rules read no tokens
            usage_metadata=types.GenerateContentResponseUsageMetadata(
                prompt_token_count=0, candidates_token_count=0, total_token_count=0
            ),
            finish_reason=types.FinishReason.STOP,
        )
