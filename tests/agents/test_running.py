import asyncio

import pytest
from google.adk.agents import BaseAgent
from google.adk.apps import App
from google.adk.sessions import InMemorySessionService

from agents.running import run
from inference.errors import AgentError


@pytest.fixture
def make_app(lone_agent):
    def make(model, tools=()):
        agent = lone_agent(model)
        agent.tools = list(tools)
        return App(name="lone", root_agent=agent)

    return make


def look(word: str) -> dict:
    """Look a word up."""
    return {"meaning": f"of {word}"}


def test_a_run_tells_what_was_said_and_called(make_app, scripted, results, talk):
    model = scripted(lambda asked: "found" if results(asked) else ("look", {"word": "krill"}))
    seen = []
    told = talk(make_app(model, [look]), "hello", on_event=seen.append)
    assert (told.text, told.calls) == ("found", [("look", {"word": "krill"})])
    assert [event.author for event in seen] == ["lone"] * 3
    assert told.tokens == 0
    assert told.seconds > 0


def test_a_model_that_goes_in_circles_is_stopped(make_app, scripted, talk):
    model = scripted(("look", {"word": "krill"}))
    with pytest.raises(AgentError, match="stopped after 5 model calls without an end"):
        talk(make_app(model, [look]), "hello", max_calls=5)
    assert len(model.seen) == 5


def test_a_model_is_told_that_a_tool_does_not_exist(make_app, scripted, results, talk):
    model = scripted(
        lambda asked: results(asked)["fly"]["error"] if results(asked) else ("fly", {})
    )
    assert "`fly()` failed as no tool with that name" in talk(make_app(model, [look]), "hello").text


def test_a_tool_that_fails_ends_the_run_in_one_line(make_app, scripted, talk):
    def look(word: str) -> dict:
        """Look a word up."""
        raise OSError(f"{word}:\nno such entry")

    with pytest.raises(AgentError, match=r"^the agent failed: OSError: krill: no such entry$"):
        talk(make_app(scripted(("look", {"word": "krill"})), [look]), "hello")


def test_a_run_ends_in_time(talk):
    class Sleeper(BaseAgent):
        async def _run_async_impl(self, _):
            await asyncio.sleep(60)
            yield

    with pytest.raises(AgentError, match=r"stopped after 0\.05 s"):
        talk(App(name="sleeper", root_agent=Sleeper(name="sleeper")), "hello", seconds=0.05)


def test_two_users_see_nothing_of_each_other(make_app, scripted):
    """Both at once, in sessions of the same name."""

    def repeat(request):
        said = [part.text for content in request.contents for part in content.parts if part.text]
        return " ".join(said)

    async def both():
        sessions, app = InMemorySessionService(), make_app(scripted(repeat))
        for round_ in ("1", "2"):
            runs = [
                run(app, f"I am {user}{round_}", user=user, sessions=sessions)
                for user in ("Ann", "Bob")
            ]
            told = await asyncio.gather(*runs)
        return [one.text for one in told]

    ann, bob = asyncio.run(both())
    assert "Ann1" in ann
    assert "Bob" not in ann
    assert "Bob1" in bob
    assert "Ann" not in bob
