"""What a rehearsal takes place on: a local AWS, and an MLflow server that keeps its files there."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Self

import urllib3

from common import ROOT
from inference.errors import BackendError
from scripts.rehearsal.aws import LocalAws
from scripts.rehearsal.place import Place
from scripts.rehearsal.processes import Processes
from scripts.steps import free_port

USER = "rehearsal"
MLFLOW_SECONDS = 90


class Stage:
    """A local AWS and an MLflow server, for the time of a `with` block.

    Attributes:
        place: Where everything is kept.
        url: Of the local AWS.
        tracking_uri: Of the MLflow server; empty until `start_mlflow`.
    """

    def __init__(self, place: Place, port: int = 0) -> None:
        """Describe it.

        Args:
            place: Where everything is kept.
            port: Port of the local AWS; 0 for a free one.
        """
        self.place, self.tracking_uri = place, ""
        self.aws = LocalAws(place.folder, port=port)
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Where the local AWS listens."""
        return self.aws.url

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a command that is rehearsed here."""
        return self.place.environment(self.url, self.tracking_uri)

    def __enter__(self) -> Self:
        """Start the local AWS."""
        self.place.prepare()
        self._stack.enter_context(self.aws)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything."""
        self._stack.close()

    def set_up(self) -> None:
        """Do what `just aws-setup` and `just aws-mlflow` do, and start MLflow.

        Raises:
            BackendError: It did not work.
        """
        for words in (["setup", USER], ["mlflow", "--cidr", "127.0.0.1/32"]):
            done = subprocess.run(  # noqa: S603 - a script of this project
                [sys.executable, str(ROOT / "src/scripts/aws.py"), *words, "--yes"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode:
                raise BackendError(f"aws.py {words[0]} failed: {done.stdout.strip()}")
        self.start_mlflow()

    def start_mlflow(self) -> None:
        """Start an MLflow server in the place of the one on EC2; its files go to the bucket.

        Raises:
            BackendError: It does not come up.
        """
        port = free_port()
        log = self.place.logs / "mlflow.log"
        processes = Processes()
        self._stack.callback(processes.close)
        bucket = self.place.variables()["BUCKET"]
        environment = self.aws.environment | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        process = processes.start(
            [
                *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--backend-store-uri", f"sqlite:///{self.place.folder / 'mlflow.db'}"),
                *("--artifacts-destination", f"s3://{bucket}/mlflow"),
            ],
            processes.folder / "mlflow",
            environment,
            log,
        )
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + MLFLOW_SECONDS
        while not healthy(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > end:
                raise BackendError(f"MLflow does not start; see {log}")
            time.sleep(0.2)
        self.tracking_uri = url

    def announce(self) -> None:
        """Let `just rehearse` find it."""
        text = json.dumps({"url": self.url, "tracking_uri": self.tracking_uri})
        self.place.address.write_text(text, encoding="utf-8")
        self._stack.callback(self.place.address.unlink, missing_ok=True)


def running(place: Place) -> tuple[str, str] | None:
    """Find the stage that `just aws-rehearsal` has set up.

    Returns:
        URLs of the local AWS and of MLflow; None where none is running.
    """
    try:
        found = json.loads(place.address.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    # it may have been killed
    return (found["url"], found["tracking_uri"]) if healthy(f"{found['url']}/rehearsal/") else None


def healthy(url: str) -> bool:
    """Whether a server answers."""
    try:
        return urllib3.request("GET", url, timeout=2, retries=False).status == 200  # noqa: PLR2004 - HTTP's OK
    except urllib3.exceptions.HTTPError:
        return False
