"""The service, whole: gunicorn, workers, HTTP and SQLite, started and swapped by Local.deploy."""

import http.client
import json
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing, contextmanager

import psutil
import pytest
import typer
from typer.testing import CliRunner

from inference import launcher
from inference.backend import Status
from inference.errors import BackendError, ModelError
from inference.local import ARTIFACTS
from scripts.serve import serve

pytestmark = pytest.mark.integration

JSON = {"content-type": "application/json"}
CSV = {"content-type": "text/csv"}


@pytest.fixture(scope="module")
def backend(make_local, release, tmp_path_factory):
    """A server with two workers, for all tests that leave it as good as they got it."""
    backend = make_local(tmp_path_factory.mktemp("server"), workers=2)
    with pytest.MonkeyPatch.context() as patch:
        # a proxy that does not answer must not come between us and this machine
        patch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        patch.setenv("http_proxy", "http://127.0.0.1:9")
        backend.deploy(release("1"))
    yield backend
    launcher.stop(backend.folder)


@pytest.fixture
def version_1(backend, release):
    """The server serves version 1, whatever the test before did."""
    if backend.status().version != "1":
        backend.deploy(release("1"))
    return backend


@contextmanager
def connection(backend):
    host, port = launcher.address(backend.settings.target)
    with closing(http.client.HTTPConnection(host, port, timeout=20)) as opened:
        yield opened


def ask(opened, method, path, body=None, headers=JSON):
    """Send one request over an open connection: status, headers, body."""
    opened.request(method, path, body, dict(headers))
    response = opened.getresponse()
    return response.status, response.headers, response.read()


def records_body(*records):
    return json.dumps({"dataframe_records": list(records)}).encode()


def stored(backend):
    """How often each row is in the store."""
    with closing(sqlite3.connect(backend.settings.database)) as database:
        rows = database.execute("SELECT request_id || '-' || row FROM predictions").fetchall()
    return [name for (name,) in rows]


