"""What `just doctor` checks of the machine: Python, tools, packages, disk, memory, ports.

Importing it needs no installed package, so that it works where they are missing.
"""

import difflib
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

GB = 10**9
# Below the first, the next run may fail; below the second, it will.
FREE_DISK = (2 * GB, 0.2 * GB)
# .venv has 3 GB; the downloads it is made of are kept beside it.
INSTALLATION = 5 * GB
# A process that imports Keras takes 0.75 GB; a training runs one a core.
FREE_MEMORY = (2 * GB, 0.75 * GB)
# Port: the recipe that listens there, and words of which the command of its process has one.
SERVERS = {
    5000: ("just mlflow", ("mlflow",)),
    8000: ("just dashboard", ("dashboard",)),
    8001: ("just agents", ("adk",)),
    8002: ("just docs", ("docs", "guide")),
}
# What python-dotenv reads and just does not: spaces in a value without quotes.
SPACES = re.compile(r"\s*(?:export\s+)?\w+\s*=\s*[^\s'\"#][^\s]*[ \t]+[^\s#]")
NAME = re.compile(r"^#?\s?([A-Z][A-Z0-9_]*)=", re.MULTILINE)
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|ALERT_URLS")


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes:
        told: What was found; where it is not well, what is wrong.
        mend: What to do about it, most often a command.
    """

    check: str
    state: Literal["ok", "warn", "fail"]
    told: str
    mend: str = ""


def check_python() -> Iterator[Finding]:
    """Check the version, and whether the interpreter was compiled with its optimizations."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        mend = "install Python 3.11, 3.12 or 3.13, remove .venv, and run `just setup`"
        yield Finding("python", "fail", f"{version} is not supported", mend)
    elif is_slow(sys.base_prefix, sysconfig.get_config_var("CONFIG_ARGS") or ""):
        yield Finding(
            "python",
            "warn",
            f"{version} in {sys.base_prefix} was compiled without its optimizations: plain"
            " Python takes half as long again",
            "`rm -r .venv && UV_MANAGED_PYTHON=1 just setup` takes one that uv brings",
        )
    else:
        yield Finding("python", "ok", version)


def is_slow(prefix: str, options: str) -> bool:
    """Whether a CPython was compiled without --enable-optimizations.

    Distributions, whose own stand in /usr, optimize in another way and do not name it there.
    """
    return "--enable-optimizations" not in options and prefix != "/usr"


def check_tools(root: Path) -> Iterator[Finding]:
    """Check git, uv and just, and the filter that keeps download addresses out of uv.lock."""
    for name in ("git", "uv", "just"):
        path = find_tool(root, name)
        if path:
            yield Finding(name, "ok", first_line([path, "--version"]))
        else:
            mend = "`apt-get install git`" if name == "git" else "`./justw setup` installs it"
            yield Finding(name, "fail", "is missing", mend)
    if not find_tool(root, "git"):
        return
    clean = first_line(["git", "-C", str(root), "config", "filter.lock-without-addresses.clean"])
    if clean:
        yield Finding("uv.lock", "ok", "git keeps its download addresses out of commits")
    else:
        told = "git would put its download addresses into commits"
        yield Finding("uv.lock", "warn", told, "`just setup` in a clone made by git")


def find_tool(root: Path, name: str) -> str | None:
    """Return the path of a program on PATH, or where justw puts it."""
    return shutil.which(name) or shutil.which(name, path=str(root / ".tools" / "bin"))


