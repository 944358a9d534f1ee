"""The local AWS: moto's server, with what moto lacks of SageMaker and Batch in front of it.

It runs as a process of its own, `python -m scripts.rehearsal.server`, started by
`scripts.rehearsal.aws.LocalAws`. Everything in it talks to moto over the wire protocol of AWS; the
few places that reach into moto say why.
"""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from scripts.rehearsal import jobs, resources
from scripts.rehearsal.answers import AwsError, failure
from scripts.rehearsal.calls import Call
from scripts.rehearsal.control_plane import ControlPlane
from scripts.rehearsal.data_capture import Body
from scripts.rehearsal.endpoints import Endpoints
from scripts.rehearsal.faults import Faults
from scripts.rehearsal.processes import Processes

# signs the server's own calls, which no fault strikes
OWN_KEY = "REHEARSALITSELF00000"
CONTROL = "/rehearsal/"


class Application:
    """The WSGI application."""

    def __init__(
        self,
        moto: Callable[..., Any],
        processes: Processes,
        folder: Path,
        health_seconds: float,
    ) -> None:
        """Make it; `url` is set once the port is known.

        Args:
            moto: Moto's WSGI application.
            processes: Starts and ends what runs in it.
            folder: For logs.
            health_seconds: How long a container may take to pass its health check.
        """
        self.url = ""
        self.faults = Faults()
        self._moto = moto
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self.endpoints = Endpoints(self.client, processes, folder / "logs", health_seconds)
        self._control_plane = ControlPlane(self.endpoints, self.client, moto)

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        import boto3  # noqa: PLC0415 - 0.3 s

        return boto3.Session(OWN_KEY, "none")

    def client(self, service: str, region: str) -> Any:  # noqa: ANN401 - see above
        """Return a boto3 client of this server itself."""
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._session.client(
                    service, region, endpoint_url=self.url
                )
            return self._clients[service, region]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:  # noqa: ANN401 - WSGI
        """Answer a request, or let moto do it."""
        request = Request(environ)
        call = Call.of(request)
        answer: Response | None = None
        if call is None and request.path.startswith(CONTROL):
            answer = self._control(request)
        elif call and call.key != OWN_KEY:
            try:
                self.faults.strike(call)
                answer = self._sagemaker(call, request) if call.service == "sagemaker" else None
            except AwsError as error:
                answer = failure(error, call.service, request)
        if answer is None:
            return self._moto(environ, start_response)
        return answer(environ, start_response)

    def _sagemaker(self, call: Call, request: Request) -> Response | None:
        if call.action != "InvokeEndpoint":
            return self._control_plane.answer(call, request)
        name = request.path.split("/")[2]
        kind = request.headers.get("Content-Type", "application/octet-stream")
        body, headers = self.endpoints.invoke(
            call.region,
            name,
            Body(request.get_data(), kind),
            request.headers,
        )
        return Response(body.content, headers=headers, content_type=body.content_type)

    def _control(self, request: Request) -> Response:
        """Do what a test or a rehearsal asks for."""
        what = request.method, request.path.removeprefix(CONTROL)
        try:
            if what == ("POST", "faults"):
                self.faults.add(request.get_json())
            elif what == ("DELETE", "faults"):
                self.faults.clear()
            elif what == ("POST", "flush"):
                self.endpoints.recorder.flush()
            elif found := re.fullmatch(r"POST endpoints/([\w-]+)/roll-back", " ".join(what)):
                self.endpoints.roll_back(found[1])
            elif what != ("GET", ""):
                return Response("no such control request\n", 404)
        except (ValueError, KeyError) as error:
            return Response(f"{error}\n", 400)
        return Response(json.dumps({"pid": os.getpid()}), content_type="application/json")


def main(folder: Path, port: int, health_seconds: float, *temporary: Path) -> None:
    """Serve until a signal comes or standard input ends, and leave nothing behind.

    Args:
        folder: For logs.
        port: To listen at; 0 for a free one.
        health_seconds: How long a container may take to pass its health check.
        temporary: Folders that are to be removed in the end.
    """
    moto = DomainDispatcherApplication(create_backend_app)
    processes = Processes(*temporary)
    application = Application(moto, processes, folder, health_seconds)
    try:
        with make_server(
            "127.0.0.1",
            port,
            application,  # type: ignore[arg-type] - a WSGI application all the same
            threaded=True,
            request_handler=MotoRequestHandler,
        ) as server:
            application.url = f"http://127.0.0.1:{server.server_port}"
            # moto calls itself for some services, and takes this for its own port
            os.environ["MOTO_PORT"] = str(server.server_port)
            jobs.install(processes, folder / "logs", application.url)
            resources.install()

            def stop(*_: object) -> None:
                threading.Thread(target=server.shutdown).start()

            def stop_with_parent() -> None:
                sys.stdin.buffer.read()
                server.shutdown()

            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, stop)
            threading.Thread(target=stop_with_parent, daemon=True).start()
            print(application.url, flush=True)
            server.serve_forever()
            application.endpoints.close()
    finally:
        processes.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), *map(Path, sys.argv[4:]))