def wait_for(condition, seconds=10.0):
    """Return what is true at last."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    return pytest.fail(f"did not happen within {seconds} s")


class Load:
    """Clients that ask over kept connections, one row a request, until they are told to stop."""

    def __init__(self, backend, record, clients=4):
        self.backend = backend
        self.body = records_body(record)
        self.answers = [[] for _ in range(clients)]
        self.failures = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(clients)
        ]

    def _run(self, number):
        with connection(self.backend) as opened:
            while not self._stop.is_set():
                name = f"load.{id(self)}.{number}.{len(self.answers[number])}"
                try:
                    status, headers, _ = ask(
                        opened, "POST", "/invocations", self.body, JSON | {"x-request-id": name}
                    )
                except OSError as error:
                    self.failures.append(error)
                    return
                if status != 200:
                    self.failures.append(status)
                    return
                self.answers[number].append((name, headers["x-model-version"]))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def names(self):
        return [f"{name}-0" for answers in self.answers for name, _ in answers]

    def is_answered_by(self, version):
        """Whether the last answer to every client came from this version."""
        return all(answers and answers[-1][1] == version for answers in self.answers)


def test_from_nothing_to_nothing(local, release, record, schema):
    # given nothing, a deploy starts the server
    local.deploy(release("1"))
    target = local.settings.target
    running = Status("1", None, running=True, target=target, state="running", instances=1)
    assert local.status() == running
    answer = local.invoke([record, dict.fromkeys(record)])
    assert [prediction["prediction"] for prediction in answer.predictions] == ["Chinstrap"] * 2
    assert answer.model_version == "1"
    table = local.load(schema, limit=10)
    assert list(table["id"]) == [f"{answer.request_id}-1", f"{answer.request_id}-0"]
    assert list(table["model_version"]) == ["1", "1"]

    # when it is stopped, nothing is left of it
    master = launcher.running(local.folder)
    family = [master, *master.children(recursive=True)]
    assert len(family) == 2
    assert launcher.stop(local.folder)
    assert not any(process.is_running() for process in family)
    assert not local.status().running
    assert local.folder.reports() == []
    with pytest.raises(BackendError, match="Connection refused"):
        local.invoke([record])
    assert not launcher.stop(local.folder)
    launcher.require_free_port(target)


def test_master_is_killed(local, release, record):
    local.deploy(release("1"))
    request = local.invoke([record]).request_id
    master = launcher.running(local.folder)
    workers = master.children(recursive=True)
    master.kill()
    # its workers end, so that the next deploy finds the port free
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert not local.status().running
    local.deploy(release("2"))
    assert local.invoke([record]).model_version == "2"
    assert stored(local).count(f"{request}-0") == 1


def test_what_is_live(version_1, schema):
    with connection(version_1) as opened:
        status, headers, body = ask(opened, "GET", "/version")
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert json.loads(body) == {
            "model_version": "1",
            "run_id": "run-1",
            "engine": "onnx",
            "schema_hash": schema.hash,
        }
        assert ask(opened, "GET", "/ping")[0] == 200


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, records_body({"a": 1}).replace(b'{"a": 1}', b"RECORD")),
        (JSON, b'{"inputs": [RECORD]}'),
        (JSON, b'{"instances": [RECORD]}'),
        (JSON, b'{"dataframe_split": SPLIT}'),
        (CSV, b"TABLE"),
    ],
)
def test_formats(version_1, record, content_type, body):
    split = {"columns": list(record), "data": [list(record.values())]}
    table = ",".join(record) + "\n" + ",".join(str(value) for value in record.values())
    for mark, text in {
        b"RECORD": json.dumps(record),
        b"SPLIT": json.dumps(split),
        b"TABLE": table,
    }.items():
        body = body.replace(mark, text.encode())
    [expected] = version_1.invoke([record]).predictions
    with connection(version_1) as opened:
        status, headers, answer = ask(opened, "POST", "/invocations", body, content_type)
    assert (status, headers["x-model-version"]) == (200, "1")
    assert json.loads(answer) == {"predictions": [expected]}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("my-request:7.a_b", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("", False),
        ("a b", False),
        ("<b>", False),
    ],
)
def test_request_id(version_1, record, given, kept):
    headers = JSON | {"x-request-id": given}
    with connection(version_1) as opened:
        _, answered, _ = ask(opened, "POST", "/invocations", records_body(record), headers)
    name = answered["x-request-id"]
    assert name == given if kept else len(name) == 32
    assert stored(version_1).count(f"{name}-0") == 1


LARGE = b'{"inputs": "' + b"x" * 10_000_000 + b'"}'
MANY = b'{"inputs": [' + b"{}," * 100_000 + b"{}]}"
DEEP = b'{"inputs": [{"island": ' + b"[" * 1000 + b"]" * 1000 + b"}]}"
BAD_INPUT = [
    pytest.param(JSON, b"not JSON", 400, "malformed", "not JSON", id="not JSON"),
    pytest.param(JSON, b"", 400, "malformed", "not JSON", id="empty"),
    pytest.param(JSON, b"{}", 400, "malformed", "exactly one of", id="empty object"),
    pytest.param(JSON, b'{"inputs": []}', 400, "malformed", "no rows", id="no rows"),
    pytest.param(CSV, b"", 400, "malformed", "no rows", id="empty CSV"),
    pytest.param(JSON, b'{"inputs": [NaN]}', 400, "malformed", "not JSON", id="NaN"),
    pytest.param(
        CSV, b"body_mass_g\nNaN", 422, "invalid_records", "column is missing", id="NaN in CSV"
    ),
    pytest.param(
        JSON, b'{"inputs": [{"wing": 1}]}', 422, "invalid_records", "unknown column", id="column"
    ),
    pytest.param(
        JSON, b'{"inputs": [{}]}', 422, "invalid_records", "column is missing", id="no column"
    ),
    pytest.param(JSON, b'{"inputs": [3]}', 422, "invalid_records", "an object", id="no record"),
    pytest.param(
        JSON,
        b'{"inputs": [{"body_mass_g": "heavy"}]}',
        422,
        "invalid_records",
        '"value":"heavy"',
        id="text for a number",
    ),
    pytest.param(
        JSON, b'{"inputs": [{"body_mass_g": 1e999}]}', 400, "malformed", "not JSON", id="infinite"
    ),
    pytest.param(JSON, DEEP, 422, "invalid_records", "island", id="nested"),
    pytest.param(JSON, LARGE, 413, "too_large", "5000000 bytes", id="10 MB"),
    pytest.param(JSON, MANY, 413, "too_large", "100001 rows", id="100,001 rows"),
    pytest.param({}, b"{}", 415, "unsupported_format", "Content-Type", id="no content type"),
    pytest.param(
        {"content-type": "application/json; charset=utf-16"},
        b"{}",
        415,
        "unsupported_format",
        "charset=utf-8",
        id="charset",
    ),
    pytest.param(
        JSON | {"content-encoding": "gzip"},
        b"\x1f\x8b",
        415,
        "unsupported_format",
        "compressed",
        id="gzip",
    ),
]


@pytest.mark.parametrize(("headers", "body", "status", "code", "message"), BAD_INPUT)
def test_bad_input(version_1, record, headers, body, status, code, message):
    before = len(stored(version_1))
    with connection(version_1) as opened:
        answered, answer_headers, answer = ask(opened, "POST", "/invocations", body, headers)
        assert answered == status
        assert answer_headers["content-type"] == "application/json"
        assert answer_headers["x-request-id"]
        assert json.loads(answer)["error"]["code"] == code
        assert message in answer.decode()
        assert len(answer) < 20_000
        # the server goes on, and so does the connection
        again, _, _ = ask(opened, "POST", "/invocations", records_body(record))
        assert again == 200
    assert len(stored(version_1)) == before + 1


def test_many_rows_in_which_all_is_missing(version_1):
    with connection(version_1) as opened:
        status, _, answer = ask(opened, "POST", "/invocations", records_body(*[{}] * 10_000))
    assert status == 422
    error = json.loads(answer)["error"]
    assert len(error["problems"]) == 20
    assert error["message"].endswith(" were not looked at")


def test_body_without_a_length(version_1, record):
    chunks = [b'{"inputs": "', *[b"x" * 100_000] * 60, b'"}']
    with connection(version_1) as opened:
        status, _, answer = ask(opened, "POST", "/invocations", iter(chunks))
        assert (status, json.loads(answer)["error"]["code"]) == (413, "too_large")
    with connection(version_1) as opened:
        body = iter([records_body(record)[:20], records_body(record)[20:]])
        assert ask(opened, "POST", "/invocations", body)[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/invocations", 405), ("POST", "/ping", 405), ("GET", "/nowhere", 404)],
)
def test_other_addresses(version_1, method, path, status):
    with connection(version_1) as opened:
        answered, _, answer = ask(opened, method, path)
    assert answered == status
    assert json.loads(answer)["error"]["message"]


def test_reason_of_a_refusal_reaches_the_caller(version_1, record):
    with pytest.raises(BackendError) as caught:
        version_1.invoke([record, record | {"body_mass_g": "heavy"}])
    assert str(caught.value) == (
        f"{version_1.settings.target}/invocations answered 422: row 1, column 'body_mass_g':"
        " expected a number from 1000 to 10000 g, or null, not 'heavy'"
    )


def test_large_request_does_not_hold_up_small_ones(version_1, record):
    many = records_body(*[record] * 5000)
    with connection(version_1) as opened:
        status, headers, answer = ask(opened, "POST", "/invocations", many)
    assert status == 200
    assert len(json.loads(answer)["predictions"]) == 5000
    names = {f"{headers['x-request-id']}-{row}" for row in range(5000)}
    assert len([name for name in stored(version_1) if name in names]) == 5000


def test_swap_under_load(version_1, release, record):
    with Load(version_1, record) as load:
        wait_for(lambda: load.is_answered_by("1"))
        version_1.deploy(release("2"))
        wait_for(lambda: load.is_answered_by("2"))
        assert version_1.rollback() == "1"
        wait_for(lambda: load.is_answered_by("1"))
        time.sleep(0.2)
    # no request failed, no connection was closed, and no worker went back in between
    assert load.failures == []
    for answers in load.answers:
        changes = [answers[0][1]]
        for _, version in answers:
            if version != changes[-1]:
                changes.append(version)
        assert changes == ["1", "2", "1"]
    # what was answered was captured, once
    names = set(load.names)
    assert sorted(name for name in stored(version_1) if name in names) == sorted(load.names)


def test_broken_version_never_goes_live(version_1, release, record):
    broken = release("3")
    graph = broken.path / ARTIFACTS / "graph.onnx"
    graph.write_bytes(graph.read_bytes()[:100])
    with Load(version_1, record, clients=2) as load:
        with pytest.raises(ModelError, match="not a graph"):
            version_1.deploy(broken)
        wait_for(lambda: load.is_answered_by("1"))
    assert load.failures == []
    assert version_1.status().version == "1"
    assert version_1.invoke([record]).model_version == "1"


def test_version_that_the_workers_cannot_load(version_1, release, record):
    """It was whole when it was deployed, and is damaged when the server is to go back to it."""
    version_1.deploy(release("2"))
    graph = version_1.folder.model("1") / "graph.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:100])
    with Load(version_1, record, clients=2) as load:
        with pytest.raises(BackendError, match=r"version 1 does not load: .*not a graph") as caught:
            version_1.rollback()
        wait_for(lambda: load.is_answered_by("2"))
    graph.write_bytes(whole)
    assert load.failures == []
    assert {version for answers in load.answers for _, version in answers} == {"2"}
    assert "\n" not in str(caught.value)
    assert (version_1.status().version, version_1.status().previous) == ("2", "1")
    # and then it is mended
    assert version_1.rollback() == "1"
    assert version_1.invoke([record]).model_version == "1"


def test_database_is_locked(version_1, record):
    with closing(sqlite3.connect(version_1.settings.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Load(version_1, record) as load:
            time.sleep(1.5)
        # every client was answered all the same
        assert load.failures == []
        assert all(len(answers) >= 3 for answers in load.answers)
        assert not set(load.names) & set(stored(version_1))
        other.execute("ROLLBACK")
    names = set(load.names)
    wait_for(lambda: names <= set(stored(version_1)))
    assert sorted(name for name in stored(version_1) if name in names) == sorted(load.names)
    spool = version_1.settings.database.with_name("captured.db.spool")
    assert wait_for(lambda: spool.stat().st_size == 0)


def test_killed_worker_is_replaced(version_1, release, record):
    before = {report.pid for report in version_1.folder.reports()}
    assert len(before) == 2
    victim = min(before)
    with connection(version_1) as opened:
        name = JSON | {"x-request-id": "just-before"}
        assert ask(opened, "POST", "/invocations", records_body(record), name)[0] == 200
        os.kill(victim, signal.SIGKILL)
    after = wait_for(
        lambda: (
            (pids := {report.pid for report in version_1.folder.reports()} - {victim})
            and len(pids) == 2
            and pids
        )
    )
    assert after > before - {victim}
    version_1.deploy(release("2"))
    assert version_1.invoke([record]).model_version == "2"
    assert stored(version_1).count("just-before-0") == 1
    assert all(psutil.Process(pid).is_running() for pid in after)


@pytest.mark.parametrize("port", [-1, 0, 65_536, 99_999])
def test_port_that_is_none(port):
    app = typer.Typer()
    app.command()(serve)
    result = CliRunner().invoke(app, ["--port", str(port)])
    assert result.exit_code == 2
    assert "'--port'" in result.output


def test_port_of_another_server(version_1, make_local, release, tmp_path):
    second = make_local(tmp_path, target=version_1.settings.target)
    with pytest.raises(BackendError, match="cannot be used"):
        second.deploy(release("2"))
    assert second.status().version is None
    assert version_1.status().running
