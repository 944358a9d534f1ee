"""What the service refuses, whom it cuts off, and what it writes down about all of it."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inference import launcher
from inference.errors import BackendError
from inference.logs import AccessLog
from inference.server import SETTINGS_VARIABLE

pytestmark = pytest.mark.integration

JSON = {"content-type": "application/json"}
TOKEN = "a-token-that-nobody-guesses"  # noqa: S105 - of these tests alone


@pytest.fixture
def serve(make_local, release, tmp_path, monkeypatch):
    """Serve version 1: `serve(environment, **settings)`; it is stopped at the end."""
    started = []

    def start(environment=None, **settings):
        for name, value in (environment or {}).items():
            monkeypatch.setenv(name, value)
        backend = make_local(tmp_path, **settings)
        started.append(backend)
        backend.deploy(release("1"))
        return backend

    yield start
    for backend in started:
        launcher.stop(backend.folder)


def ask(backend, method, path, body=None, headers=JSON):
    """Send one request over a connection of its own: status, headers, body."""
    with closing(http.client.HTTPConnection(*address(backend), timeout=30)) as opened:
        opened.request(method, path, body, dict(headers))
        response = opened.getresponse()
        return response.status, response.headers, response.read()


def address(backend):
    return launcher.address(backend.settings.target)


def predict(backend, *records, headers=JSON):
    body = json.dumps({"dataframe_records": list(records)}).encode()
    return ask(backend, "POST", "/invocations", body, headers)


def read_until_closed(opened):
    """Read what is sent until the connection ends, in whatever way; None if that takes too long."""
    received = b""
    try:
        while chunk := opened.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    except TimeoutError:
        return None
    return received


def counts(backend):
    """The service's metrics: (name, values of its labels in their order) to value."""
    status, headers, text = ask(backend, "GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    return pytest.fail(f"did not happen within {seconds} s")


class TestToken:
    def test_who_has_it(self, serve, record):
        backend = serve({"SERVING_TOKEN": TOKEN})
        for headers in (
            {},
            {"authorization": TOKEN},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer "},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": f"Bearer {TOKEN[:-1]}"},
            {"authorization": "Bearer \u00fc".encode("latin-1")},
        ):
            status, answered, body = predict(backend, record, headers=JSON | headers)
            assert status == 401
            assert answered["www-authenticate"] == "Bearer"
            assert json.loads(body)["error"]["code"] == "unauthorized"
            assert TOKEN not in body.decode()
        for scheme in ("Bearer", "bearer"):
            headers = JSON | {"authorization": f"{scheme} {TOKEN}"}
            assert predict(backend, record, headers=headers)[0] == 200
        # what tells nothing about anybody is open
        for path in ("/ping", "/version", "/metrics"):
            assert ask(backend, "GET", path)[0] == 200
        _, _, described = ask(backend, "GET", "/openapi.json")
        assert json.loads(described)["paths"]["/invocations"]["post"]["security"]
        # the project's own clients find it where the server does
        assert backend.invoke([record]).model_version == "1"
        assert TOKEN not in backend.folder.log_file.read_text()

    def test_without_one_anybody_may_ask(self, serve, record):
        backend = serve({"SERVING_TOKEN": ""})
        assert predict(backend, record)[0] == 200
        assert predict(backend, record, headers=JSON | {"authorization": "Bearer x"})[0] == 200


class TestOverload:
    def test_beyond_the_queue_requests_are_refused_at_once(self, serve, record):
        backend = serve(max_waiting=2)
        with ThreadPoolExecutor(12) as clients:
            many = [record] * 5000
            answers = list(clients.map(lambda _: predict(backend, *many), range(24)))
        statuses = Counter(status for status, _, _ in answers)
        assert statuses.keys() == {200, 503}
        for status, headers, body in answers:
            if status == 503:
                assert headers["retry-after"] == "1"
                assert json.loads(body)["error"]["code"] == "overloaded"
        # what was refused was not predicted either
        with closing(sqlite3.connect(backend.settings.database)) as database:
            [(rows,)] = database.execute("SELECT COUNT(*) FROM predictions")
        assert rows == 5000 * statuses[200] + 1 or rows == 5000 * statuses[200]
        assert predict(backend, record)[0] == 200

    def test_a_thousand_idle_connections(self, serve, record):
        backend = serve()
        with ExitStack() as idle:
            for _ in range(1000):
                idle.enter_context(socket.create_connection(address(backend), timeout=10))
            assert predict(backend, record)[0] == 200
        assert predict(backend, record)[0] == 200


