"""Monitoring: captured rows beside the reference of the deployed version, checks, reports."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from metaflow import card, current, schedule, step  # type: ignore[attr-defined] - plug-ins
from metaflow.integrations import ArgoEvent  # type: ignore[attr-defined] - made at run time

from common import registry
from common.interruption import finishing
from common.monitoring import alerts, history, workspace
from common.monitoring.review import load_window, read_reference, review
from common.pipeline import Pipeline, backend, logger, parameter, require_at_least
from common.remote import is_remote
from inference.errors import RegistryError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from common.monitoring.review import References
    from inference.backend import Backend
    from inference.schema import Schema

TABLE_WIDTH = 120
# How many earlier runs the report draws.
PAST_RUNS = 50


# What a scheduler goes by (`argo-workflows create`, `step-functions create`); `run` goes at once,
# and once. Another time is set here: @schedule(daily=True), @schedule(cron="0/15 * * * ? *").
@schedule(hourly=True)
class Monitoring(Pipeline):
    """Compare what was captured with what the deployed version was trained on."""

    _keeps_mlflow_runs = True

    samples: int = parameter("samples", default=500, help="Judge this many rows, the newest ones.")

    # one card only: each takes two seconds
    @card(type="html", options={"artifact": "report_html"})
    @backend
    @step
    def start(self) -> None:
        """Judge what was captured, keep what was found, and tell of a verdict that changed.

        One step, not three: each would pay again for importing MLflow.
        """
        require_at_least(1, samples=self.samples)
        project, run = self.settings.project, str(current.run_id)
        champion = registry.champion(project)
        version, training_run = str(champion.version), champion.run_id or "unknown"
        references = registered_references(project)
        past = history.past(project, PAST_RUNS)
        schema, _ = references(version) or read_reference(champion)
        rows = load_window(self.backend_impl, schema, references, self.samples)
        found = review(rows, version, references, self.settings.monitoring, past, run)
        # a million of them take half a gigabyte
        del rows
        judged = asdict(found.judged)
        self.verdict, self.checks = judged["verdict"], judged["checks"]
        self.report_html = found.pages["report"]
        folder = workspace.state_folder() / "reports" / run
        self.outcome = {
            "project": project,
            **judged,
            "before": history.before(past),
            "others": [asdict(other) for other in found.others],
            "training_run": training_run,
            "reports": str(folder),
        }
        if self.verdict == "fail":
            challenger = registry.version_by_alias(project, registry.CHALLENGER)
            models = (version, *([str(challenger.version)] if challenger else []))
            self.outcome["retraining"] = count_labels(
                self.backend_impl,
                schema,
                [known[1] for known in map(references, models) if known],
                self.settings.monitoring.retrain_labels,
                self.samples,
            )
        with finishing(f"what was found was kept by then: {self.verdict}, {folder}"):
            write(folder, self.outcome, found.pages)
            self.mlflow_run_id = history.record(run, str(current.flow_name), self.outcome, folder)
        self.outcome["mlflow_run"] = self.mlflow_run_id
        remote = is_remote()
        if remote:
            # the folder goes when this task ends
            self.outcome["reports"] = f"runs:/{self.mlflow_run_id}/reports"
        self.outcome["alerts"] = tell(self.outcome, past, os.environ.get(alerts.URLS, ""))
        if not remote:
            with finishing("the dashboard shows what was found"):
                workspace.add(workspace.workspace_folder(), run, self.outcome, found.snapshots)
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what was found, also to a training flow that waits for it on Argo Workflows."""
        print_outcome(self.outcome)
        if self.verdict == "fail":
            announce_failure(self.settings.project, self.outcome["retraining"])


def announce_failure(project: str, retraining: Mapping[str, int]) -> None:
    """Publish the event for which the training flow waits; outside of Argo Workflows, do nothing.

    Args:
        project: Name of the project.
        retraining: What `count_labels` returns; with fewer labels than are needed, nothing is
            published.
    """
    if "ARGO_WORKFLOW_TEMPLATE" not in os.environ:
        return
    if retraining["labels"] < retraining["needed"]:
        logger.info(
            "no training is started: %d rows have labels that no model was trained on, and %d are"
            " needed",
            retraining["labels"],
            retraining["needed"],
        )
        return
    parameters = {"captured": True, "reference_rows": retraining["reference_rows"]}
    ArgoEvent(f"{project}-monitoring-failed").publish(parameters, ignore_errors=False)


