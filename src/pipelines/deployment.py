"""Deployment: registry, comparison with the champion, backend, smoke test, aliases."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metaflow import card, current, retry, step  # type: ignore[attr-defined] - card is a plug-in

from common import registry
from common.challenge import Challenge, ChallengerRefusedError, Contender, compare
from common.interruption import finishing
from common.pipeline import (
    Pipeline,
    backend,
    dataset,
    logger,
    parameter,
    require_at_least,
    shorten,
)
from common.smoke import go_back, smoke_records, smoke_test
from inference.errors import BackendError, ConfigurationError, RegistryError, RookeryError
from inference.local import ARTIFACTS
from inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion

    from common.settings import PromotionSettings
    from inference.backend import Backend, Release
    from inference.schema import Record

HEADERS = ("figure", "champion", "challenger", "difference", "interval", "margin", "rows", "says")
TABLE_WIDTH = 120


class Deployment(Pipeline):
    """Put the challenger live, and make it the champion once it answers as it should."""

    smoke_rows: int = parameter(
        "smoke-rows", default=20, help="Rows of the table that are sent through the new version."
    )
    force: str = parameter(
        "force",
        default="",
        show_default=False,
        help="Why to deploy the challenger even if it is worse than the champion.",
    )

    @card
    @dataset
    @backend
    @step
    def start(self) -> None:
        """Compare the challenger with the champion, deploy it, and send real rows through it.

        One step, not three: each would pay for importing MLflow again. What refuses the challenger
        ends the next step, for a step that fails has no card.
        """
        require_at_least(1, smoke_rows=self.smoke_rows)
        if self.force and not self.force.strip():
            raise ConfigurationError("--force: give a reason; it is kept with the version")
        version = registry.candidate(self.settings.project)
        self.version = str(version.version)
        champion = registry.version_by_alias(self.settings.project, registry.CHAMPION)
        self.refused = ""
        with tempfile.TemporaryDirectory() as scratch:
            release = registry.download(version, Path(scratch) / "challenger")
            # there is nothing to compare in a version that does not answer
            Predictor.load(release.path / ARTIFACTS).try_out()
            challenge = None
            if champion and champion.version != version.version:
                challenge = run_challenge(
                    release,
                    champion,
                    self.backend_impl,
                    self.settings.promotion,
                    forced=bool(self.force),
                )
            self.measures = [asdict(one) for one in challenge.measures] if challenge else []
            show(challenge, self.version)
            if challenge and not challenge.accepted and not self.force:
                self.refused = refuse(version, challenge, self.backend_impl)
            else:
                rows = self.data.rows.head(self.smoke_rows)
                put_live(version, release, self.backend_impl, rows, challenge, self.force)
        status = self.backend_impl.status()
        self.target, self.previous = status.target, status.previous
        self.next(self.end)

    # a refusal stays one, however often it is tried
    @retry(times=0)
    @step
    def end(self) -> None:
        """Say what is live."""
        if self.refused:
            raise ChallengerRefusedError(self.refused)
        logger.info(
            "%s version %s is champion and answers at %s (%s)",
            self.settings.project,
            self.version,
            self.target,
            f"version {self.previous} before it" if self.previous else "the first one",
        )


def run_challenge(
    release: "Release",
    champion: "ModelVersion",
    backend: "Backend",
    settings: "PromotionSettings",
    *,
    forced: bool,
) -> Challenge:
    """Compare a downloaded version with the champion.

    Raises:
        ChallengerRefusedError: The champion cannot be had, or the captured rows cannot be read.
            Of a forced challenger, no error of the comparison is raised.
    """
    number = str(champion.version)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            theirs = Contender.load(registry.download(champion, Path(scratch) / "champion"))
        return compare(theirs, Contender.load(release), backend, settings)
    except Exception as error:  # whatever it is, who forces a deployment needs no comparison
        if forced:
            reason = f"version {release.version} was not compared with version {number}"
            details = str(shorten(error))
            return Challenge(
                number, release.version, accepted=False, reason=reason, details=details, measures=()
            )
        if not isinstance(error, RookeryError):
            raise
        raise ChallengerRefusedError(
            f"version {release.version} cannot be compared with version {number}: {error};"
            " --force REASON deploys it all the same"
        ) from error


def refuse(version: "ModelVersion", challenge: Challenge, backend: "Backend") -> str:
    """Write on the challenger why it does not go live, and return it as a sentence."""
    registry.note(version, "refused", challenge.reason, challenge.figures)
    registry.tag(version, {"challenge": "refused", "compared_with": challenge.champion})
    live = backend.status().version
    state = f"version {challenge.champion} goes on serving"
    if live != challenge.champion:
        state = (
            f"the endpoint serves {f'version {live}' if live else 'nothing'}, and `just rollback"
            f" --to {challenge.champion}` brings the champion back"
        )
    return f"{challenge.sentence}; {state}, and --force REASON deploys the challenger all the same"


def put_live(
    version: "ModelVersion",
    release: "Release",
    backend: "Backend",
    rows: "pd.DataFrame",
    challenge: Challenge | None,
    force: str,
) -> None:
    """Deploy a version, try it with real rows, and make it champion; on failure, go back.

    Raises:
        RookeryError: It does not take the rows, does not load, does not answer as it should, or
            the registry refused.
    """
    # what cannot be tried must not go live
    records = smoke_records(release, rows)
    before = backend.status().version
    try:
        backend.deploy(release)
    except KeyboardInterrupt:
        # what comes after the swap had not ended
        if before != release.version == backend.status().version:
            go_back(backend, release.version)
        raise
    with finishing(f"version {release.version} was live by then"):
        make_champion(version, release, backend, records, challenge, force, before)


def make_champion(
    version: "ModelVersion",
    release: "Release",
    backend: "Backend",
    records: "list[Record]",
    challenge: Challenge | None,
    force: str,
    before: str | None,
) -> None:
    """Try what has just gone live, and say so in the registry; on failure, go back."""
    try:
        found = f"smoke test: {smoke_test(backend, release, records)}"
    except BackendError as error:
        champion = registry.version_by_alias(version.name, registry.CHAMPION)
        if champion and before == release.version == str(champion.version):
            raise BackendError(f"{error}; it was champion before, and goes on serving") from error
        raise BackendError(f"{error}; {go_back(backend, release.version)}") from error
    event = "deployed again" if registry.was_live(version) else registry.PROMOTED
    tags, metrics = {}, registry.figures(version)
    if challenge:
        event = registry.PROMOTED if challenge.accepted else registry.FORCED
        forced = {} if challenge.accepted else {"forced": force}
        found = f"{challenge.reason}; {found}"
        found = found if challenge.accepted else f"{force} ({found})"
        outcome = "accepted" if challenge.accepted else "forced"
        tags = {"challenge": outcome, "compared_with": challenge.champion} | forced
        metrics |= challenge.figures
    try:
        registry.tag(version, tags)
        registry.promote(version, found, metrics, event)
    except RookeryError as error:
        if before in (None, release.version):
            raise
        raise RegistryError(f"{error}; {go_back(backend, release.version)}") from error


def lines(measures: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the figures of a comparison as rows of text under HEADERS."""

    def shown(number: float | None, form: str = ".4g") -> str:
        return "" if number is None else format(number, form)

    return [
        [
            one["name"],
            shown(one["champion"]),
            shown(one["challenger"]),
            shown(one["difference"], "+.3g"),
            "{:+.3g} to {:+.3g}".format(*one["interval"]) if one["interval"] else "",
            shown(one["margin"], ".3g"),
            f"{one['rows']} {one['source']}"
            if one["source"] != "graphs"
            else f"{one['rows']} times",
            one["verdict"] if one["decides"] else f"({one['verdict']})",
        ]
        for one in measures
    ]