class TestSlowClients:
    @pytest.fixture
    def backend(self, serve):
        return serve(timeout=1.0)

    @pytest.fixture
    def opened(self, backend):
        with closing(socket.create_connection(address(backend), timeout=10)) as opened:
            yield opened

    def test_no_request_at_all(self, opened):
        assert read_until_closed(opened) == b""

    def test_headers_that_do_not_end(self, opened):
        opened.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\n")
        assert read_until_closed(opened) == b""

    def test_headers_byte_by_byte(self, opened):
        """That something comes again and again does not make it quick."""
        opened.settimeout(0.2)
        started = time.monotonic()
        received = None
        while received is None and time.monotonic() < started + 8:
            try:
                opened.sendall(b"x")
            except OSError:
                received = b""
            else:
                received = read_until_closed(opened)
        # cut, or told that this is no HTTP
        assert received is not None
        assert b" 200 " not in received

    def test_body_that_does_not_come(self, opened):
        opened.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b'content-length: 100\r\n\r\n{"inputs"'
        )
        head, _, body = read_until_closed(opened).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in head
        assert b"connection: close" in head
        assert json.loads(body)["error"]["code"] == "unavailable"

    def test_rest_of_a_refused_body_that_does_not_come(self, opened):
        opened.sendall(
            b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b'content-length: 100000000\r\n\r\n{"inputs"'
        )
        assert read_until_closed(opened).startswith(b"HTTP/1.1 413 ")

    def test_second_request_that_does_not_end(self, opened):
        opened.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\nGET /ping HTTP/1.1\r\n")
        assert read_until_closed(opened).count(b"HTTP/1.1 200 ") == 1

    def test_answers_that_nobody_reads(self, serve, record):
        backend = serve(timeout=3.0)
        body = json.dumps({"inputs": [record] * 2000}).encode()
        head = "POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        with closing(socket.socket()) as opened:
            # what the client's kernel does not take waits in the server's, and then in the server
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.connect(address(backend))
            opened.settimeout(8)
            with suppress(OSError):
                for _ in range(60):
                    opened.sendall(request)
            received = read_until_closed(opened)
        assert received is not None
        assert 0 < received.count(b"HTTP/1.1 200 ") < 60
        assert predict(backend, record)[0] == 200

    def test_patient_ones_are_served(self, backend, record):
        body = json.dumps({"inputs": [record]}).encode()
        with closing(http.client.HTTPConnection(*address(backend), timeout=10)) as opened:
            for _ in range(3):
                opened.request("POST", "/invocations", body, JSON)
                assert opened.getresponse().read()
                # longer than the timeout: between requests a connection may rest
                time.sleep(1.5)
            assert opened.sock is not None


def test_headers_without_end(serve):
    backend = serve()
    with closing(socket.create_connection(address(backend), timeout=10)) as opened:
        opened.sendall(b"GET /ping HTTP/1.1\r\n" + b"a: b\r\n" * 20_000)
        received = read_until_closed(opened)
    # the kernel may drop the answer together with the connection
    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")


