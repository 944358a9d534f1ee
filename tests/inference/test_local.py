"""Local without a server of its own: labels, the store, and what answers that is not ours."""

import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from inference.backend import Captured, Status
from inference.errors import BackendError, ModelError
from inference.labels import read_label_file
from inference.spool import Spool

PREDICTION = {
    "prediction": "Gentoo",
    "confidence": 1.0,
    "probabilities": {"Gentoo": 1, "Adelie": 0},
}


@pytest.fixture
def stranger(make_local, tmp_path):
    """A server that is not ours: `stranger(status, body)` makes a Local that talks to it."""
    servers = []

    def start(status, body):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Keep the tests' output clean."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return make_local(tmp_path, target=f"http://127.0.0.1:{server.server_port}")

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_yet(local, schema):
    target = local.settings.target
    assert local.status() == Status(None, None, running=False, target=target, state="stopped")
    assert local.load(schema, limit=10).empty
    assert local.counts() == []
    assert local.label(quality=1) == 0
    with pytest.raises(BackendError, match="nothing to roll back to"):
        local.rollback()


def test_saved_labelled_and_loaded(local, schema, record, tmp_path):
    local.save(Captured.from_answer("a", "1", [record] * 3, [PREDICTION] * 3))
    labels = write(tmp_path / "labels.csv", "id,label\na-0,Adelie\na-2,Gentoo\n")
    assert local.label(file=labels) == 2
    assert list(local.load(schema, limit=10)["target"]) == ["Gentoo", None, "Adelie"]
    assert local.label(quality=1, seed=1) == 1
    assert local.counts() == [("1", 3, 3)]
    assert len(local.load(schema, limit=2, labelled=True)) == 2


def test_saved_by_threads_at_once(local, schema, record):
    """As MLflow's server does it, which predicts in threads."""
    together = threading.Barrier(2)

    def save(thread):
        for number in range(20):
            rows = Captured.from_answer(f"{thread}.{number}", "1", [record], [PREDICTION])
            together.wait(timeout=20)
            local.save(rows)

    with ThreadPoolExecutor(2) as threads:
        for saved in [threads.submit(save, name) for name in "ab"]:
            saved.result()
    names = {f"{thread}.{number}-0" for thread in "ab" for number in range(20)}
    table = local.load(schema, limit=100)
    assert len(table) == 40
    assert set(table["id"]) == names
    assert not Spool(local.settings.database).path.exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "either a quality to simulate or a file"),
        ({"quality": 1, "file": Path("labels.csv")}, "either a quality to simulate or a file"),
        ({"quality": -0.1}, r"from 0 to 1, not -0\.1"),
        ({"quality": 1.5}, r"from 0 to 1, not 1\.5"),
        ({"quality": math.nan}, "from 0 to 1, not nan"),
    ],
)
def test_label_refuses(local, arguments, problem):
    with pytest.raises(BackendError, match=problem):
        local.label(**arguments)


@pytest.mark.parametrize(
    "text",
    [
        "id,label\na-0,Adelie\nb-1,Größe\n",
        "\ufeffid,label\r\na-0,Adelie\r\nb-1,Größe",
        'label,who,id\n"Adelie",me,a-0\n\nGröße,,b-1\n',
    ],
)
def test_file_with_labels(tmp_path, text):
    assert read_label_file(write(tmp_path / "labels.csv", text)) == [
        ("a-0", "Adelie"),
        ("b-1", "Größe"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected the columns id,label"),
        ("id;label\na-0;Adelie\n", "expected the columns id,label"),
        ("id,target\na-0,Adelie\n", "expected the columns id,label"),
        ("id,label\na-0,Adelie\n,Adelie\n", "line 3: id or label is empty"),
        ("id,label\n\n\na-0,\n", "line 4: id or label is empty"),
        ("id,label\na-0\n", "line 2: id or label is empty"),
        ('id,label\na-0,"Adelie\n', "cannot be read"),
        ("id,label\na-0," + "x" * 200_000, "cannot be read"),
    ],
)
def test_file_that_holds_no_labels(tmp_path, text, problem):
    with pytest.raises(BackendError, match=problem) as caught:
        read_label_file(write(tmp_path / "labels.csv", text))
    assert str(tmp_path / "labels.csv") in str(caught.value)


@pytest.mark.parametrize("content", [None, "id,label\na-0,Größe".encode("latin-1")])
def test_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "labels.csv"
    if content:
        path.write_bytes(content)
    with pytest.raises(BackendError, match=r"labels\.csv: cannot be read"):
        read_label_file(path)


def test_database_that_is_none(local, schema):
    local.settings.database.write_bytes(b"not a database " * 100)
    with pytest.raises(BackendError, match=r"captured\.db: file is not a database") as caught:
        local.load(schema, limit=1)
    assert "move it away" in str(caught.value)


def test_no_server(local, record):
    with pytest.raises(BackendError, match="does not answer") as caught:
        local.invoke([record])
    assert "Connection refused" in str(caught.value)
    assert "just serve" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (422, b'{"error": {"code": "x", "message": "row 0: bad"}}', "answered 422: row 0: bad"),
        (503, b"busy", "answered 503: busy"),
        (500, b'{"error": "broken"}', "answered 500"),
        (404, b"", "answered 404"),
        (301, b"", "answered 301"),
        (200, b"", "not a prediction"),
        (200, b"<html>hello</html>", "not a prediction"),
        (200, b"[]", "not a prediction"),
        (200, b"{}", "not a prediction"),
        (200, b'{"predictions": 3}', "not a prediction"),
        (200, b'{"predictions": []}', "0 predictions for 1 record"),
        (200, b'{"predictions": [{}, {}]}', "2 predictions for 1 record"),
    ],
)
def test_answer_that_is_no_good(stranger, record, status, body, reason):
    with pytest.raises(BackendError, match=reason) as caught:
        stranger(status, body).invoke([record])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, {1}, 1j])
def test_record_that_json_cannot_hold(local, record, value):
    with pytest.raises(BackendError, match="cannot be sent as JSON"):
        local.invoke([record | {"body_mass_g": value}])


def test_version_that_does_not_load_touches_nothing(local, release):
    broken = release("1")
    (broken.path / "artifacts" / "model" / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="not a graph"):
        local.deploy(broken)
    assert not local.settings.serving.exists()


def test_port_in_use(local, release):
    port = int(local.settings.target.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(BackendError, match=f"127.0.0.1:{port} cannot be used") as caught:
            local.deploy(release("1"))
        assert "\n" not in str(caught.value)
        assert local.status().version is None
        assert not local.status().running
