"""The real road to a model through LiteLLM, up to a server of its own on this machine.

The server speaks the formats of OpenAI and Ollama, and says what a test has it say.
"""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.adk.apps import App

from agents import models
from agents.rag.agent import create_workflow
from agents.tic_tac_toe.agent import create_game
from inference.errors import AgentError

pytestmark = pytest.mark.integration  # LiteLLM takes 6 s to import

OLLAMA_CHAT, OLLAMA_SHOW = "/api/chat", "/api/show"
NAMES = {"openai": "openai/house-model", "ollama": "ollama_chat/house-model"}


class Server(ThreadingHTTPServer):
    """Answers each request with what `say` returns: text, (tool, arguments), bytes, or a status."""

    daemon_threads = True

    def __init__(self, say: Callable[[dict], object]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.say, self.seen = say, []
        self.leave = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send(200, b"{}")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == OLLAMA_SHOW:
            about = {"template": "{{ .Tools }}", "model_info": {}, "capabilities": ["tools"]}
            self.send(200, json.dumps(about).encode())
            return
        self.server.seen.append(body)
        said = self.server.say(body)
        if isinstance(said, int):
            self.send(said, b'{"error": {"message": "not now", "type": "server_error"}}')
        elif isinstance(said, bytes):
            self.send(200, said)
        else:
            answer = ollama(body, said) if self.path == OLLAMA_CHAT else openai(body, said)
            self.send(200, json.dumps(answer).encode())

    def send(self, status: int, body: bytes):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def openai(body: dict, said: object) -> dict:
    """Return an answer in the format of OpenAI's chat completions."""
    message = {"role": "assistant", "content": said if isinstance(said, str) else None}
    if isinstance(said, tuple):
        name, arguments = said
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        call = {"name": name, "arguments": text}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": call}]
    reason = "tool_calls" if isinstance(said, tuple) else "stop"
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def ollama(body: dict, said: object) -> dict:
    """Return an answer in Ollama's own format."""
    message: dict = {"role": "assistant", "content": said if isinstance(said, str) else ""}
    if isinstance(said, tuple):
        message["tool_calls"] = [{"function": {"name": said[0], "arguments": said[1]}}]
    return {
        "model": body["model"],
        "created_at": "2026-01-01T00:00:00Z",
        "message": message,
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 7,
        "eval_count": 3,
    }


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., Server]]:
    """Start a server that says something, and point the settings at it."""
    servers = []

    def start(say, provider="openai") -> Server:
        server = Server(say if callable(say) else lambda _: say)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AGENT_MODEL", NAMES[provider])
        monkeypatch.setenv("AGENT_API_BASE", address + ("/v1" if provider == "openai" else ""))
        monkeypatch.setenv("OPENAI_API_KEY", "nobody's")
        monkeypatch.setattr(models, "FIRST_WAIT", 0.01)
        return server

    yield start
    for server in servers:
        server.leave.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def ask(talk):
    """Ask the workflow, over one passage."""

    class Found:
        source, heading, text = "docs/birds.md", "Birds > Feeding", "Penguins eat krill."

    def send(question="What do penguins eat?"):
        app = App(name="rag", root_agent=create_workflow(lambda *_: [Found]))
        return talk(app, question)

    return send


def text_of(message: dict) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def answer(body: dict) -> object:
    """Ask for passages, quote the first, and format nothing."""
    if not body.get("tools"):
        return "<p></p>"
    told = [message for message in body["messages"] if message["role"] == "tool"]
    if not told:
        return ("retrieve", {"query": "penguins"})
    return json.loads(text_of(told[-1]))["passages"][0]["text"] + " [1]"


@pytest.mark.parametrize("provider", NAMES)
def test_questions_are_answered_through_tools(provider, serve, ask):
    server = serve(answer, provider)
    told = ask()
    assert told.calls == [("retrieve", {"query": "penguins"})]
    assert told.text.startswith("Penguins eat krill. [1]")
    assert told.text.endswith(f"*Answered by {NAMES[provider]}.*")
    assert told.tokens == 30
    assert [len(body.get("tools") or []) for body in server.seen] == [1, 1, 0]
    assert server.seen[0]["tools"][0]["function"]["name"] == "retrieve"


