"""Monitoring: captured rows beside the reference of the deployed version, checks, reports."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaflow import card, current, step  # type: ignore[attr-defined] - card is a plug-in

from common import ROOT, registry, tracking
from common.monitoring.review import read_reference, review
from common.pipeline import Pipeline, backend, parameter, require_at_least

if TYPE_CHECKING:
    from rich.table import Table


HEADERS = ("check", "column", "figure", "limit", "verdict", "what it says")
TABLE_WIDTH = 120
# MLflow allows no other characters in the name of a metric.
REFUSED = re.compile(r"[^\w\-. :/]")


class Monitoring(Pipeline):
    """Compare what was captured with what the deployed version was trained on."""

    samples: int = parameter("samples", default=500, help="Judge this many rows, the newest ones.")

    @card(id="checks")
    @card(type="html", id="quality", options={"artifact": "quality_html"})
    @card(type="html", id="drift", options={"artifact": "drift_html"})
    @card(type="html", id="data", options={"artifact": "data_html"})
    @backend
    @step
    def start(self) -> None:
        """Judge what was captured, and keep figures and reports in MLflow.

        One step, not three: each would pay again for importing MLflow.
        """
        require_at_least(1, samples=self.samples)
        version = registry.champion(self.settings.project)
        self.version = str(version.version)
        schema, reference = read_reference(version)
        captured = self.backend_impl.load(schema, self.samples)
        self.rows = len(captured)
        found = review(captured, reference, schema, self.version, self.settings.monitoring)
        self.verdict, self.checks = found.verdict, found.checks
        self.data_html, self.drift_html, self.quality_html = found.pages.values()
        self.folder = str(write_pages(found.pages, reports_folder() / str(current.run_id)))
        fill_card(self.verdict, self.version, self.checks)
        run = tracking.start_run(
            f"{self.settings.project}-monitoring", str(current.run_id), str(current.flow_name)
        )
        self.mlflow_run_id = run.info.run_id
        log_pages(self.mlflow_run_id, self.folder)
        tags = {
            "verdict": self.verdict,
            "model_version": self.version,
            "training_run": version.run_id or "unknown",
        }
        tracking.finish(self.mlflow_run_id, metrics(self.checks), tags)
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what was found."""
        print_checks(self.checks)
        print_lines(
            f"verdict: {self.verdict} (version {self.version}, {self.rows} rows)",
            f"reports: {self.folder}",
        )


def reports_folder() -> Path:
    """Return the folder on this machine in which every run keeps its reports."""
    return ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "reports"


def write_pages(pages: Mapping[str, str], folder: Path) -> Path:
    """Write each page to `<name>.html` in a folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pages.items():
        (folder / f"{name}.html").write_text(content, encoding="utf-8")
    return folder


def log_pages(run_id: str, folder: str) -> None:
    """Keep the pages with an MLflow run."""
    import mlflow  # noqa: PLC0415 - 4 s

    mlflow.MlflowClient().log_artifacts(run_id, folder, "reports")


def metrics(checks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of the checks, by names that MLflow takes."""
    return {
        REFUSED.sub("_", "/".join(filter(None, (check["name"], check["column"])))): check["figure"]
        for check in checks
        if check["figure"] is not None
    }


def table(checks: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the checks as rows of text under HEADERS."""
    return [
        [
            check["name"],
            check["column"] or "",
            *("" if check[key] is None else f"{check[key]:.4g}" for key in ("figure", "limit")),
            check["verdict"],
            check["sentence"],
        ]
        for check in checks
    ]


def print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """Print the table of checks, and the sentences of those that did not pass."""
    from rich.table import Table  # noqa: PLC0415 - only the last step prints
    from rich.text import Text  # noqa: PLC0415

    shown = Table(*HEADERS[:-1])
    for *cells, _ in table(checks):
        # not markup: the name of a column may hold brackets
        shown.add_row(*map(Text, cells))
    troubles = (f"{c['verdict']}: {c['sentence']}" for c in checks if c["verdict"] != "pass")
    print_lines(shown, *dict.fromkeys(troubles))


def print_lines(*lines: "str | Table") -> None:
    """Print to the terminal, or to the log of the task."""
    from rich.console import Console  # noqa: PLC0415 - see print_checks

    console = Console(width=TABLE_WIDTH, markup=False, highlight=False)
    for line in lines:
        console.print(line, soft_wrap=isinstance(line, str))


def fill_card(verdict: str, version: str, checks: Sequence[Mapping[str, Any]]) -> None:
    """Fill the card `checks` of the running step."""
    from metaflow.cards import Markdown, Table  # noqa: PLC0415 - only this step has cards

    current.card["checks"].extend(  # type: ignore[attr-defined] - made when a step has a card
        [
            Markdown(
                f"# Verdict: {verdict}\nCaptured rows beside the reference of version {version}."
            ),
            Table([[*row] for row in table(checks)], headers=[*HEADERS]),
        ]
    )


if __name__ == "__main__":
    Monitoring()
