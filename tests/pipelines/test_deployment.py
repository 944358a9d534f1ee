"""Deployment compares before it deploys: who is refused, who is forced, and what mends itself."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import requests

from common import registry
from common.smoke import smoke_records
from inference import launcher
from inference.backend import Release
from inference.errors import BackendError
from inference.local import ARTIFACTS
from pipelines.deployment import make_champion, put_live, run_challenge

pytestmark = pytest.mark.integration

SURE = 0.9
REASON = 'the old one is [broken] <b>"now"</b>'


class Deployments:
    """A workshop of its own: versions with a reference each, and deployments of them."""

    def __init__(self, workshop, make_version, release, reference: pd.DataFrame) -> None:
        self.workshop, self.make_version, self.release = workshop, make_version, release
        self.reference = reference

    def register(self, *, lost: int = 0, shift: float = 0.0):
        """Register a challenger that takes `lost` rows of a class for another one."""
        table = self.reference.assign(body_mass_g=lambda t: t["body_mass_g"] + shift)
        name, other = (f"probability {one}" for one in table["target"].unique()[:2])
        rows = table.index[table[name] > SURE][:lost]
        table.loc[rows, [name, other]] = table.loc[rows, [other, name]].to_numpy()
        return self.make_version(reference=table)

    def start_with_champion(self):
        """Register version 1, and serve it as champion, without a run of the flow."""
        first = self.register()
        release = Release("1", str(first.run_id), self.release("1").path)
        self.workshop.backend.deploy(release)
        registry.promote(first, "the first one", {})

    def deploy(self, **parameters):
        return self.workshop.run("deployment", **parameters)

    def live(self) -> str:
        target = self.workshop.backend.settings.target
        return requests.get(f"{target}/version", timeout=10).json()["model_version"]


@pytest.fixture
def deployments(
    workshop_class, make_version, release, reference, tmp_path
) -> Iterator[Deployments]:
    """Nothing is registered, nothing is live."""
    # in the folder of make_version's store
    workshop = workshop_class(tmp_path)
    yield Deployments(workshop, make_version, release, reference)
    launcher.stop(workshop.backend.folder)


def refuse_aliases(store, *, refuse: bool) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DROP TRIGGER IF EXISTS refuse")
        if refuse:
            connection.execute(
                "CREATE TRIGGER refuse BEFORE UPDATE ON registered_model_aliases"
                " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )


def last_note(version: str) -> registry.Event:
    return registry.notes(registry.numbered("penguins", version))[-1]


def test_given_challengers_then_equals_pass_worse_ones_are_refused_and_force_is_recorded(
    deployments, mlflow_store
):
    deployments.start_with_champion()
    assert registry.aliases("penguins") == {"champion": "1"}

    # an equal one passes, with the table in the log and on the version
    deployments.register()
    fine, run, output = deployments.deploy()
    assert fine, output
    assert "macro F1" in output
    assert deployments.live() == "2"
    assert [one["verdict"] for one in run.data.measures] == ["pass"] * 6
    assert last_note("2").event == "promoted"
    assert last_note("2").metrics["macro F1, champion"] > 0.9
    assert registry.numbered("penguins", "2").tags["compared_with"] == "1"

    # a worse one does not
    deployments.register(lost=40)
    fine, run, output = deployments.deploy()
    assert not fine
    assert "version 3 is worse than version 2 on 344 rows of the table" in output
    assert "version 2 goes on serving" in output
    assert "Traceback" not in output
    assert deployments.live() == "2"
    assert registry.aliases("penguins") == {"champion": "2", "previous": "1", "challenger": "3"}
    assert last_note("3").event == "refused"
    assert "fail" in {one["verdict"] for one in run["start"].task.data.measures}

    # unless somebody says why
    fine, _, output = deployments.deploy(force=REASON)
    assert fine, output
    assert deployments.live() == "3"
    assert registry.aliases("penguins") == {"champion": "3", "previous": "2"}
    assert last_note("3").event == "forced"
    assert last_note("3").reason.startswith(REASON)
    assert last_note("3").metrics["macro F1, challenger"] < 0.95
    assert registry.numbered("penguins", "3").tags["forced"] == REASON

    # the champion itself needs no comparison, but a force needs a reason
    fine, _, output = deployments.deploy(force=" ")
    assert not fine
    assert "--force: give a reason" in output
    fine, run, output = deployments.deploy()
    assert fine, output
    assert run.data.measures == []
    assert last_note("3").event == "deployed again"
    assert registry.aliases("penguins") == {"champion": "3", "previous": "2"}


def test_given_aliases_that_cannot_move_then_the_champion_serves_again_and_a_second_run_mends_it(
    deployments, mlflow_store
):
    deployments.start_with_champion()
    deployments.register()
    refuse_aliases(mlflow_store, refuse=True)

    fine, _, output = deployments.deploy()

    assert not fine
    assert "disk full" in output
    assert "version 1 serves again" in output
    assert deployments.live() == "1"
    assert registry.aliases("penguins") == {"champion": "1", "challenger": "2"}

    # what a killed deployment leaves: the challenger is served, and the aliases have not moved
    refuse_aliases(mlflow_store, refuse=False)
    deployments.workshop.backend.rollback()
    assert deployments.live() == "2"

    fine, _, output = deployments.deploy()

    assert fine, output
    assert deployments.live() == "2"
    assert registry.aliases("penguins") == {"champion": "2", "previous": "1"}


def test_given_a_smoke_test_that_fails_then_only_what_was_not_champion_goes_back(
    deployments, release, reference, monkeypatch
):
    deployments.workshop.enter(monkeypatch)
    backend = deployments.workshop.backend

    def go_live(number: str, answers_as: str) -> None:
        version = registry.numbered("penguins", number)
        backend_release = Release(number, str(version.run_id), release(number).path)
        expected = Release(number, str(version.run_id), release(answers_as).path)
        records = smoke_records(expected, reference.head(20))
        before = backend.status().version
        backend.deploy(backend_release)
        make_champion(version, expected, backend, records, None, "", before)

    for _ in range(3):
        deployments.register()
    go_live("1", "1")
    go_live("2", "2")
    with pytest.raises(
        BackendError, match=r"version 2 failed .*; it was champion before, and goes"
    ):
        go_live("2", "1")
    assert deployments.live() == "2"
    with pytest.raises(BackendError, match=r"version 3 failed .*; version 2 serves again"):
        go_live("3", "1")
    assert deployments.live() == "2"


@pytest.mark.parametrize(
    "change",
    [lambda rows: rows.assign(body_mass_g=1e5), lambda rows: rows.drop(columns="sex")],
    ids=["range", "feature"],
)
def test_given_rows_that_the_version_does_not_take_then_nothing_is_swapped_in(
    deployments, release, reference, monkeypatch, change
):
    deployments.workshop.enter(monkeypatch)
    backend, version = deployments.workshop.backend, deployments.register()
    expected = Release("1", str(version.run_id), release("1").path)

    with pytest.raises(BackendError, match=r"version 1 failed its smoke test before it went live"):
        put_live(version, expected, backend, change(reference.head(20)), None, "")

    assert backend.status().version is None
    assert registry.aliases("penguins") == {"challenger": "1"}


def test_given_an_error_of_the_comparison_that_nobody_foresaw_then_only_force_goes_on(
    deployments, tmp_path
):
    class Broken:
        def load(self, *_, **__):
            raise ValueError("no number: 'Biscoe'")

    champion, challenger = deployments.register(), deployments.register()
    release = registry.download(challenger, tmp_path / "challenger")
    promotion = deployments.workshop.settings.promotion

    with pytest.raises(ValueError, match="no number"):
        run_challenge(release, champion, Broken(), promotion, forced=False)
    found = run_challenge(release, champion, Broken(), promotion, forced=True)

    assert not found.accepted
    assert found.sentence.startswith(
        "version 2 was not compared with version 1: ValueError: no number: 'Biscoe'"
    )


def test_given_no_common_row_or_no_files_then_only_force_deploys(deployments, mlflow_store):
    deployments.reference = deployments.reference.dropna()
    deployments.start_with_champion()
    deployments.register(shift=0.5)

    fine, _, output = deployments.deploy()
    assert not fine
    assert "they have 0 rows of the table in common" in output
    assert deployments.live() == "1"

    champion = Path(registry.numbered("penguins", "1").source.removeprefix("file://"))
    (champion / ARTIFACTS / "reference.parquet").unlink()
    fine, _, output = deployments.deploy()
    assert not fine
    assert "version 2 cannot be compared with version 1" in output

    fine, _, output = deployments.deploy(force="the champion's files are lost")
    assert fine, output
    assert deployments.live() == "2"
    assert last_note("2").event == "forced"