def move(body: dict) -> object:
    """Play the last free cell, the way in which the request wants a structured answer."""
    system = next(text_of(told) for told in body["messages"] if told["role"] == "system")
    cells = system.partition("free cell: ")[2][:9]
    chosen = {"cell": cells.rindex("."), "reason": "the last one"}
    names = {tool["function"]["name"] for tool in body["tools"]}
    return ("set_model_response", chosen) if "set_model_response" in names else json.dumps(chosen)


@pytest.mark.parametrize(("provider", "structured"), [("openai", True), ("ollama", False)])
def test_moves_are_structured_answers(provider, structured, serve, talk):
    server = serve(move, provider)
    game = create_game(
        {"X": None, "O": "embedded/rules"}, {"X": "unaided", "O": "perfect"}, silent=True
    )
    told = talk(App(name="tic_tac_toe", root_agent=game), "play")
    assert told.state["mended"] == {}
    assert told.state["moves"][0]["cell"] == 8
    assert told.state["moves"][0]["tokens"] == 10
    # both ways of asking for a structured answer are taken
    schemas = [body.get("response_format") or body.get("format") for body in server.seen]
    assert all(bool(schema) is structured for schema in schemas)


def test_arguments_that_are_no_json_are_mended(serve, talk):
    serve(lambda _: ("best_move", '{"cell": '))
    game = create_game(
        {"X": None, "O": "embedded/rules"}, {"X": "unaided", "O": "perfect"}, silent=True
    )
    told = talk(App(name="tic_tac_toe", root_agent=game), "play")
    assert told.state["mended"]["X"] == sum(move["mark"] == "X" for move in told.state["moves"])


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(status, provider, serve, ask):
    left = [status, status]
    server = serve(lambda body: left.pop() if left else answer(body), provider)
    assert ask().state["status"] == "answered"
    assert len(server.seen) == 5


def test_a_server_that_stays_busy_is_left(serve, ask):
    server = serve(503)
    with pytest.raises(AgentError, match=r"model openai/house-model answered 503 3 times, at http"):
        ask()
    assert len(server.seen) == 3


@pytest.mark.parametrize("provider", NAMES)
def test_a_slow_server_is_left(provider, serve, ask, monkeypatch):
    server = serve(lambda _: server.leave.wait(60), provider)
    monkeypatch.setattr(models, "CALL_SECONDS", 0.5)
    with pytest.raises(AgentError, match=r"house-model did not answer within 0\.5 s"):
        ask()
    assert len(server.seen) == 1


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("said", [b"", b'{"choices": [', b"{}", b"<html>", b"[]"])
def test_an_answer_that_is_none_is_told_in_one_line(said, provider, serve, ask):
    serve(said, provider)
    with pytest.raises(AgentError, match=r"^model (openai|ollama_chat)/house-model .*$") as told:
        ask()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "said"), [(401, "set OPENAI_API_KEY"), (404, "set AGENT_MODEL")]
)
def test_a_refusal_names_the_variable_to_set(status, said, serve, ask):
    server = serve(status)
    with pytest.raises(AgentError, match=said):
        ask()
    assert len(server.seen) == 1


def test_a_missing_key_is_named_before_anything_is_sent(serve, ask, monkeypatch):
    server = serve(answer)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(AgentError, match="got no valid key: set OPENAI_API_KEY"):
        ask()
    assert server.seen == []


@pytest.mark.parametrize("provider", NAMES)
def test_a_server_that_is_not_there_is_named(provider, serve, ask, monkeypatch, free_port):
    serve(answer, provider)
    monkeypatch.setenv("AGENT_API_BASE", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(AgentError, match=r"cannot be reached at http://127\.0\.0\.1:\d+: start it"):
        ask()
