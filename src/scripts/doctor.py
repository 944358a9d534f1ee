"""Check what the project needs, and say of each thing that is wrong how it is mended."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from scripts import checks_machine
from scripts.checks_machine import Finding

ROOT = Path(os.environ.get("ROOKERY_ROOT") or Path(__file__).resolve().parents[2])
COLOURS = {"ok": "32", "warn": "33", "fail": "31"}
PACKAGES = "`just setup` installs the packages"


def main() -> None:
    """Check all, print a line for each finding, and exit with 1 where one is a failure."""
    parser = argparse.ArgumentParser(
        prog="just doctor",
        description="Check Python, packages, disk, ports, store, endpoint and credentials."
        " Exits 1 where something has to be mended.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--config",
        type=Path,
        default=ROOT / (os.environ.get("ROOKERY_CONFIG") or "config/local.yml"),
        help="config file of the project",
    )
    arguments = parser.parse_args()
    findings = []
    for finding in examine(arguments.config):
        findings.append(finding)
        if not arguments.json:
            show(finding)
    failed = sum(finding.state == "fail" for finding in findings)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        warned = sum(finding.state == "warn" for finding in findings)
        print(f"{failed} to mend, {warned} to know" if failed or warned else "all is well")
    sys.exit(1 if failed else 0)


def examine(config: Path) -> Iterator[Finding]:
    """Make every check; one that breaks is a finding itself."""
    variables = Path(os.environ.get("ROOKERY_ENV_FILE") or ROOT / ".env")
    # before anything reads the file: what stops that is told here
    yield from attempt(".env", lambda: checks_machine.check_variables(ROOT, variables))
    yield from attempt("python", checks_machine.check_python)
    yield from attempt("tools", lambda: checks_machine.check_tools(ROOT))
    yield from attempt("packages", lambda: checks_machine.check_packages(ROOT))
    state = ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery")
    yield from attempt("disk", lambda: checks_machine.check_disk(ROOT, state))
    yield from attempt("memory", checks_machine.check_memory)
    yield from attempt("ports", lambda: checks_machine.check_ports(ROOT))
    yield from attempt("config", lambda: examine_project(config))
    yield from attempt("chromium", checks_machine.check_browser)


def examine_project(config: Path) -> Iterator[Finding]:
    """Make the checks that need the config file and the project's own packages."""
    from common import settings  # noqa: PLC0415 - packages may be missing
    from inference.errors import ConfigurationError  # noqa: PLC0415
    from scripts import checks_project  # noqa: PLC0415

    try:
        loaded = settings.load(config)
    except ConfigurationError as error:
        yield Finding("config", "fail", str(error), "change what it names")
        told = "table, store, endpoint and captures were not looked at: they need the config file"
        yield Finding("config", "warn", told)
    else:
        yield Finding("config", "ok", f"{config}, for project {loaded.project}")
        yield from attempt("table", lambda: checks_project.check_table(loaded))
        yield from attempt("store", lambda: checks_project.check_store(loaded))
        yield from attempt("endpoint", lambda: checks_project.check_endpoint(loaded))
        yield from attempt("captures", lambda: checks_project.check_captures(loaded))
        yield from attempt("aws", lambda: checks_project.check_aws(loaded))
    yield from attempt("agents", checks_project.check_agents)


def attempt(check: str, run: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Make a check; whatever stops it is what is wrong."""
    try:
        yield from run()
    except ImportError as error:
        yield Finding(check, "fail", f"could not be checked: {error}", PACKAGES)
    # SystemExit: the package `common` where .env cannot be read
    except (Exception, SystemExit) as error:  # noqa: BLE001 - told, not swallowed: the other checks go on
        told = f"could not be checked: {type(error).__name__}: {' '.join(str(error).split())}"
        yield Finding(check, "fail", told, "mend what it names; if it names nothing, report it")


def show(finding: Finding) -> None:
    """Print a finding; in colour at a terminal, unless NO_COLOR is set."""
    state = f"{finding.state:4}"
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        state = f"\033[{COLOURS[finding.state]}m{state}\033[0m"
    print(f"{state}  {finding.check:10} {finding.told}", flush=True)
    if finding.mend:
        print(f"{'':16} → {finding.mend}", flush=True)


if __name__ == "__main__":
    main()
