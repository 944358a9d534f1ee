"""Text as vectors, embedded and over the wire."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from common import embeddings
from common.embeddings import EMBEDDED, LiteLlm, TfIdf, create_embedder
from inference.errors import RetrievalError

TEXTS = ["penguins eat krill", "the server listens on a port", "krill is food for penguins"]
MODEL = "openai/small"


@pytest.fixture
def fitted():
    """TF-IDF that knows three texts."""
    embedder = TfIdf()
    embedder.fit(TEXTS)
    return embedder


def test_vectors_have_length_1_and_say_what_is_alike(fitted):
    vectors = fitted.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1] + 0.3


def test_a_text_with_nothing_known_has_no_direction(fitted):
    assert not fitted.embed(["", "zzz qqq"]).any()


def test_fitting_again_gives_the_same_vectors(fitted):
    other = TfIdf()
    other.fit(TEXTS)
    np.testing.assert_array_equal(other.embed(TEXTS), fitted.embed(TEXTS))


def test_what_is_saved_embeds_as_before(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = create_embedder(EMBEDDED)
    loaded.load(tmp_path)
    np.testing.assert_array_equal(loaded.embed(TEXTS), fitted.embed(TEXTS))
    np.testing.assert_array_equal(loaded.embed_query(TEXTS[0]), fitted.embed(TEXTS)[0])


def test_one_text_is_enough():
    embedder = TfIdf()
    embedder.fit(["penguins eat krill"])
    assert embedder.embed(["krill"])[0] @ embedder.embed(["penguins"])[0] == pytest.approx(1)


def test_of_many_texts_some_are_learnt_from(monkeypatch):
    monkeypatch.setattr(TfIdf, "SAMPLE", 20)
    texts = [f"number {number} of {name}" for number in range(30) for name in ("krill", "squid")]
    embedder = TfIdf()
    embedder.fit(texts)
    assert np.linalg.norm(embedder.embed(texts), axis=1) == pytest.approx(1, abs=1e-5)


def test_an_embedded_model_that_does_not_exist_is_refused():
    with pytest.raises(RetrievalError, match=r"embedded/other does not exist.*embedded/tfidf"):
        create_embedder("embedded/other")


class Server(ThreadingHTTPServer):
    """An embedding service as OpenAI's: what it was asked, and what it is to answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict] = []
        self.statuses: list[int] = []
        self.answer = None
        self.seconds = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """Answers with the lengths of the texts and of their words."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(request)
        time.sleep(self.server.seconds)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        rows = [
            {"object": "embedding", "index": place, "embedding": [len(text), text.count(" ")]}
            for place, text in enumerate(request["input"])
        ]
        answer = {
            "object": "list",
            "model": "small",
            "data": rows,
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
        if status != 200:
            answer = {"error": {"message": "not now", "type": "server_error", "code": None}}
        body = json.dumps(self.server.answer or answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    """An embedding service on this machine, to which LiteLLM is led."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("EMBEDDING_API_BASE", made.url)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setattr(LiteLlm, "FIRST_WAIT", 0.01)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def remote(server, tmp_path):
    """An embedder that asks the service, and its cache."""
    return LiteLlm(MODEL, tmp_path / "cache.db")


