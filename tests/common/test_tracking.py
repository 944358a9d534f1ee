"""Whether MLflow's store answers, and where artifacts go."""

import base64
import http.server
import socket
import threading
import time
import traceback

import pytest

from common import tracking
from inference.errors import RegistryError


@pytest.fixture(params=[200, 401, 500])
def server(request):
    """A server that answers everything with one status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(request.param)
            self.end_headers()

        def log_message(self, *_):
            pass

    listening = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_given_a_server_that_answers_then_it_counts_as_reachable(server):
    tracking.require_reachable(server)


def test_given_user_and_password_then_they_are_sent_and_no_part_of_the_host(asked):
    uri, headers = asked
    tracking.require_reachable(uri.replace("//", "//me:s%2Fcret@"))
    assert headers == ["Basic " + base64.b64encode(b"me:s/cret").decode()]


@pytest.fixture
def asked():
    """A server, and the Authorization headers that it was sent."""
    headers = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            headers.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever).start()
        yield f"http://127.0.0.1:{listening.server_port}", headers
        listening.shutdown()


@pytest.mark.parametrize("uri", ["http://me:Zq9/Zq9@127.0.0.1:9", "https://me:Zq9@127.0.0.1"])
def test_given_a_password_then_no_error_shows_it(uri):
    with pytest.raises(RegistryError, match=r"https?://…@127\.0\.0\.1\S* does not answer") as e:
        tracking.require_reachable(uri)

    assert "Zq9" not in "".join(traceback.format_exception(e.value))


def test_given_a_file_that_is_not_there_then_mlflow_may_make_it(tmp_path):
    tracking.require_reachable(f"sqlite:///{tmp_path}/new/folder/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_given_a_file_that_is_no_database_then_the_error_names_it(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 1000)
    with pytest.raises(RegistryError, match=r"mlflow\.db cannot be used \(file is not a database"):
        tracking.require_reachable(f"sqlite:///{tmp_path}/mlflow.db")


def test_given_a_folder_that_takes_no_file_then_the_error_names_it():
    # not even root can write there
    with pytest.raises(RegistryError, match=r"/proc/mlflow\.db cannot be used"):
        tracking.require_reachable("sqlite:////proc/mlflow.db")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no-such-host.invalid:5000"])
def test_given_no_server_then_the_error_names_uri_reason_and_remedy_soon(uri):
    started = time.monotonic()

    with pytest.raises(
        RegistryError, match=r"does not answer \(.+\); start it with `just mlflow`"
    ) as e:
        tracking.require_reachable(uri)

    assert uri in str(e.value)
    assert time.monotonic() - started < 10


@pytest.mark.integration
def test_given_a_server_that_accepts_and_says_nothing_then_it_ends_within_ten_seconds():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(RegistryError, match="does not answer"):
            tracking.require_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}")

    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (["recall_Köln / Bonn"], "recall_Köln _ Bonn"),
        (["recall_O'Higgins & Söhne"], "recall_O_Higgins _ Söhne"),
        (["recall", "東京 港区"], "recall/東京 港区"),
        (["drift", ".."], "drift/_"),
        (["long", "x" * 300], "long/" + "x" * 235),
    ],
)
def test_a_class_of_any_name_has_a_metric_that_mlflow_takes(parts, name):
    from mlflow.utils.validation import _validate_metric_name  # noqa: PLC0415 - 4 s

    assert tracking.metric_name(*parts) == name
    _validate_metric_name(name)


def test_names_that_are_the_same_for_mlflow_are_numbered():
    figures = {"recall_a&b": 0.1, "recall_a/b": 0.2, "recall_a+b": 0.3}
    assert tracking.by_metric_name(figures) == {
        "recall_a_b": 0.1,
        "recall_a_b 2": 0.2,
        "recall_a_b 3": 0.3,
    }
