"""A handle on a local AWS that tests and scripts start."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import urllib3

from inference.errors import BackendError

# any region will do; this one needs no location when a bucket is made
REGION = "us-east-1"
# a container imports onnxruntime and starts gunicorn: some 3 s on a quiet machine
HEALTH_SECONDS = 60.0
STOP_SECONDS = 30
# what the server itself may know of this machine; nothing of anyone's accounts
INHERITED = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "UV_SYSTEM_CERTS")


class LocalAws:
    """A local AWS: everything that moto has, and real SageMaker endpoints and Batch jobs.

    A context manager. The server is a process of its own on a loopback port; it ends with the
    `with` block or with this process, and with it every container and job that it runs:

        with LocalAws() as aws:
            boto3.client("s3", endpoint_url=aws.url, …)     # or with aws.environment
            aws.fault("sagemaker", "CreateEndpoint", "AccessDeniedException", times=1)
            aws.flush()                                     # data capture is in S3 now

    Attributes:
        url: Where it listens, once it is started.
        folder: Where logs go: `logs/server.log`, `logs/endpoints/` and `logs/jobs/`.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        region: str = REGION,
        health_seconds: float = HEALTH_SECONDS,
    ) -> None:
        """Describe it.

        Args:
            folder: Where logs go; by default a temporary folder that goes with it.
            port: Port to listen at; 0 for a free one.
            region: Region that `environment` names.
            health_seconds: How long a container may take to pass its health check.
        """
        self.url, self.region = "", region
        self._port, self._health_seconds = port, health_seconds
        self._own_folder, self.folder = folder is None, folder or Path()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a client needs to reach it, and nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIAREHEARSAL0000000",
            "AWS_SECRET_ACCESS_KEY": "rehearsal-secret-access-key",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CONFIG_FILE": str(self.folder / "aws" / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "aws" / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        """Start the server, and wait until it listens.

        Raises:
            BackendError: It does not start.
        """
        if self._own_folder:
            self.folder = Path(tempfile.mkdtemp(prefix="rookery-aws-"))
        log = self.folder / "logs" / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        variables = {name: os.environ[name] for name in INHERITED if name in os.environ}
        # no personal .env either
        variables |= {"ROOKERY_ENV_FILE": os.devnull, "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - this project's own
                [
                    *(sys.executable, "-m", "scripts.rehearsal.server"),
                    *(str(self.folder), str(self._port), str(self._health_seconds)),
                    # it removes it even if this process is killed
                    *([str(self.folder)] if self._own_folder else []),
                ],
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                # Ctrl-C is for who started it; this one then ends with its standard input
                start_new_session=True,
            )
        assert self._process.stdout  # noqa: S101 - it was made with a pipe
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            said = log.read_text(encoding="utf-8").strip()
            self._end()
            raise BackendError(f"the local AWS does not start: {said.rpartition(chr(10))[2]}")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server, and with it all that it runs."""
        self._end()

    @property
    def pid(self) -> int:
        """Process id of the server; containers and jobs are its children."""
        return self._process.pid

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        return self._process.wait()

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 makes its classes at run time
        """Return a boto3 client of it."""
        import boto3  # noqa: PLC0415 - 0.4 s that not every script pays

        own = self.environment
        return boto3.Session(
            own["AWS_ACCESS_KEY_ID"], own["AWS_SECRET_ACCESS_KEY"], region_name=self.region
        ).client(service, endpoint_url=self.url)

    def fault(self, service: str, action: str, code: str, message: str = "", **more: int) -> None:
        """Let the next such calls fail.

        Args:
            service: Name of the service in a signature: sagemaker, s3, sts, iam, monitoring …
            action: Such as InvokeEndpoint or PutObject.
            code: AWS's name of the error, such as ThrottlingException.
            message: What AWS is to say of it.
            more: `status`, the HTTP status, by default 400; `times`, how many calls are to fail,
                by default 1, and -1 for all.
        """
        fault = {"service": service, "action": action, "code": code, **more}
        if message:
            fault["message"] = message
        self._control("POST", "faults", fault)

    def clear_faults(self) -> None:
        """Let nothing fail any more."""
        self._control("DELETE", "faults")

    def roll_back(self, endpoint: str) -> None:
        """Let the running or next update of an endpoint end as an alarm's rollback does."""
        self._control("POST", f"endpoints/{endpoint}/roll-back")

    def flush(self) -> None:
        """Write to S3 now what data capture has gathered."""
        self._control("POST", "flush")

    def _control(self, method: str, what: str, content: dict[str, Any] | None = None) -> None:
        answer = urllib3.request(
            method, f"{self.url}/rehearsal/{what}", json=content, retries=False
        )
        if answer.status != 200:  # noqa: PLR2004 - HTTP's OK
            raise BackendError(f"local AWS, {method} {what}: {answer.data.decode().strip()}")

    def _end(self) -> None:
        assert self._process.stdin and self._process.stdout  # noqa: S101, PT018 - pipes
        self._process.stdin.close()
        self._process.wait(STOP_SECONDS)
        self._process.stdout.close()
