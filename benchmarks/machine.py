"""What every result says of where and when it was measured."""

import json
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def describe(packages: Iterable[str]) -> dict[str, Any]:
    """Return date, machine, and versions of Python and packages."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "system": platform.system(), "cpu": cpu_name()},
        "versions": {"python": platform.python_version()} | {n: version(n) for n in packages},
    }


def write(name: str, results: dict[str, Any]) -> None:
    """Write results as JSON."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def cpu_name() -> str:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