CHUNKED = (
    b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def takes(backend, opened, piece, most=20_000_000):
    """Send a piece again and again; whether the service took that many bytes.

    What the kernel holds of them is some megabytes.
    """
    sent = 0
    with suppress(ConnectionError):
        while sent < most:
            opened.sendall(piece)
            sent += len(piece)
    assert ask(backend, "GET", "/ping")[0] == 200
    return sent >= most


class TestConnectionsWithoutEnd:
    @pytest.fixture
    def backend(self, serve):
        return serve()

    @pytest.fixture
    def opened(self, backend):
        with closing(socket.create_connection(address(backend), timeout=20)) as opened:
            yield opened

    @pytest.mark.parametrize(
        ("start", "piece"),
        [
            (b"0\r\n", b"a: b\r\n" * 10_000),
            (b"1\r\n{\r\n0\r\n", b"a: b\r\n" * 10_000),
            (b"1\r\n{\r\n0\r\na: ", b"b" * 60_000),
            (b"1\r\n{\r\n1;", b"b" * 60_000),
        ],
        ids=["trailers alone", "trailers", "one trailer", "extension of a chunk"],
    )
    def test_after_the_body(self, backend, opened, start, piece):
        opened.sendall(CHUNKED + start)
        assert not takes(backend, opened, piece)

    def test_trailers_after_a_refusal(self, backend, opened):
        opened.sendall(CHUNKED.replace(b"/invocations", b"/nowhere") + b"1\r\n{\r\n")
        assert opened.recv(65536).startswith(b"HTTP/1.1 404 ")
        opened.sendall(b"0\r\n")
        assert not takes(backend, opened, b"a: b\r\n" * 10_000)

    def test_few_trailers(self, opened, record):
        body = json.dumps({"inputs": [record]}).encode()
        opened.sendall(CHUNKED + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n")
        time.sleep(0.2)
        opened.sendall(b"a: b\r\n" * 5_000 + b"\r\n")
        assert opened.recv(65536).startswith(b"HTTP/1.1 200 ")

    def test_body_in_many_small_chunks(self, opened, record):
        """What stands between the bytes of a body may be more than the bytes."""
        body = json.dumps({"inputs": [record] * 200}).encode()
        assert len(body) > 16_384
        opened.sendall(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert opened.recv(65536).startswith(b"HTTP/1.1 200 ")

    def test_requests_that_do_not_wait(self, backend, opened):
        opened.settimeout(5)
        opened.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n" * 300)
        received = read_until_closed(opened)
        assert received is not None
        assert received.count(b"HTTP/1.1 200 ") < 300
        assert ask(backend, "GET", "/ping")[0] == 200
        assert "Traceback" not in backend.folder.log_file.read_text()

    def test_a_hundred_requests_that_do_not_wait(self, opened):
        request = b"GET /ping HTTP/1.1\r\nhost: x\r\n"
        opened.sendall((request + b"\r\n") * 99 + request + b"connection: close\r\n\r\n")
        assert read_until_closed(opened).count(b"HTTP/1.1 200 ") == 100


class TestLog:
    def test_that_nobody_takes(self, monkeypatch):
        scope = {"raw_path": b"/invocations", "client": None, "method": "POST"}
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            log = AccessLog()

            def write():
                for number in range(5_000):
                    log.write(scope, f"id-{number}", 200, 0.001)

            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            writer.join(timeout=10)
            assert not writer.is_alive()
            # once there is room again, what comes next is written
            kept = os.read(pipe.fileno(), 1_000_000).splitlines()
            log.write(scope, "later", 200, 0.001)
            assert os.read(pipe.fileno(), 1_000_000).endswith(b" later\n")
        assert [line.split()[-1] for line in kept] == [
            f"id-{number}".encode() for number in range(len(kept))
        ]
        assert 100 < len(kept) < 5_000

    def test_json(self, serve, record):
        backend = serve({"LOG_FORMAT": "json"})
        predict(backend, record, headers=JSON | {"x-request-id": "one"})
        predict(backend, record | {"sex": 3}, headers=JSON | {"x-request-id": "two"})
        ask(backend, "GET", "/nowhere?secret=1%0Aforged")
        ask(backend, "GET", "/no%0Awhere")
        graph = backend.folder.model("1") / "graph.onnx"
        graph.write_bytes(b"damaged")
        backend.folder.point("1", "run-1")
        log = backend.folder.log_file
        wait_for(lambda: "not a graph" in log.read_text())
        launcher.stop(backend.folder)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        accesses = {line["request_id"]: line for line in lines if line["logger"] == "access"}
        assert accesses["one"] | {"time": 0, "ms": 0} == {
            "level": "info",
            "logger": "access",
            "message": "POST /invocations 200",
            "time": 0,
            "client": "127.0.0.1",
            "method": "POST",
            "path": "/invocations",
            "status": 200,
            "ms": 0,
            "request_id": "one",
        }
        assert accesses["two"]["status"] == 422
        paths = [line["path"] for line in accesses.values()]
        assert "/nowhere" in paths
        assert "/no%0Awhere" in paths
        [error] = [line for line in lines if "does not load" in line["message"]]
        assert error["level"] == "error"
        assert "ModelError" in error["exception"]

    def test_text(self, serve, record):
        backend = serve({"LOG_FORMAT": ""})
        predict(backend, record, headers=JSON | {"x-request-id": "one"})
        log = backend.folder.log_file
        # a worker writes it once the answer is on its way
        wait_for(lambda: " one\n" in log.read_text())
        [line] = [line for line in log.read_text().splitlines() if line.endswith(" one")]
        assert "127.0.0.1 POST /invocations 200" in line

    def test_other(self, serve):
        with pytest.raises(BackendError, match="LOG_FORMAT: expected text or json, not 'xml'"):
            serve({"LOG_FORMAT": "xml"})


class TestMetrics:
    def test_all_workers_together(self, serve, record):
        backend = serve(workers=2)
        before = counts(backend)
        for _ in range(20):
            assert predict(backend, record, record | {"island": "Mars", "sex": "?"})[0] == 200
        assert predict(backend, record | {"sex": 3})[0] == 422
        for path in ("/a", "/b"):
            ask(backend, "GET", path)
        # a worker counts once the answer is on its way
        wait_for(lambda: counts(backend).get(("rookery_requests_total", "other", "404")) == 2)
        after = counts(backend)

        def grown(*key):
            return after[key] - before.get(key, 0)

        assert grown("rookery_requests_total", "/invocations", "200") == 20
        assert grown("rookery_requests_total", "/invocations", "422") == 1
        assert grown("rookery_requests_total", "other", "404") == 2
        assert grown("rookery_request_seconds_count", "/invocations") == 21
        assert 0 < grown("rookery_request_seconds_sum", "/invocations") < 60
        assert grown("rookery_request_seconds_bucket", "+Inf", "/invocations") == 21
        assert grown("rookery_rows_total") == 40
        assert grown("rookery_captured_rows_total") == 40
        assert grown("rookery_unseen_categories_total", "island") == 20
        assert grown("rookery_unseen_categories_total", "sex") == 20
        assert after["rookery_spool_rows",] == 0
        [model] = [key for key in after if key[0] == "rookery_model_info"]
        assert model[1:4] == ("onnx", "1", "run-1")
        # a killed worker takes nothing with it
        killed = {report.pid for report in backend.folder.reports()}
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len({report.pid for report in backend.folder.reports()} - killed) == 2)
        assert counts(backend)["rookery_rows_total",] == after["rookery_rows_total",]

    def test_what_waits_in_the_spool(self, serve, record):
        backend = serve()
        with closing(sqlite3.connect(backend.settings.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert predict(backend, record, record, record)[0] == 200
            assert counts(backend)["rookery_spool_rows",] == 3
            other.execute("ROLLBACK")
        wait_for(lambda: counts(backend)["rookery_spool_rows",] == 0)


ONE_REQUEST = """
import asyncio, json, os, sys
from inference.server import create_app

async def main(body):
    app, sent = create_app(), []
    scope = {"type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations",
             "headers": [(b"content-type", b"application/json")], "client": None,
             "query_string": b"", "root_path": "", "http_version": "1.1"}
    steps = asyncio.Queue()
    await steps.put({"type": "lifespan.startup"})
    started = asyncio.Event()

    async def told(message):
        started.set()

    living = asyncio.create_task(app({"type": "lifespan"}, steps.get, told))
    await started.wait()

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent
    await steps.put({"type": "lifespan.shutdown"})
    await living

asyncio.run(main(sys.argv[1].encode()))
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def test_serving_process_imports_no_training_library(local, release, record, tmp_path):
    """One request through the whole application, then a look at what was imported for it."""
    version = release("1")
    local.folder.add_model("1", version.path / "artifacts" / "model")
    local.folder.point("1", "run-1")
    environment = launcher.environment(local.server_settings())
    assert SETTINGS_VARIABLE in environment
    done = subprocess.run(
        [sys.executable, "-c", ONE_REQUEST, json.dumps({"inputs": [record]})],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert {"onnxruntime", "starlette"} <= modules
    heavy = {"tensorflow", "keras", "sklearn", "pandas", "mlflow", "pyarrow", "skops", "scipy"}
    assert not heavy & modules
