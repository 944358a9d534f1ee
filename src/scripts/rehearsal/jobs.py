"""Batch jobs as processes of this machine, where moto would start Docker containers.

The only way into moto's Batch is its Job class: moto makes one for each submitted job, keeps its
dependencies and states, and calls `run` in a thread of its own.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from moto.batch import models
from moto.batch.utils import JobStatus

from common import ROOT
from inference.container import cores
from scripts.rehearsal.processes import Processes

POLL_SECONDS = 0.2
# ECS asks politely first, and ends what is left after this time
GRACE_SECONDS = 30
LOG_GROUP = "/aws/batch/job"
# An image holds the installed packages, but not this checkout. The virtual environment holds both;
# a job that found its code here would fail in the cloud.
HIDE_CHECKOUT = (
    f"import sys\nsys.path[:] = [place for place in sys.path if place != {str(ROOT / 'src')!r}]\n"
)


class ProcessJob(models.Job):
    """A job whose container is a process, with a home and a folder of its own."""

    processes: ClassVar[Processes]
    logs: ClassVar[Path]
    url: ClassVar[str]
    slots: ClassVar[threading.BoundedSemaphore]

    def run(self) -> None:
        """Wait for what it depends on and for a free core, and run its command."""
        if self.depends_on and not self._wait_for_dependencies():
            return
        self.status = JobStatus.RUNNABLE
        while not self.slots.acquire(timeout=POLL_SECONDS):
            if self.stop:
                self._mark_stopped(success=False)
                return
        try:
            self._run_command()
        except OSError as error:
            self.job_stopped_reason = f"CannotStartContainerError: {error}"
            self._mark_stopped(success=False)
        finally:
            self.slots.release()

    def terminate(self, reason: str) -> None:
        """Ask it, or the children of an array, to stop."""
        super().terminate(reason)
        for child in self._child_jobs or ():
            child.terminate(reason)

    def _run_command(self) -> None:
        folder = self.processes.folder / f"job-{self.job_id.replace(':', '-')}"
        hidden = folder / "site"
        hidden.mkdir(parents=True)
        (hidden / "sitecustomize.py").write_text(HIDE_CHECKOUT, encoding="utf-8")
        log = self.logs / f"{self.job_name}-{self.job_id.replace(':', '-')}.log"
        command = self._add_parameters_to_command(self._get_container_property("command", []))
        variables = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": self.job_definition._region,  # noqa: SLF001 - moto's name for it
            "AWS_EC2_METADATA_DISABLED": "true",
            # in the cloud they are those of the job's role
            "AWS_ACCESS_KEY_ID": "AKIAREHEARSALJOB0000",
            "AWS_SECRET_ACCESS_KEY": "rehearsal-job-secret",
            "AWS_EXECUTION_ENV": "AWS_ECS_EC2",
            # the image has them
            "METAFLOW_SKIP_INSTALL_DEPENDENCIES": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(hidden),
        }
        given = self._get_container_property("environment", [])
        variables |= {item["name"]: item["value"] for item in given}
        process = self.processes.start(command, folder, variables, log)
        self.status, self.job_started_at = JobStatus.RUNNING, models.datetime.now()
        self.log_stream_name = self._stream_name
        self._log_backend.ensure_log_group(LOG_GROUP)
        self._log_backend.ensure_log_stream(LOG_GROUP, self._stream_name)
        self._start_attempt()
        with log.open("rb") as output:
            self._follow(process, output)
            self.exit_code = self.processes.stop(process, GRACE_SECONDS)
            self._pass_on(output.readlines())
        if self.exit_code and not self.job_stopped_reason:
            self.job_stopped_reason = "Essential container in task exited"
        self._mark_stopped(success=self.exit_code == 0 and not self.stop)

    def _follow(self, process: subprocess.Popen[bytes], output: Any) -> None:  # noqa: ANN401 - a file
        """Hand on what the process prints, until it ends or has to."""
        seconds = self._get_attempt_duration()
        end = time.monotonic() + seconds if seconds else None
        while process.poll() is None and not self.stop:
            if end and time.monotonic() > end:
                self.terminate("Job attempt duration exceeded timeout")
            self._pass_on(output.readlines())
            time.sleep(POLL_SECONDS)

    def _pass_on(self, lines: list[bytes]) -> None:
        now = int(time.time() * 1000)
        events = [
            {"timestamp": now, "message": line.decode("utf-8", "replace").rstrip("\n")}
            for line in lines
        ]
        if events:
            self._log_backend.put_log_events(LOG_GROUP, self._stream_name, events)

    def _get_container_property(self, p: str, default: Any) -> Any:  # noqa: ANN401 - moto's signature
        """Give the environment without moto's side effect: each look at it makes it longer."""
        if p != "environment":
            return super()._get_container_property(p, default)
        defined = (self.job_definition.container_properties or {}).get(p, ())
        given = [*defined, *self.container_overrides.get(p, ())]
        values = {item["name"]: item["value"] for item in given}
        values |= {
            "AWS_BATCH_JOB_ID": self.job_id,
            "AWS_BATCH_JOB_ATTEMPT": "1",
            "AWS_BATCH_JQ_NAME": self.job_queue.name,
            "AWS_BATCH_CE_NAME": "rehearsal",
        }
        if "index" in self.array_properties:
            values["AWS_BATCH_JOB_ARRAY_INDEX"] = str(self.array_properties["index"])
        return [{"name": name, "value": value} for name, value in values.items()]

    def _container_details(self) -> dict[str, Any]:
        """Add the exit code, which Metaflow reads here."""
        details = super()._container_details()
        return details if self.exit_code is None else details | {"exitCode": self.exit_code}

    def _mark_stopped(self, success: bool = True) -> None:  # noqa: FBT001, FBT002 - moto's signature
        """Let an array end with the last of its children; moto leaves one that failed pending."""
        super()._mark_stopped(success)
        parent = self.all_jobs.get(self.job_id.partition(":")[0])
        children = (parent and parent._child_jobs) or []  # noqa: SLF001 - of its own class
        if parent and children and all(child.job_stopped for child in children):
            done = all(child.status == JobStatus.SUCCEEDED for child in children)
            super(ProcessJob, parent)._mark_stopped(done)  # type: ignore[misc] - a ProcessJob


def install(processes: Processes, logs: Path, url: str) -> None:
    """Let moto run its jobs as processes, as many at once as there are cores.

    Args:
        processes: Starts and ends them.
        logs: Folder in which `jobs/` is made for what they print.
        url: Where they find AWS.
    """
    ProcessJob.processes, ProcessJob.logs, ProcessJob.url = processes, logs / "jobs", url
    ProcessJob.slots = threading.BoundedSemaphore(cores())
    models.Job = ProcessJob  # type: ignore[misc] - the one name by which moto makes jobs
