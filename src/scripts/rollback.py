"""Put an earlier version back where the champion is served."""

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common import registry, settings
from common.interruption import finishing
from common.progress import progress
from common.settings import DEFAULT_CONFIG
from common.smoke import go_back
from inference.backend import Backend, Status
from inference.errors import BackendError, InvalidRecordsError, RegistryError, RookeryError
from inference.local import ARTIFACTS
from inference.predictor import SCHEMA
from inference.sagemaker import Sagemaker
from inference.schema import Record, Schema, to_records
from scripts.command_line import CONFIG_HELP, one_line_errors, show_progress

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Plan:
    """What a rollback does.

    Attributes:
        target: The version to put back.
        champion: The one that is champion now.
        status: What is served now.
        reason: Why, for the notes.
    """

    target: "ModelVersion"
    champion: "ModelVersion"
    status: Status
    reason: str

    @property
    def number(self) -> str:
        """Number of the version to put back."""
        return str(self.target.version)

    @property
    def quick(self) -> bool:
        """Whether the backend still holds the version, as the one before."""
        return self.status.previous == self.number

    def steps(self) -> list[str]:
        """Say what has to be done."""
        served = self.status.version
        serve = f"serve version {self.number} at {self.status.target}"
        if served == self.number:
            first = f"version {self.number} is served already"
        elif self.quick:
            first = f"{serve} in place of version {served}; its files are still there"
        else:
            first = f"download version {self.number}, and {serve} in place of {served or 'nothing'}"
        now = str(self.champion.version)
        moved = f"champion: {now} → {self.number}, previous: {now}"
        return [
            first,
            "send one row through it",
            "aliases stay as they are" if now == self.number else moved,
            f"note on the versions: {self.reason}",
        ]


def rollback(
    *,
    to: Annotated[
        str | None, typer.Option(help="Version to put back; the previous champion if not given.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept with the versions.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    config: Annotated[Path, typer.Option(help=CONFIG_HELP)] = DEFAULT_CONFIG,
) -> None:
    """Serve an earlier version again and make it champion; if that fails, all stays as it is."""
    with one_line_errors():
        loaded = settings.load(config)
        backend = loaded.create_backend()
        with progress("reading the registry"):
            connect(loaded.tracking_uri)
            plan = make_plan(loaded.project, backend, to, reason)
        if dry_run:
            print("\n".join(["would do, in this order:", *(f"- {one}" for one in plan.steps())]))
            return
        show_progress()
        with progress(f"putting version {plan.number} back"):
            carry_out(plan, backend)
        print(f"{loaded.project} version {plan.number} is champion and answers at", end=" ")
        print(f"{plan.status.target}; version {plan.status.version} was served before it")


def connect(tracking_uri: str) -> None:
    """Point MLflow at the store, once it answers."""
    registry.require_database(tracking_uri)
    if tracking_uri.startswith(("http://", "https://")):
        # imports Metaflow
        from common import tracking  # noqa: PLC0415

        tracking.require_reachable(tracking_uri)
    os.environ["MLFLOW_TRACKING_URI"] = tracking_uri


def make_plan(project: str, backend: Backend, to: str | None, reason: str | None) -> Plan:
    """Decide which version goes back.

    Raises:
        RegistryError: There is none, it is live already, or it never was.
        BackendError: An endpoint would have to be created for it.
    """
    champion = registry.champion(project)
    target = registry.numbered(project, to) if to else None
    target = target or registry.version_by_alias(project, registry.PREVIOUS)
    if target is None:
        raise RegistryError(
            f"version {champion.version} has no champion before it; --to VERSION names another"
            " one, and `just history` shows which there are"
        )
    number, status = str(target.version), backend.status()
    if isinstance(backend, Sagemaker) and status.version is None:
        # billed from then on, and nobody was asked
        raise BackendError(
            f"endpoint {status.target} serves nothing (state {status.state}), so there is nothing"
            " to roll back; `just sagemaker-deploy` creates it"
        )
    if number == str(champion.version) == status.version:
        raise RegistryError(f"version {number} is champion and served already")
    if not registry.was_live(target) and not reason:
        raise RegistryError(
            f"version {number} was never live, so nobody knows how it does; --reason TEXT puts it"
            " live all the same, `just deploy` compares it with the champion first"
        )
    return Plan(target, champion, status, reason or "`just rollback`, no reason given")


def carry_out(plan: Plan, backend: Backend) -> None:
    """Serve the version, send a row through it, and move the aliases.

    Raises:
        RookeryError: Something failed, and what was served before is served again.
    """
    moved = plan.status.version != plan.number
    with tempfile.TemporaryDirectory() as scratch:
        path = str(ARTIFACTS / SCHEMA)
        schema = Schema.read(registry.download_file(plan.target, path, Path(scratch)))
        if moved:
            serve(plan, backend, Path(scratch))
    try:
        with finishing(f"version {plan.number} was live by then"):
            smoke(backend, schema, plan.number)
            registry.restore(plan.target, plan.reason)
    except RookeryError as error:
        if not moved:
            raise
        raise BackendError(
            f"version {plan.number} was not put back: {error}; {go_back(backend, plan.number)}"
        ) from error


def serve(plan: Plan, backend: Backend, scratch: Path) -> None:
    """Serve the version, from its files on the backend where they are still there."""
    if plan.quick:
        try:
            backend.rollback()
        except BackendError as error:
            print(f"version {plan.number} is downloaded, for the backend cannot go back: {error}")
        else:
            return
    backend.deploy(registry.download(plan.target, scratch / "model"))


def smoke(backend: Backend, schema: Schema, version: str) -> None:
    """Send the row that was captured last through the endpoint, or one without any value.

    Raises:
        BackendError: The endpoint does not answer, or with another version.
    """
    answer = backend.invoke([last_record(backend, schema)])
    if answer.model_version != version:
        raise BackendError(f"the endpoint answers with version {answer.model_version or 'unknown'}")


def last_record(backend: Backend, schema: Schema) -> Record:
    """Return the newest captured row that this schema allows, else a row of missing values."""
    # a damaged store of captures must not keep a version from going back
    with suppress(BackendError, InvalidRecordsError):
        rows = backend.load(schema, 1)
        if records := schema.check(to_records(rows[list(schema.features)])):
            return records[0]
    return dict.fromkeys(schema.features)


if __name__ == "__main__":
    typer.run(rollback)
