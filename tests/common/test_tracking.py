"""Whether MLflow's store answers, and where artifacts go."""

import http.server
import threading
import time

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


def test_given_a_file_then_nothing_is_asked():
    tracking.require_reachable("sqlite:///nowhere/mlflow.db")


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
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(RegistryError, match="does not answer"):
            tracking.require_reachable(f"http://127.0.0.1:{silent.getsockname()[1]}")

    assert time.monotonic() - started < 10
