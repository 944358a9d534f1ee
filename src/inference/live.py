"""Which version is live: a pointer file that a deploy moves and the server's workers follow.

The folder holds:

    models/<version>/     schema and engine of each version
    live.json             the pointer: version, run, folder, and a generation that only grows
    workers/<pid>.json    what each worker serves, or why it could not follow
    server.json           process id and address of the running server
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from inference.errors import BackendError

KEPT_VERSIONS = 3


@dataclass(frozen=True, slots=True)
class Pointer:
    """What is to be served.

    Attributes:
        generation: Grows with every move, so that each worker's report tells how far it is. It
            starts at the time in ns: workers may have seen an earlier first deploy that was undone.
        previous: The version that was live before, for a rollback.
    """

    version: str
    run_id: str
    generation: int
    previous: str | None = None
    previous_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker did with the pointer."""

    pid: int
    generation: int
    version: str
    error: str | None = None


class LiveFolder:
    """The folder through which a deployer and the server's workers talk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pointer_file = path / "live.json"
        self.server_file = path / "server.json"
        self.log_file = path / "server.log"
        self._workers = path / "workers"

    def model(self, version: str) -> Path:
        """Folder of a version's schema and engine."""
        return self.path / "models" / version

    def pointer(self) -> Pointer | None:
        """Read the pointer; None before the first deploy."""
        try:
            return Pointer(**json.loads(self.pointer_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise BackendError(
                f"{self.pointer_file}: damaged ({error}); remove it and deploy again"
            ) from error

    def point(self, version: str, run_id: str) -> Pointer:
        """Move the pointer to a version in one atomic step."""
        before = self.pointer()
        if before is None:
            pointer = Pointer(version, run_id, time.time_ns())
        elif before.version == version:
            pointer = replace(before, run_id=run_id, generation=before.generation + 1)
        else:
            pointer = Pointer(version, run_id, before.generation + 1, before.version, before.run_id)
        write_json(self.pointer_file, asdict(pointer))
        return pointer

    def restore(self, before: Pointer | None) -> None:
        """Undo a move; workers follow back, so the generation grows all the same."""
        now = self.pointer()
        if before is None or now is None:
            self.pointer_file.unlink(missing_ok=True)
        else:
            write_json(self.pointer_file, asdict(replace(before, generation=now.generation + 1)))

    def add_model(self, version: str, source: Path) -> Path:
        """Copy a version's files in, whole or not at all."""
        target = self.model(version)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".staging-"))
        replaced = staging.with_name(f"{staging.name}-replaced")
        try:
            shutil.copytree(source, staging, dirs_exist_ok=True)
            if target.exists():
                # a worker may be reading it
                target.rename(replaced)
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)
        os.utime(target)
        return target

    def drop_old_models(self) -> None:
        """Remove all versions but the newest three and those that are live or may come back."""
        folders = sorted(
            (self.path / "models").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True
        )
        # hidden ones are what a deploy that was killed left behind
        versions = [folder.name for folder in folders if not folder.name.startswith(".")]
        pointer = self.pointer()
        needed = {pointer.version, pointer.previous} if pointer else set()
        needed.update(versions[:KEPT_VERSIONS])
        for folder in folders:
            if folder.name not in needed:
                shutil.rmtree(folder)

    def report(self, report: Report) -> None:
        """Tell the deployer what this worker serves."""
        content = {"started": start_of(report.pid), "report": asdict(report)}
        write_json(self._workers / f"{report.pid}.json", content)

    def withdraw(self, pid: int) -> None:
        """Remove a worker's report when it ends."""
        (self._workers / f"{pid}.json").unlink(missing_ok=True)

    def reports(self) -> list[Report]:
        """Reports of the workers that are alive."""
        found = []
        for file in self._workers.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                content = json.loads(file.read_text(encoding="utf-8"))
                report = Report(**content["report"])
                if find_process(report.pid, content["started"]):
                    found.append(report)
                else:
                    file.unlink(missing_ok=True)
        return found

    def wait_for_workers(self, pointer: Pointer, timeout: float) -> None:
        """Return once every worker serves what the pointer says.

        Raises:
            BackendError: A worker could not load it, or did not follow in time.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            reports = self.reports()
            for report in reports:
                if report.generation == pointer.generation and report.error:
                    raise BackendError(f"version {pointer.version} does not load: {report.error}")
            if reports and all(report.generation >= pointer.generation for report in reports):
                return
            time.sleep(0.02)
        raise BackendError(
            f"not every worker took version {pointer.version} within {timeout:g} s;"
            f" see {self.log_file}"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other deployers out.

        Raises:
            BackendError: Another deploy is under way.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "deploy.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BackendError("another deploy is under way; try again when it ends") from error
            yield


def start_of(pid: int) -> str:
    """Say when a process started, so that it can be told from a later one with its id.

    On Linux in ticks since the machine's start, and of which start: psutil's time moves when the
    clock is set.

    Raises:
        psutil.NoSuchProcess: There is no such process.
    """
    stat = Path(f"/proc/{pid}/stat")
    try:
        # proc(5): the 22nd field; the second is a name that may hold anything, in brackets
        ticks = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return str(psutil.Process(pid).create_time())
    except ProcessLookupError as error:
        raise psutil.NoSuchProcess(pid) from error
    return f"{ticks} after {boot}"


def find_process(pid: int, started: str) -> psutil.Process | None:
    """Return the process that got this id at that time (ids are used again), if it still lives."""
    try:
        process = psutil.Process(pid)
        same = start_of(pid) == started
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    Path(name).replace(path)