@pytest.mark.integration
class TestLiteLlm:
    def test_texts_are_sent_in_batches(self, server, remote, monkeypatch):
        monkeypatch.setattr(LiteLlm, "BATCH", 2)
        vectors = remote.embed(TEXTS)
        assert [request["input"] for request in server.asked] == [TEXTS[:2], TEXTS[2:]]
        assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
        expected = np.array([len(TEXTS[2]), TEXTS[2].count(" ")])
        assert vectors[2] == pytest.approx(expected / np.linalg.norm(expected))

    def test_what_was_paid_is_not_paid_again(self, server, remote, tmp_path):
        first = remote.embed([*TEXTS, TEXTS[0]])
        assert server.asked[0]["input"] == TEXTS
        again = LiteLlm(MODEL, tmp_path / "cache.db").embed([*TEXTS, TEXTS[0]])
        np.testing.assert_array_equal(again, first)
        assert len(server.asked) == 1
        remote.embed(["new", TEXTS[1]])
        assert server.asked[1]["input"] == ["new"]
        LiteLlm("openai/large", tmp_path / "cache.db").embed(TEXTS)
        assert len(server.asked) == 3

    def test_a_batch_that_was_paid_survives_the_failure_of_the_next(
        self, server, remote, monkeypatch
    ):
        monkeypatch.setattr(LiteLlm, "BATCH", 2)
        server.statuses = [200, 400]
        with pytest.raises(RetrievalError):
            remote.embed(TEXTS)
        remote.embed(TEXTS)
        assert [request["input"] for request in server.asked] == [TEXTS[:2], TEXTS[2:], TEXTS[2:]]

    def test_questions_are_not_kept(self, server, remote):
        assert remote.embed_query("a b").shape == (2,)
        remote.embed_query("a b")
        assert len(server.asked) == 2

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_busy_service_is_asked_again(self, server, remote, status):
        server.statuses = [status, status]
        assert remote.embed(["text"]).shape == (1, 2)
        assert len(server.asked) == 3

    def test_a_service_that_stays_busy_is_said_in_one_line(self, server, remote):
        server.statuses = [503] * 10
        with pytest.raises(RetrievalError, match=r"openai/small did not answer at http") as caught:
            remote.embed(["text"])
        assert len(server.asked) == LiteLlm.ATTEMPTS
        assert "\n" not in str(caught.value)

    def test_a_wrong_key_is_not_tried_again(self, server, remote):
        server.statuses = [401] * 10
        with pytest.raises(RetrievalError, match="got no valid key: set"):
            remote.embed(["text"])
        assert len(server.asked) == 1

    def test_a_slow_service_is_given_up(self, server, remote, monkeypatch):
        monkeypatch.setattr(LiteLlm, "SECONDS", 0.2)
        monkeypatch.setattr(LiteLlm, "ATTEMPTS", 2)
        server.seconds = 0.6
        with pytest.raises(RetrievalError, match="did not answer"):
            remote.embed_query("text")

    @pytest.mark.parametrize(
        "answer",
        [
            {"data": []},
            {"choices": []},
            {"data": [{"embedding": [1]}, {"embedding": [1, 2]}]},
            {"data": [{"embedding": "text"}]},
        ],
    )
    def test_an_answer_that_is_no_embedding_is_said(self, server, remote, answer):
        server.answer = answer
        with pytest.raises(RetrievalError, match="openai/small"):
            remote.embed(["text"])

    def test_a_long_text_is_cut_for_the_model(self, server, remote):
        remote.embed(["x" * 100_000, ""])
        assert [len(text) for text in server.asked[0]["input"]] == [LiteLlm.CHARACTERS, 1]

    def test_a_missing_key_names_its_variable(self, tmp_path, monkeypatch):
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.setenv("EMBEDDING_API_BASE", "")
        with pytest.raises(
            RetrievalError, match=r"^embedding model .* set OPENAI_API_KEY in .env$"
        ):
            LiteLlm("openai/text-embedding-3-small", tmp_path / "cache.db").embed(["text"])

    def test_a_server_that_is_not_there_is_named(self, free_port, tmp_path, monkeypatch):
        monkeypatch.setattr(LiteLlm, "FIRST_WAIT", 0.01)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        monkeypatch.setenv("EMBEDDING_API_BASE", f"http://127.0.0.1:{free_port()}/v1")
        with pytest.raises(RetrievalError, match="EMBEDDING_API_BASE") as caught:
            LiteLlm(MODEL, tmp_path / "cache.db").embed(["text"])
        assert "\n" not in str(caught.value)

    def test_an_index_is_built_with_it(self, server, monkeypatch, tmp_path):
        monkeypatch.setenv("ROOKERY_STATE", str(tmp_path))
        from common.retrieval import Index  # noqa: PLC0415 - beside what it tests

        index, embedded = Index.build({"docs/a.md": b"# A\n\nkrill\n\n# B\n\nsquid\n"}, model=MODEL)
        assert (embedded, len(server.asked)) == (2, 1)
        assert index.search("krill")[0].heading == "A"


def test_the_model_s_name_is_the_variable_s(monkeypatch):
    monkeypatch.setenv("EMBEDDING_MODEL", "")
    assert embeddings.model_name() == EMBEDDED
    monkeypatch.setenv("EMBEDDING_MODEL", MODEL)
    assert isinstance(create_embedder(embeddings.model_name()), LiteLlm)