def registered_references(project: str) -> "References":
    """Return what finds the schema and the reference of a version, each downloaded once."""
    registered = {str(version.version): version for version in registry.versions(project)}

    @cache
    def find(version: str) -> "tuple[Schema, pd.DataFrame] | None":
        if version not in registered:
            return None
        try:
            return read_reference(registered[version])
        except RegistryError as error:
            # one version whose files are damaged must not keep the others from being judged
            logger.warning("version %s has no reference: %s", version, error)
            return None

    return find


def count_labels(
    backend: "Backend",
    schema: "Schema",
    references: "Sequence[pd.DataFrame]",
    needed: int,
    window: int,
) -> dict[str, int]:
    """Count the rows that have got labels and that no model was trained on.

    Args:
        backend: Holds the rows.
        schema: Says which of them can be used.
        references: Of the models, with the ids of captured rows that they were trained on.
        needed: How many make retraining worth while; there may be more than are counted.
        window: How many rows were judged.

    Returns:
        `labels` (how many there are), `needed`, and `reference_rows`: how many labelled rows can
        stand for production as it is now, at most as many as were judged.
    """
    from common.retraining import MAX_CAPTURED_ROWS, fitting_rows  # noqa: PLC0415 - rarely needed

    known = {name for rows in references if "id" in rows for name in rows["id"].dropna()}
    limit = min(max(window, len(known) + needed), MAX_CAPTURED_ROWS)
    labelled = backend.load(schema, limit, labelled=True)
    usable = labelled[labelled["target"].isin(schema.classes) & fitting_rows(schema, labelled)]
    return {
        "labels": int((~usable["id"].isin(known)).sum()),
        "needed": needed,
        "reference_rows": min(window, len(usable)),
    }


def write(folder: Path, outcome: Mapping[str, Any], pages: Mapping[str, str]) -> None:
    """Make a folder with each page as `<name>.html`, and what was found as `verdict.json`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / folder.name
        made.mkdir()
        for name, content in pages.items():
            (made / f"{name}.html").write_text(content, encoding="utf-8")
        # what is no number becomes null
        text = orjson.dumps(outcome, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        (made / "verdict.json").write_bytes(text)
        # a task that is tried again has made it before
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def tell(outcome: Mapping[str, Any], past: Sequence[Mapping[str, Any]], urls: str) -> list[str]:
    """Tell the targets of alerts, and keep with the MLflow run who has heard what.

    Returns:
        A line for each target that could not be told.
    """
    told = past[-1]["told"] if past else {}
    targets = alerts.split(urls)
    problems: list[str] = []
    if targets:
        news = alerts.News(
            outcome["project"],
            outcome["version"],
            outcome["verdict"],
            outcome["before"],
            alerts.sentences(outcome["verdict"], outcome["checks"]),
            f"{outcome['reports']}/report.html",
        )
        told, problems = alerts.tell(targets, news, told)
        for problem in problems:
            logger.warning("%s", problem)
    history.remember(outcome["mlflow_run"], told)
    return problems


def print_outcome(outcome: Mapping[str, Any]) -> None:
    """Print the table of checks, the sentences of those that did not pass, and the verdict."""
    from rich.table import Table  # noqa: PLC0415 - only the last step prints
    from rich.text import Text  # noqa: PLC0415

    checks = outcome["checks"]
    shown = Table(*workspace.HEADERS[:-1])
    for *cells, _ in workspace.table(checks):
        # not markup: the name of a column may hold brackets
        shown.add_row(*map(Text, cells))
    troubles = (f"{c['verdict']}: {c['sentence']}" for c in checks if c["verdict"] != "pass")
    print_lines(shown, *dict.fromkeys(troubles))
    for other in outcome["others"]:
        print_lines(f"version {other['version']}: {other['verdict']} ({other['rows']} rows)")
    before = f"; {outcome['before']} before" if outcome["before"] else ""
    print_lines(
        f"verdict: {outcome['verdict']} (version {outcome['version']}, {outcome['rows']} rows"
        f"{before})",
        f"reports: {outcome['reports']}",
    )


def print_lines(*lines: "str | Table") -> None:
    """Print to the terminal, or to the log of the task."""
    from rich.console import Console  # noqa: PLC0415 - see print_outcome

    console = Console(width=TABLE_WIDTH, markup=False, highlight=False)
    for line in lines:
        console.print(line, soft_wrap=isinstance(line, str))


if __name__ == "__main__":
    Monitoring()
