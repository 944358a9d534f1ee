"""One setting for the model, AGENT_MODEL, and the limits that hold for each call of it."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncGenerator

from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.models.base_llm import LlmCapabilities
from pydantic import Field
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)

from agents import embedded
from inference.errors import AgentError, RookeryError

# Seconds for one answer: hosted models that think take most of it.
CALL_SECONDS = 60.0
ATTEMPTS = 3
# Seconds before the second attempt; doubled before the third.
FIRST_WAIT = 0.5
# Characters of one answer: no agent here needs more, and what checks answers reads them whole.
MAX_ANSWER = 20_000
BUSY = 429
SERVER_ERRORS = range(500, 600)
STATUS_REASONS = {
    400: "refused the request: {reason}",
    401: "got no valid key: set {keys}",
    403: "got no valid key: set {keys}",
    404: "is not known there: set AGENT_MODEL to a model that it serves ({reason})",
}


def model_name() -> str:
    """Return the name that AGENT_MODEL sets."""
    return os.environ.get("AGENT_MODEL") or embedded.NAME


def title(model: str | BaseLlm) -> str:
    """Return what people read as a model's name."""
    name = model if isinstance(model, str) else model.model
    return embedded.TITLE if name == embedded.NAME else name


def create_model(policy: embedded.Policy, model: str | BaseLlm | None = None) -> BaseLlm:
    """Make an agent's model.

    Args:
        policy: The agent's rules, where the model is embedded/rules.
        model: Its name, or one that is made already; AGENT_MODEL without it.

    Raises:
        AgentError: A name starts with embedded/, and is not the one that exists.
    """
    chosen = model or model_name()
    if isinstance(chosen, BaseLlm):
        return Limited(model=chosen.model, delegate=chosen)
    if chosen == embedded.NAME:
        return embedded.EmbeddedLlm(policy=policy)
    if chosen.startswith("embedded/"):
        raise AgentError(f"AGENT_MODEL: {chosen} does not exist; the embedded one: {embedded.NAME}")
    return Limited(model=chosen, delegate=remote(chosen))


def remote(name: str) -> BaseLlm:
    """Make the model of this name: ADK's own for Gemini, LiteLLM's for all others."""
    base = os.environ.get("AGENT_API_BASE") or None
    if name.startswith("gemini-"):
        from google.adk.models import Gemini  # noqa: PLC0415 - a second

        return Gemini(model=name, base_url=base)
    import litellm  # noqa: PLC0415 - 6 s
    from google.adk.models.lite_llm import LiteLlm  # noqa: PLC0415 - a second

    # it would print advice about its own errors
    litellm.suppress_debug_info = True
    return LiteLlm(
        model=name,
        api_base=base,
        # attempts are counted here, and not by each library in its own way
        max_retries=0,
        num_retries=0,
        # where tools are offered, it would import the package mcp, which it does not install
        _skip_mcp_handler=True,
    )


class Limited(BaseLlm):
    """A model with a time-out, attempts with back-off, a longest answer, and errors in one line.

    It streams nothing: what is not checked yet is not to be shown.
    """

    delegate: BaseLlm = Field(exclude=True)

    @property
    def capabilities(self) -> LlmCapabilities:
        """What the model behind it can do."""
        return self.delegate.capabilities

    async def generate_content_async(
        self,
        llm_request: LlmRequest,
        stream: bool = False,  # noqa: ARG002, FBT001, FBT002 - ADK's signature
    ) -> AsyncGenerator[LlmResponse, None]:
        """Ask the model.

        Raises:
            AgentError: It did not answer; says what to set.
        """
        responses: list[LlmResponse] = []
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(is_transient),
                wait=wait_exponential_jitter(initial=FIRST_WAIT, max=10, jitter=FIRST_WAIT),
                stop=stop_after_attempt(ATTEMPTS),
                reraise=True,
            ):
                with attempt:
                    async with asyncio.timeout(CALL_SECONDS):
                        answers = self.delegate.generate_content_async(llm_request)
                        responses = [response async for response in answers]
        except Exception as error:
            raise explain(error, self.model) from error
        for response in responses:
            yield shorten(response)


def shorten(response: LlmResponse) -> LlmResponse:
    """Cut what a model wrote to MAX_ANSWER characters."""
    for part in (response.content and response.content.parts) or []:
        if part.text and len(part.text) > MAX_ANSWER:
            part.text = part.text[:MAX_ANSWER]
    return response


def status(error: BaseException) -> int | None:
    """Return the HTTP status in an error of LiteLLM's (status_code) or Google's client (code)."""
    for name in ("status_code", "code"):
        if isinstance(value := getattr(error, name, None), int):
            return value
    return None


def is_unreachable(error: BaseException | None) -> bool:
    """Whether an error comes of a server to which there is no connection.

    The libraries wrap it, each in another way, and LiteLLM gives it the status 500.
    """
    while error is not None:
        if "Connect" in type(error).__name__ and "APIConnection" not in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


def is_transient(error: BaseException) -> bool:
    """Whether the same request may be answered a moment later."""
    code = status(error)
    return (code == BUSY or code in SERVER_ERRORS) and not is_unreachable(error)


def explain(error: Exception, model: str) -> RookeryError:
    """Say in one line why a model did not answer, and what to set."""
    if isinstance(error, RookeryError):
        return error
    reason = re.sub(r"\s+", " ", str(error)).strip()[:200] or type(error).__name__
    server = os.environ.get("AGENT_API_BASE") or "its server"
    code = status(error)
    if isinstance(error, TimeoutError):
        limit = f"{CALL_SECONDS:g} s"
        text = f"did not answer within {limit}: try again, or set AGENT_MODEL to a faster one"
    elif "api key" in reason.lower() or "api_key" in reason.lower():
        text = STATUS_REASONS[401].format(keys=missing_keys(model))
    elif "LLM Provider NOT provided" in reason:
        text = "names no provider: set AGENT_MODEL to provider/model, such as openai/gpt-5"
    elif is_unreachable(error):
        text = f"cannot be reached at {server}: start it, or set AGENT_API_BASE to where it is"
    elif code in STATUS_REASONS:
        text = STATUS_REASONS[code].format(reason=reason, keys=missing_keys(model))
    elif is_transient(error):
        text = f"answered {code} {ATTEMPTS} times, at {server}: try again later ({reason})"
    else:
        text = f"failed, at {server}: {type(error).__name__}: {reason}"
    return AgentError(f"model {model} {text}")


def missing_keys(model: str) -> str:
    """Name the variables that the key of a model's provider is expected in."""
    if model.startswith("gemini-"):
        return "GOOGLE_API_KEY"
    litellm = sys.modules.get("litellm")
    missing = litellm.validate_environment(model)["missing_keys"] if litellm else []
    provider = re.sub(r"\W", "_", model.partition("/")[0].removesuffix("_chat")).upper()
    return " and ".join(missing) or f"{provider}_API_KEY"
