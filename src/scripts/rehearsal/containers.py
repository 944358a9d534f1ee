"""The containers of an endpoint: real servers of the deployed models, each one a process."""

import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import urllib3

from scripts.rehearsal.data_capture import Body
from scripts.rehearsal.processes import Processes
from scripts.steps import free_port

if TYPE_CHECKING:
    import subprocess

# what SageMaker gives a container to answer one request
ANSWER_SECONDS = 60
PING_SECONDS = 2
POLL_SECONDS = 0.1
LOG_LINES = 5


class UnhealthyError(Exception):
    """A container did not come up; the text is what SageMaker gives as the FailureReason."""


class ContainerError(Exception):
    """A container answered anything but 200.

    Attributes:
        status: Its HTTP status; 0 if it did not answer.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Container:
    """One model, served by this project's own server."""

    def __init__(
        self, processes: Processes, variant: str, model: Mapping[str, Any], log: Path
    ) -> None:
        """Describe it; `start` starts it.

        Args:
            processes: Starts and ends its process.
            variant: Name of the production variant that it serves.
            model: PrimaryContainer of the SageMaker model.
            log: File for what it prints.
        """
        self.variant, self.model, self.log = variant, model, log
        self._processes = processes
        self._folder = processes.folder / f"container-{uuid4()}"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._users = 0
        self._idle = threading.Condition()

    def start(self, archive: bytes) -> None:
        """Unpack the model and start its server.

        Raises:
            UnhealthyError: The archive cannot be unpacked.
        """
        model = self._folder / "model"
        model.mkdir(parents=True)
        packed = self._folder / "model.tar.gz"
        packed.write_bytes(archive)
        try:
            with tarfile.open(packed) as tar:
                # Python's own filter for this came with 3.11.4
                for member in tar:
                    path = PurePosixPath(member.name)
                    if not (member.isreg() or member.isdir()) or path.is_absolute():
                        raise tarfile.ExtractError(f"{member.name} is no file")
                    if ".." in path.parts:
                        raise tarfile.ExtractError(f"{member.name} lies outside")
                    tar.extract(member, model)
        except (tarfile.TarError, OSError, EOFError) as error:
            self.stop()
            raise UnhealthyError(
                f'Failed to extract model data archive from URL "{self.model["ModelDataUrl"]}".'
                f" Please ensure that the object located at the URL is a valid tar.gz archive."
                f" ({error})"
            ) from error
        packed.unlink()
        environment = {
            # an instance's many workers would only compete for the cores of this machine
            "WORKERS": "1",
            **self.model.get("Environment", {}),
            "HOST": "127.0.0.1",
            "PORT": str(self._port),
            "MODEL_FOLDER": str(model),
        }
        self._process = self._processes.start(
            [sys.executable, "-m", "inference.container", "serve"],
            self._folder,
            environment,
            self.log,
        )

    def wait_until_healthy(self, seconds: float) -> None:
        """Wait until it passes SageMaker's health check.

        Raises:
            UnhealthyError: It died, or did not pass the check in time.
        """
        end = time.monotonic() + seconds
        while not self._healthy():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > end:
                raise UnhealthyError(
                    f"The primary container for production variant {self.variant} did not pass the"
                    " ping health check. Please check CloudWatch logs for this endpoint."
                    f" (Last lines: {self.last_lines()})"
                )
            time.sleep(POLL_SECONDS)

    def last_lines(self) -> str:
        """Return the end of what it printed, in one line."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return " | ".join([line.strip() for line in lines if line.strip()][-LOG_LINES:])

    def invoke(self, body: Body, headers: Mapping[str, str]) -> tuple[Body, str | None]:
        """Let it answer a request.

        Args:
            body: The request.
            headers: Those that SageMaker hands through.

        Returns:
            The answer, and its custom attributes.

        Raises:
            ContainerError: It answered anything but 200, or not at all.
        """
        try:
            # a kept connection could be closed by the server at the moment of its next use
            answer = urllib3.request(
                "POST",
                f"http://127.0.0.1:{self._port}/invocations",
                body=body.content,
                headers={"Content-Type": body.content_type, "Connection": "close", **headers},
                timeout=ANSWER_SECONDS,
                retries=False,
            )
        except urllib3.exceptions.TimeoutError as error:
            raise ContainerError(
                0,
                "Your invocation timed out while waiting for a response from container primary."
                " Review the latency metrics for each container in Amazon CloudWatch, resolve the"
                " issue, and try again.",
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise ContainerError(0, f"The container does not answer ({error})") from error
        if answer.status != 200:  # noqa: PLR2004 - HTTP's OK
            raise ContainerError(answer.status, answer.data.decode("utf-8", "replace"))
        kind = answer.headers.get("Content-Type", "application/octet-stream")
        return Body(answer.data, kind), answer.headers.get("X-Amzn-SageMaker-Custom-Attributes")

    def take(self) -> None:
        """Begin to use it: it stays until `give_back`."""
        with self._idle:
            self._users += 1

    def give_back(self) -> None:
        """End to use it."""
        with self._idle:
            self._users -= 1
            self._idle.notify_all()

    def retire(self) -> None:
        """Stop it once the requests that it is answering are answered."""
        with self._idle:
            self._idle.wait_for(lambda: not self._users, timeout=ANSWER_SECONDS)
        self.stop()

    def stop(self) -> None:
        """Stop it, and remove its files."""
        if self._process:
            self._processes.stop(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _healthy(self) -> bool:
        try:
            answer = urllib3.request(
                "GET",
                f"http://127.0.0.1:{self._port}/ping",
                timeout=PING_SECONDS,
                retries=False,
            )
        except urllib3.exceptions.HTTPError:
            return False
        return answer.status == 200  # noqa: PLR2004 - HTTP's OK
