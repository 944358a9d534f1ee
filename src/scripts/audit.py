"""Look for known vulnerabilities in the locked packages, and for secrets in files and history."""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from common import ROOT
from common.progress import progress
from inference.errors import ConfigurationError, RookeryError
from inference.schema import Strict
from scripts.checks_machine import find_tool
from scripts.command_line import one_line_errors

ALLOWED = ROOT / ".ci" / "audit.toml"
CACHE = ROOT / ".tools" / "cache"
# Each runs in an environment of its own: what they need is nothing of the project's.
PIP_AUDIT = ("--exclude-newer", "2026-11-23T00:00:00Z", "pip-audit==2.10.1")
KINGFISHER = ("--from", "kingfisher-bin==2.14.0", "kingfisher")
# Exit codes of kingfisher: nothing found, something that may be a secret, one that is in use.
SCANNED = (0, 200, 205)
FOUND = 2


class Part(StrEnum):
    """What is looked at; all is packages and secrets, staged is what `git commit` would take."""

    ALL = "all"
    PACKAGES = "packages"
    SECRETS = "secrets"
    STAGED = "staged"


class Service(StrEnum):
    """Who is asked about vulnerabilities; both hold the Python Packaging Advisory Database."""

    PYPI = "pypi"
    OSV = "osv"


class AuditError(RookeryError):
    """Something could not be looked at, so that nothing is known about it."""

    code = "audit"


class Vulnerability(Strict):
    """A vulnerability that is let pass until a day."""

    id: str
    reason: str
    until: date


class Secret(Strict):
    """Something that only looks like a secret."""

    fingerprint: str
    reason: str


class Allowed(Strict):
    """The file of what is let pass."""

    vulnerability: tuple[Vulnerability, ...] = ()
    secret: tuple[Secret, ...] = ()


def audit(
    part: Annotated[Part, typer.Argument(help="What to look at.")] = Part.ALL,
    service: Annotated[
        Service, typer.Option(help="Who is asked about vulnerabilities.")
    ] = Service.PYPI,
    osv_url: Annotated[
        str | None, typer.Option(help="Another address of OSV's API, such as a mirror's.")
    ] = None,
    root: Annotated[Path, typer.Option(help="Repository to look at.")] = ROOT,
) -> None:
    """Look for known vulnerabilities in the locked packages, and for secrets.

    Exits 0 where nothing is found, 2 where something is, and 1 where it could not be told.
    """
    found, failed = 0, False
    with one_line_errors():
        allowed = read_allowed(ALLOWED)
        looks = {
            Part.PACKAGES: lambda: look_at_packages(root, allowed, service, osv_url),
            Part.SECRETS: lambda: look_for_secrets(root, allowed),
            Part.STAGED: lambda: secrets(scan(root, ["--staged", "."]), allowed),
        }
        for name in (Part.PACKAGES, Part.SECRETS) if part is Part.ALL else (part,):
            try:
                for line in looks[name]():
                    print(line)
                    found += 1
            except AuditError as error:
                print(f"error: {error}", file=sys.stderr)
                failed = True
    if found or failed:
        raise SystemExit(FOUND if found else 1)


def read_allowed(path: Path) -> Allowed:
    """Read what is let pass.

    Raises:
        ConfigurationError: The file is not there, no TOML, or an entry lacks something.
    """
    try:
        return Allowed.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"{path}: {place}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error


