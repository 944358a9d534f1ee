"""A fresh clone in which the commands of the pages are run, as somebody who reads them would."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import yaml

from common import ROOT
from inference import launcher
from inference.live import LiveFolder

SECONDS = 600
START_SECONDS = 60
# what is typed in front of a command: variables, and the wrapper for machines without just
IN_FRONT = re.compile(r"^((?:[A-Z_]+=\S* )*)(?:\./justw|just)\b")
COMMENT = re.compile(r"\s+#\s.*$", re.MULTILINE)


class Commands:
    """What is to be done with a command: tests/docs/commands.yml."""

    def __init__(self, table: dict) -> None:
        self.table = table

    @classmethod
    def read(cls) -> "Commands":
        return cls(yaml.safe_load((ROOT / "tests/docs/commands.yml").read_text(encoding="utf-8")))

    def skipped(self, command: str) -> bool:
        """Whether other tests run it, or none can."""
        text = plain(command)
        parts = [part.strip() for part in text.split("&&")]
        known = [*self.table["not_run"], *self.table["elsewhere"]]
        return all(any(matches(one, part) for one in known) or is_of_aws(part) for part in parts)

    def is_heavy(self, command: str) -> bool:
        """Whether it takes long, so that it is run once."""
        return matches(self.table["once"], plain(command))

    def serves(self, command: str) -> bool:
        """Whether it goes on until Ctrl-C."""
        return any(matches(f"{one}( .*)?", plain(command)) for one in self.table["serves"])

    def codes(self, command: str) -> set[int]:
        """Return the exit codes that are an answer."""
        more = [c for one, c in self.table["codes"].items() if matches(one, plain(command))]
        return {0, *(code for codes in more for code in codes)}


def plain(command: str) -> str:
    """Return a command without comment and variables, and with `just` for `./justw`."""
    text = COMMENT.sub("", command).strip()
    return IN_FRONT.sub("just", text)


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def is_of_aws(text: str) -> bool:
    """Whether it is a recipe that the rehearsal's circle runs."""
    named = re.match(r"just (?:rehearse )?((?:aws|sagemaker)-[a-z-]+)", text)
    circle = (ROOT / "src/scripts/rehearsal/circle.py").read_text(encoding="utf-8")
    return bool(named) and f'"{named[1]}"' in circle


