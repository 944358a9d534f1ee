import asyncio

import pytest
from google.adk.apps import App

from agents import embedded, models
from agents.embedded import Call
from inference.errors import AgentError, RetrievalError


class ServerError(Exception):
    def __init__(self, status_code):
        super().__init__(f"the server says {status_code}")
        self.status_code = status_code


@pytest.fixture
def _no_waiting(monkeypatch):
    monkeypatch.setattr(models, "FIRST_WAIT", 0)


@pytest.fixture
def fails(scripted):
    """Make a model that fails with each of some errors in turn, and then answers."""

    def make(*errors):
        left = list(errors)

        def reply(_):
            if left:
                raise left.pop(0)
            return "here I am"

        return scripted(reply)

    return make


@pytest.fixture
def ask(lone_agent, talk):
    def send(model, **options):
        agent = lone_agent(models.create_model(lambda _: "rules", model))
        return talk(App(name="lone", root_agent=agent), "hello", **options).text

    return send


def test_the_default_is_embedded_and_says_that_it_is_no_llm(monkeypatch):
    assert isinstance(models.create_model(lambda _: ""), embedded.EmbeddedLlm)
    assert models.create_model(lambda _: "").model == "embedded/rules (rules, not an LLM)"
    assert models.title(models.model_name()) == embedded.TITLE
    monkeypatch.setenv("AGENT_MODEL", "embedded/wisdom")
    with pytest.raises(AgentError, match=r"embedded/wisdom does not exist.*embedded/rules"):
        models.create_model(lambda _: "")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "kind"),
    [("gemini-2.5-flash", "Gemini"), ("openai/gpt-5", "LiteLlm"), ("ollama_chat/qwen3", "LiteLlm")],
)
def test_a_name_chooses_the_library(name, kind, monkeypatch):
    monkeypatch.setenv("AGENT_MODEL", name)
    model = models.create_model(lambda _: "")
    assert (type(model.delegate).__name__, model.model) == (kind, name)


def test_the_embedded_model_calls_only_what_it_is_offered(lone_agent, talk):
    agent = lone_agent(models.create_model(lambda _: Call("format_disk", {})))
    with pytest.raises(AgentError, match="asked for tool 'format_disk'; offered: none"):
        talk(App(name="lone", root_agent=agent), "hello")


@pytest.mark.usefixtures("_no_waiting")
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status, fails, ask):
    model = fails(ServerError(status), ServerError(status))
    assert ask(model) == "here I am"
    assert len(model.seen) == 3


@pytest.mark.usefixtures("_no_waiting")
def test_attempts_end(fails, ask):
    model = fails(*[ServerError(503)] * 9)
    with pytest.raises(AgentError, match=r"model scripted answered 503 3 times.*try again later"):
        ask(model)
    assert len(model.seen) == 3


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ServerError(401), "got no valid key: set SCRIPTED_API_KEY"),
        (ServerError(404), "set AGENT_MODEL to a model that it serves"),
        (ValueError("No API key was provided"), "set SCRIPTED_API_KEY"),
        (
            ConnectionRefusedError("no"),
            "cannot be reached at its server: start it, or set AGENT_API_BASE",
        ),
        (KeyError("choices"), "failed, at its server: KeyError: 'choices'"),
    ],
)
def test_other_errors_are_told_at_once_in_one_line(error, said, fails, ask):
    model = fails(error)
    with pytest.raises(AgentError) as told:
        ask(model)
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert len(model.seen) == 1


def test_an_error_of_this_project_stays_what_it_is(fails, ask):
    with pytest.raises(RetrievalError, match="run `just index`"):
        ask(fails(RetrievalError("there is no index; run `just index`")))


def test_a_model_that_says_nothing_for_too_long_is_left(scripted, ask, monkeypatch):
    class Slow(type(scripted(""))):
        async def generate_content_async(self, *_):
            await asyncio.sleep(60)
            yield

    monkeypatch.setattr(models, "CALL_SECONDS", 0.01)
    with pytest.raises(AgentError, match=r"model scripted did not answer within 0\.01 s"):
        ask(Slow(reply=str))


def test_an_answer_is_cut(scripted, ask):
    assert len(ask(scripted("a" * 1_000_000))) == models.MAX_ANSWER