def show(challenge: Challenge | None, version: str) -> None:
    """Print the comparison, and fill the card of the running step."""
    from metaflow.cards import Markdown, Table  # noqa: PLC0415 - only this step has a card
    from rich.console import Console  # noqa: PLC0415 - only this step prints
    from rich.table import Table as Printed  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if challenge is None:
        text = f"Version {version} is deployed without a comparison: there is no other champion."
        current.card.append(Markdown(text))  # type: ignore[attr-defined] - made by @card
        return
    rows = lines([asdict(one) for one in challenge.measures])
    printed = Printed(*HEADERS)
    for cells in rows:
        # not markup: the name of a class may hold brackets
        printed.add_row(*map(Text, cells))
    console = Console(width=TABLE_WIDTH, markup=False, highlight=False)
    console.print(printed)
    console.print(f"{challenge.sentence}. What stands in brackets informs only.", soft_wrap=True)
    verdict = "accepted" if challenge.accepted else "refused"
    current.card.extend(  # type: ignore[attr-defined] - made by @card
        [
            Markdown(
                f"# Challenger {challenge.challenger} against champion {challenge.champion}:"
                f" {verdict}"
            ),
            Table([[challenge.sentence]], headers=["why"]),
            Table([[*cells] for cells in rows], headers=[*HEADERS]),
        ]
    )


if __name__ == "__main__":
    Deployment()
