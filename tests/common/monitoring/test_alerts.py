"""Alerts over real HTTP on this machine: who is told what, when, and what is never shown."""

import io
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common.monitoring import alerts
from common.monitoring.alerts import News

SECRET = "t0psecret"  # noqa: S105 - looked for where it must not be
HOSTILE = "<script>alert(1)</script> @everyone <!channel> [here](http://evil.example) *bold*"


@dataclass
class Hook:
    """A web hook: what it was told, and how it answers."""

    port: int
    told: list[dict] = field(default_factory=list)
    status: int = 200
    delay: float = 0.0

    def url(self, path: str = SECRET, options: str = "") -> str:
        return f"json://user:{SECRET}@127.0.0.1:{self.port}/{path}{options}"


@pytest.fixture
def hook() -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(made.delay)
            made.told.append(json.loads(body))
            self.send_response(made.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Hook(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What a flow's log would hold; pytest's own also asks loggers that keep to themselves."""
    text = io.StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


def news(verdict: str, before: str | None = None, *sentences: str) -> News:
    return News("penguins", "3", verdict, before, sentences, "/state/reports/7/report.html")


def test_given_a_fail_then_a_hook_hears_it_in_words(hook):
    told, problems = alerts.tell(
        [hook.url()], news("fail", "pass", "mass has drifted", "sex is missing"), {}
    )

    assert problems == []
    assert told == {alerts.digest(hook.url()): "fail"}
    [message] = hook.told
    assert message["title"] == "penguins: fail (pass before)"
    assert message["type"] == "failure"
    assert message["message"].split("\n") == [
        "penguins version 3: pass → fail",
        "- mass has drifted",
        "- sex is missing",
        "Report: /state/reports/7/report.html",
    ]


def test_a_verdict_is_told_when_it_changes_and_only_then(hook):
    told: dict[str, str] = {}
    for verdict in ("pass", "pass", "fail", "fail", "warn", "pass", "pass"):
        told, problems = alerts.tell([hook.url()], news(verdict), told)
        assert problems == []

    assert [message["title"] for message in hook.told] == [
        "penguins: fail (pass before)",
        "penguins: warn (fail before)",
        "penguins: pass (warn before)",
    ]


@pytest.mark.parametrize(
    ("first", "expected"),
    [("pass", 0), ("no data", 0), ("not enough data", 0), ("warn", 1), ("fail", 1)],
)
def test_a_first_verdict_is_told_if_something_is_wrong(hook, first, expected):
    alerts.tell([hook.url()], news(first), {})
    assert len(hook.told) == expected


def test_given_a_target_that_refuses_then_only_it_is_told_again(hook):
    down = f"json://127.0.0.1:1/{SECRET}"
    urls = [hook.url(), down]

    told, problems = alerts.tell(urls, news("fail"), {})
    told_again, problems_again = alerts.tell(urls, news("fail"), told)

    assert len(hook.told) == 1
    assert told == told_again == {alerts.digest(hook.url()): "fail"}
    assert problems == problems_again
    assert problems[0].startswith("ALERT_URLS, target 2 (json): ")
    assert problems[0].endswith("; the next run tries again")


def test_given_a_target_that_is_named_twice_and_is_down_then_it_is_only_said():
    told, problems = alerts.tell(["json://127.0.0.1:1/"] * 2, news("fail"), {})

    assert told == {}
    assert set(problems) == {problems[0]}


def test_given_a_failed_delivery_of_a_later_verdict_then_the_older_one_is_what_it_heard(hook):
    told, _ = alerts.tell([hook.url()], news("fail"), {})
    hook.status = 500
    told, problems = alerts.tell([hook.url()], news("pass"), told)
    assert told == {alerts.digest(hook.url()): "fail"}
    assert "error=500" in problems[0]

    hook.status = 200
    told, problems = alerts.tell([hook.url()], news("pass"), told)
    assert problems == []
    assert hook.told[-1]["title"] == "penguins: pass (fail before)"


@pytest.mark.parametrize(
    "url",
    [
        f"nosuch://{SECRET}/path",
        f"slack://{SECRET}",
        SECRET,
        f"json://127.0.0.1:1/{SECRET}?token={SECRET}",
        f"json://user:{SECRET}@{SECRET}.invalid/",
    ],
)
def test_given_a_target_that_cannot_be_told_then_one_line_says_so_without_secrets(url, logged):
    told, problems = alerts.tell([url], news("fail"), {})

    assert told == {}
    assert len(problems) == 1
    assert "\n" not in problems[0]
    assert SECRET not in problems[0] + logged.getvalue()


def test_given_a_target_that_hangs_then_it_is_waited_for_no_longer_than_said(hook):
    hook.delay = 3.0
    began = time.monotonic()

    told, problems = alerts.tell([hook.url(), hook.url("b")], news("fail"), {}, seconds=0.5)

    assert time.monotonic() - began < 2.9
    assert told == {}
    assert [problem.split(": ")[1] for problem in problems] == [
        "no answer within 0.5 s; the next run tries again"
    ] * 2


@pytest.mark.parametrize("style", ["text", "html", "markdown"])
def test_what_came_with_requests_is_harmless_in_every_format(hook, style):
    alerts.tell([hook.url(options=f"?format={style}")], news("fail", None, HOSTILE), {})

    message = hook.told[0]["message"]
    assert "<script" not in message
    assert "<!channel" not in message
    assert "@everyone" not in message
    if style == "markdown":
        assert "\\[here\\]" in message


def test_many_sentences_are_cut_short(hook):
    alerts.tell([hook.url()], news("fail", None, *map(str, range(25))), {})
    lines = hook.told[0]["message"].split("\n")
    assert len(lines) == 1 + alerts.SHOWN_SENTENCES + 1 + 1
    assert "- and 15 more" in lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n", []),
        ("json://a/", ["json://a/"]),
        ("json://a/ json://b/", ["json://a/", "json://b/"]),
        ("json://a/,json://b/ , xml://c", ["json://a/", "json://b/", "xml://c"]),
        ("mailto://u:p@h?to=a@x,b@y,json://b", ["mailto://u:p@h?to=a@x,b@y", "json://b"]),
        ("json://a json://b, json://a", ["json://a", "json://b"]),
    ],
)
def test_urls_stand_apart_by_spaces_or_commas(text, expected):
    assert alerts.split(text) == expected


def test_nothing_of_a_url_is_left_in_a_text():
    url = "slack://bot@T0K-EN.a%20b/c1?x=hid"
    masked = alerts.mask("Failed for T0K-EN.a b with hid at c1: error=500", url)
    assert masked == "Failed for **** with **** at ****: error=500"


def test_sentences_of_what_failed_come_first():
    checks = [
        {"verdict": "warn", "sentence": "odd"},
        {"verdict": "pass", "sentence": "fine"},
        {"verdict": "fail", "sentence": "bad"},
    ]
    assert alerts.sentences("fail", checks) == ["bad", "odd"]
    assert alerts.sentences("pass", checks[1:2]) == []
    unknown = [{"verdict": "not enough data", "sentence": "3 rows"}, *checks[1:2]]
    assert alerts.sentences("not enough data", unknown) == ["3 rows"]


@pytest.mark.integration
def test_given_a_target_that_never_ends_then_the_process_ends_all_the_same():
    script = (
        "from common.monitoring.alerts import News, tell\n"
        "import sys\n"
        "news = News('penguins', '3', 'fail', None, [], '/state')\n"
        "print(tell([sys.argv[1]], news, {}, seconds=3.0)[1][0], flush=True)\n"
    )
    ended = threading.Event()

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            # a byte at a time, so that no time-out between two of them is ever reached
            while not ended.wait(0.2):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=[server])
        thread.start()
        url = f"json://127.0.0.1:{server.getsockname()[1]}/"
        command = [sys.executable, "-c", script, url]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
        finally:
            ended.set()
            thread.join()
    assert "no answer within 3 s" in done.stdout