class Clone:
    """A clone of the working tree, with an empty home.

    Attributes:
        folder: Its root.
        environment: What its commands see.
    """

    def __init__(self, folder: Path, home: Path, commands: Commands) -> None:
        self.folder = folder
        self.commands = commands
        self.ports: dict[str, str] = {}
        self.done: set[str] = set()
        kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        # what the tests run with is not what the clone runs with
        path = [part for part in kept["PATH"].split(os.pathsep) if ".venv" not in part]
        self.environment = kept | {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "PATH": os.pathsep.join(path),
            "UV_CACHE_DIR": self._packages(),
            "COLUMNS": "120",
            "PYTHONDONTWRITEBYTECODE": "",
        }

    @staticmethod
    def _packages() -> str:
        """Return where uv keeps what it has downloaded, so that it need not do so again."""
        asked = subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True)
        return asked.stdout.strip()

    def make(self) -> None:
        """Copy what git has, or would take, and install it."""
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
        for name in filter(None, names.stdout.split("\0")):
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.folder / name)
        self.check("git init --quiet . && git add --all")
        author = "-c user.name=Reader -c user.email=reader@example.com"
        self.check(f"git {author} commit --quiet --no-verify --message Start")
        self.check("./justw setup")

    def replaced(self, text: str) -> str:
        """Put free ports in the place of those that a text names."""
        for port in map(str, self.commands.table["ports"]):
            if port in text:
                text = re.sub(rf"(?<=127\.0\.0\.1:){port}\b", self.port(port), text)
        return text

    def port(self, named: str) -> str:
        """Return the free port that stands for one that the pages name."""
        if named not in self.ports:
            with socket.create_server(("127.0.0.1", 0)) as server:
                self.ports[named] = str(server.getsockname()[1])
        return self.ports[named]

    def free_configs(self) -> None:
        """Give the projects free ports; a command may have written one."""
        for file in (self.folder / "config").glob("*.yml"):
            text = file.read_text(encoding="utf-8")
            if (new := self.replaced(text)) != text:
                file.write_text(new, encoding="utf-8")

    def start(self, command: str, output: Path) -> subprocess.Popen:
        """Start a command in a process group of its own, as a terminal does."""
        self.free_configs()
        return subprocess.Popen(
            ["bash", "-c", self.replaced(command)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def check(self, command: str, place: str = "") -> None:
        """Run a command, whose exit code must be an answer."""
        output = self.folder.with_suffix(".log")
        process = self.start(command, output)
        try:
            code = process.wait(SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        said = output.read_text(encoding="utf-8", errors="replace")
        assert code in self.commands.codes(command), f"{place}: {command}\nexit {code}\n{said}"

    @contextmanager
    def visit(self, page: str) -> Iterator["Visit"]:
        """Do what the commands of a page do."""
        visit = Visit(self)
        for command in self.commands.table["given"].get(page, []):
            visit.command(command, f"given {page}")
        try:
            yield visit
        finally:
            visit.end()

    def end(self) -> None:
        """Stop what the pages left serving; nothing else may be left running."""
        for folder in self.folder.rglob("serving"):
            launcher.stop(LiveFolder(folder))
        left = [
            process.cmdline()
            for process in psutil.process_iter()
            if process.pid != os.getpid() and self._is_of_clone(process)
        ]
        shutil.rmtree(self.folder)
        assert not left, left

    def _is_of_clone(self, process: psutil.Process) -> bool:
        try:
            return Path(process.cwd()).is_relative_to(self.folder)
        except psutil.Error:
            return False


class Visit:
    """What the commands of one page did."""

    def __init__(self, clone: Clone) -> None:
        self.clone = clone
        self.patches: list[str] = []
        self.serving: list[subprocess.Popen] = []

    def run(self, block) -> None:
        """Do what a block says; what it serves is ended with it."""
        if block.language == "diff":
            self.patch(block)
        elif block.file:
            file = self.clone.folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.clone.replaced(block.content), encoding="utf-8")
        elif block.language == "python":
            script = self.clone.folder / "block.py"
            script.write_text(self.clone.replaced(block.content), encoding="utf-8")
            self.clone.check("uv run --no-sync python block.py", block.place)
            script.unlink()
        else:
            for command in block.commands():
                self.command(command, block.place)
            self.end_serving()

    def command(self, command: str, place: str) -> None:
        clone = self.clone
        if clone.commands.skipped(command):
            return
        if clone.commands.serves(command):
            self.serve(command, place)
            return
        if clone.commands.is_heavy(command):
            spelling = " ".join(COMMENT.sub("", command).split())
            if spelling in clone.done:
                return
            clone.done.add(spelling)
        clone.check(command, place)

    def serve(self, command: str, place: str) -> None:
        """Start what serves, and wait until it does."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        output = self.clone.folder.with_suffix(".served.log")
        text = f"{COMMENT.sub('', command)} --port {port}"
        process = self.clone.start(text, output)
        self.serving.append(process)
        deadline = time.monotonic() + START_SECONDS
        while True:
            said = output.read_text(encoding="utf-8", errors="replace")
            assert process.poll() is None, f"{place}: {text}\n{said}"
            assert time.monotonic() < deadline, f"{place}: {text} does not answer\n{said}"
            with socket.socket() as asked:
                if not asked.connect_ex(("127.0.0.1", port)):
                    return
            time.sleep(0.2)

    def end_serving(self) -> None:
        """Press Ctrl-C."""
        while self.serving:
            process = self.serving.pop()
            os.killpg(process.pid, signal.SIGINT)
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            assert code in (0, 130, -signal.SIGINT), f"{process.args}: exit {code} after Ctrl-C"

    def patch(self, block) -> None:
        """Change a file of the clone until the page's end."""
        self.git_apply(block.content, block.place)
        self.patches.append(block.content)

    def git_apply(self, patch: str, place: str, *options: str) -> None:
        done = subprocess.run(
            ["git", "apply", *options, "-"],
            cwd=self.clone.folder,
            input=patch,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{place}: {done.stderr}"

    def end(self) -> None:
        self.end_serving()
        while self.patches:
            self.git_apply(self.patches.pop(), "at the page's end", "--reverse")