def first_line(command: Sequence[str]) -> str:
    """Return the first line that a command prints; nothing where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)  # noqa: S603 - our own words
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def check_packages(root: Path) -> Iterator[Finding]:
    """Check that .venv holds what uv.lock says."""
    if not (root / ".venv" / "bin" / "python").exists():
        yield Finding("packages", "fail", "there is no .venv", "`just setup`")
        return
    uv = find_tool(root, "uv")
    if not uv:
        yield Finding("packages", "warn", "cannot be compared with uv.lock without uv")
        return
    done = subprocess.run(  # noqa: S603 - our own words
        [uv, "sync", "--check", "--frozen", "--inexact", "--offline"],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
        timeout=10,
    )
    if done.returncode == 0:
        yield Finding("packages", "ok", ".venv holds what uv.lock says")
    else:
        lines = [line.strip() for line in done.stderr.splitlines()]
        changes = [line for line in lines if line.startswith(("+", "-", "~"))]
        told = ", ".join(changes[:3]) + (f" and {len(changes) - 3} more" if changes[3:] else "")
        told = told or next(
            (line for line in lines if "error" in line.lower()), "uv gave no reason"
        )
        yield Finding("packages", "fail", f".venv is not what uv.lock says: {told}", "`just setup`")


def check_disk(root: Path, state: Path) -> Iterator[Finding]:
    """Check the free space, and that runs can write where they have to."""
    free = shutil.disk_usage(root).free
    told = f"{free / GB:.1f} GB free"
    mend = "make space; `just clean` removes what runs made, `uv cache prune` old downloads"
    if not (root / ".venv").exists() and free < INSTALLATION:
        yield Finding("disk", "fail", f"{told}; the packages need {INSTALLATION / GB:g}", mend)
    elif free < FREE_DISK[0]:
        yield Finding("disk", "fail" if free < FREE_DISK[1] else "warn", told, mend)
    else:
        yield Finding("disk", "ok", told)
    for folder in dict.fromkeys((root, state)):
        if not folder.exists():
            continue
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            mend = f"`sudo chown -R $(id -u) {folder}`"
            if folder == state:
                mend = f"set ROOKERY_STATE to a folder that you may write, or {mend}"
            yield Finding("disk", "fail", f"{folder} cannot be written ({error.strerror})", mend)


def check_memory() -> Iterator[Finding]:
    """Check how much memory is free, within the limit of a container."""
    free = available_memory()
    told = f"{free / GB:.1f} GB free"
    mend = "end other programs, or train with fewer processes: `just train --max-workers 1`"
    if free < FREE_MEMORY[0]:
        told += "; a process that trains takes 0.75"
        yield Finding("memory", "fail" if free < FREE_MEMORY[1] else "warn", told, mend)
    else:
        yield Finding("memory", "ok", told)


def available_memory() -> int:
    """Return the bytes that new processes can have."""
    import psutil  # noqa: PLC0415 - it may be missing

    free = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no cgroup, or no limit ("max")
        limit = int((group / "memory.max").read_text())
        return min(free, limit - int((group / "memory.current").read_text()))
    return free


def check_ports(root: Path) -> Iterator[Finding]:
    """Check the ports of the servers besides the endpoint's: free, ours, or somebody else's."""
    for port, (recipe, words) in SERVERS.items():
        if not is_taken("127.0.0.1", port):
            yield Finding(f"port {port}", "ok", f"free for `{recipe}`")
            continue
        who, command = listener(port)
        if str(root) in command and any(word in command for word in words):
            yield Finding(f"port {port}", "ok", f"`{recipe}` runs ({who})")
        else:
            yield Finding(
                f"port {port}",
                "warn",
                f"taken by {who}",
                f"end it, or give another: `{recipe} --port {port + 10_000}`",
            )


def is_taken(host: str, port: int) -> bool:
    """Whether something listens on an address of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def listener(port: int) -> tuple[str, str]:
    """Return who listens on a port, as people read it, and its whole command with its folder."""
    unknown = "a process that cannot be seen from here", ""
    try:
        import psutil  # noqa: PLC0415 - it may be missing
    except ImportError:
        return unknown
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == "LISTEN" and local and local.port == port and connection.pid:
                process = psutil.Process(connection.pid)
                command = " ".join(process.cmdline())
                shown = command if len(command) <= 60 else f"{command[:60]}…"  # noqa: PLR2004 - fits a line
                return f"process {process.pid}: {shown}", f"{command} {process.cwd()}"
    return unknown


def check_variables(root: Path, file: Path) -> Iterator[Finding]:
    """Check that .env can be read, that its names are known, and that only its owner reads it."""
    if not file.exists():
        yield Finding(".env", "ok", "none: the defaults hold")
        return
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        mend = f"write it again, as UTF-8, from {root / '.env.example'}"
        yield Finding(".env", "fail", f"{file} cannot be read ({error})", mend)
        return
    from dotenv.parser import parse_stream  # noqa: PLC0415 - it may be missing

    from inference.variables import replaced_by_shells  # noqa: PLC0415 - so may what it imports

    with file.open(encoding="utf-8") as stream:
        bindings = list(parse_stream(stream))
    wrong = [
        str(binding.original.line)
        for binding in bindings
        if binding.error
        or (binding.key and binding.value is None)
        or SPACES.match(binding.original.string)
    ]
    if wrong:
        told = f"{file}, line {', '.join(wrong)}: not NAME=value, so that no recipe runs"
        yield Finding(".env", "fail", told, "put a value with spaces into quotes")
        return
    if replaced := replaced_by_shells(file):
        told = f"{', '.join(replaced)}: just and shells replace a $ and what follows it"
        yield Finding(".env", "fail", told, "put the value between single quotes")
        return
    known = set(NAME.findall((root / ".env.example").read_text(encoding="utf-8")))
    names = [binding.key for binding in bindings if binding.key]
    for name in names:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        if name not in known and close:
            told = f"{name} is none of the project's variables"
            yield Finding(".env", "warn", told, f"write {close[0]}, if that is what you mean")
    if file.stat().st_mode & 0o077 and SECRET.search(text):
        told = "others on this machine may read the secrets in it"
        yield Finding(".env", "warn", told, f"`chmod 600 {file}`")
    set_elsewhere = [
        binding.key
        for binding in bindings
        if binding.key
        and binding.value
        # what names other variables is put together later
        and "$" not in binding.value
        and os.environ.get(binding.key, binding.value) != binding.value
    ]
    if set_elsewhere:
        told = f"does not hold for {', '.join(set_elsewhere)}: the environment sets another value"
        yield Finding(".env", "warn", told, "unset there what .env is to say")
    yield Finding(".env", "ok", f"{len(names)} variables")


def check_browser() -> Iterator[Finding]:
    """Check for the browser that tests of pages and pictures need."""
    if shutil.which("chromium"):
        yield Finding("chromium", "ok", "is there, for tests of pages and `just pictures`")
    else:
        told = "is missing: tests of pages are skipped, `just pictures` does not work"
        yield Finding("chromium", "warn", told, "`sudo apt-get install chromium`")