def look_at_packages(
    root: Path, allowed: Allowed, service: Service, osv_url: str | None
) -> list[str]:
    """Ask for known vulnerabilities of all locked packages; return a line for each.

    Raises:
        AuditError: The service did not answer, or not for every package.
    """
    with tempfile.TemporaryDirectory() as folder:
        locked = Path(folder) / "requirements.txt"
        export = [
            *("export", "--quiet", "--frozen", "--all-groups", "--no-emit-project"),
            *("--no-hashes", "--no-header", "--no-annotate", "--output-file", str(locked)),
        ]
        done = run_uv(root, export)
        if done.returncode:
            raise AuditError(f"packages: uv.lock cannot be read: {reason_in(done.stderr)}")
        count = len(locked.read_text(encoding="utf-8").splitlines())
        command = [
            *("tool", "run", *PIP_AUDIT, "--requirement", str(locked), "--no-deps"),
            *("--disable-pip", "--format", "json", "--progress-spinner", "off"),
            *("--cache-dir", str(CACHE / "pip-audit"), "--vulnerability-service", service),
            *(("--osv-url", osv_url) if osv_url else ()),
        ]
        with progress(f"asking {service} about {count} locked packages"):
            done = run_uv(root, command)
    try:
        answers = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError) as error:
        raise AuditError(
            f"packages: {service} cannot be asked, so nothing is known about {count} locked"
            f" packages: {reason_in(done.stderr)}"
        ) from error
    unknown = [answer["name"] for answer in answers if "skip_reason" in answer]
    if unknown:
        raise AuditError(
            f"packages: {service} says nothing about {len(unknown)} of {len(answers)} locked"
            f" packages ({', '.join(unknown[:3])}, …): a proxy may stand before it; try"
            " `just audit packages --service osv`"
        )
    lines = vulnerable(answers, allowed, datetime.now(UTC).date())
    if not lines:
        print(f"packages: no known vulnerability in {len(answers)} locked packages")
    return lines


def vulnerable(answers: Sequence[dict[str, Any]], allowed: Allowed, today: date) -> list[str]:
    """Return a line for each vulnerability that is not let pass today."""
    passed = {entry.id for entry in allowed.vulnerability if today < entry.until}
    return [
        f"packages: {answer['name']} {answer['version']}: {found['id']}"
        f" ({', '.join(found.get('aliases', [])) or 'no alias'}); "
        + (f"fixed in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "no fix")
        for answer in answers
        for found in answer["vulns"]
        if not passed & {found["id"], *found.get("aliases", [])}
    ]


def look_for_secrets(root: Path, allowed: Allowed) -> list[str]:
    """Look at all files that git has or would add, and at all commits; return a line a secret.

    Raises:
        AuditError: The scanner did not do its work.
    """
    try:
        files = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        history = git(root, "rev-parse", "--path-format=absolute", "--git-common-dir").strip()
    except subprocess.CalledProcessError as error:
        raise AuditError(f"secrets: {root} is no clone made by git: {error.stderr}") from error
    present = [name for name in files.split("\0") if name and (root / name).is_file()]
    done = scan(root, [*present, history])
    lines = secrets(done, allowed)
    if not lines:
        print(f"secrets: none in {len(present)} files and in the history")
    return lines


def scan(root: Path, what: Sequence[str]) -> list[dict[str, Any]]:
    """Return what looks like a secret, as kingfisher reports it.

    Raises:
        AuditError: It could not run.
    """
    command = [
        *("tool", "run", *KINGFISHER, "scan", "--format", "json", "--quiet", "--redact"),
        # no secret is sent anywhere to find out whether it works
        *("--no-validate", "--no-update-check"),
        *("--rule-cache-dir", str(CACHE / "kingfisher"), *what),
    ]
    with progress("looking for secrets"):
        done = run_uv(root, command)
    try:
        if done.returncode not in SCANNED:
            raise ValueError(done.returncode)  # noqa: TRY301 - the same as no report
        return json.loads(done.stdout)["findings"]
    except (ValueError, KeyError) as error:
        raise AuditError(
            f"secrets: the scan failed: {reason_in(done.stderr or done.stdout)}"
        ) from error


def secrets(findings: Sequence[dict[str, Any]], allowed: Allowed) -> list[str]:
    """Return a line for each secret that is not let pass, without the secret."""
    passed = {entry.fingerprint for entry in allowed.secret}
    lines = []
    for finding in findings:
        place = finding["finding"]
        if place["fingerprint"] in passed:
            continue
        commit = place.get("git_metadata", {}).get("commit", {}).get("id", "")
        lines.append(
            f"secrets: {place['path']}, line {place['line']}"
            + (f", commit {commit[:12]}" if commit else "")
            + f": {finding['rule']['name']} (fingerprint {place['fingerprint']}); revoke it where"
            " it is valid, then remove it"
        )
    return lines


def git(root: Path, *words: str) -> str:
    """Return what a git command prints."""
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - git's own commands


def run_uv(root: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run uv in the repository."""
    command = [find_tool(ROOT, "uv") or "uv", *words]
    return subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)  # noqa: S603 - our own words


def reason_in(text: str) -> str:
    """Return the first error in what a program said, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines[-1:] or ["it gave no reason"])[0][:300]


if __name__ == "__main__":
    typer.run(audit)
