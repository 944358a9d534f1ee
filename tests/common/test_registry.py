"""Promotions, in a real MLflow store: aliases and notes, and what is left when one fails."""

import shutil
import sqlite3
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from common import registry
from inference.errors import RegistryError

REFUSE = """
CREATE TRIGGER refuse BEFORE {event} ON {table} WHEN {condition}
BEGIN SELECT RAISE(ABORT, 'disk full'); END
"""


@pytest.fixture
def refuse(mlflow_store):
    """Make the store refuse writes: `refuse("INSERT", "model_version_tags", condition)`."""

    def arrange(event=None, table="", condition="1"):
        with closing(sqlite3.connect(mlflow_store)) as connection, connection:
            connection.execute("DROP TRIGGER IF EXISTS refuse")
            if event:
                connection.execute(REFUSE.format(event=event, table=table, condition=condition))

    return arrange


def events(name="penguins"):
    return [(event.version, event.event) for event in registry.history(name)]


def test_given_a_first_promotion_then_it_is_champion_and_nothing_is_previous(make_version):
    version = make_version()

    registry.promote(version, "because", {"accuracy": 0.97})

    assert registry.aliases("penguins") == {"champion": "1"}
    found = registry.history("penguins")
    assert [event.event for event in found] == ["registered", "promoted"]
    assert (found[1].reason, found[1].metrics) == ("because", {"accuracy": 0.97})
    assert found[0].metrics == {"accuracy": 0.97}


def test_given_a_second_promotion_then_the_first_is_previous(make_version):
    registry.promote(make_version(), "first", {})
    second = make_version()
    assert str(registry.candidate("penguins").version) == "2"

    registry.promote(second, "better", {}, registry.FORCED)

    assert registry.aliases("penguins") == {"champion": "2", "previous": "1"}
    assert set(events()[-2:]) == {("1", "retired"), ("2", "forced")}
    # nothing new: the champion again
    assert str(registry.candidate("penguins").version) == "2"


def test_given_a_promotion_of_the_champion_then_the_previous_one_stays(make_version):
    registry.promote(make_version(), "first", {})
    second = make_version()
    registry.promote(second, "second", {})

    registry.promote(second, "again", {}, "deployed again")

    assert registry.aliases("penguins") == {"champion": "2", "previous": "1"}
    assert events()[-1] == ("2", "deployed again")


def test_given_a_restored_version_then_the_one_that_leaves_is_previous(make_version):
    first = make_version()
    registry.promote(first, "first", {})
    registry.promote(make_version(), "second", {})
    make_version()

    registry.restore(first, "it was better")

    assert registry.aliases("penguins") == {"champion": "1", "previous": "2", "challenger": "3"}
    last = {event.version: event for event in registry.history("penguins")}
    assert last["2"].event == "rolled back"
    assert last["2"].reason == "version 1 took its place again: it was better"
    assert (last["1"].event, last["1"].reason) == ("restored", "it was better")


@pytest.mark.parametrize(
    ("event", "table", "condition"),
    [
        ("INSERT", "registered_model_aliases", "NEW.alias = 'previous'"),
        ("UPDATE", "registered_model_aliases", "NEW.alias = 'champion' AND NEW.version = 2"),
        ("DELETE", "registered_model_aliases", "OLD.alias = 'challenger'"),
        ("INSERT", "model_version_tags", "NEW.value LIKE '%retired%'"),
        ("INSERT", "model_version_tags", "NEW.value LIKE '%promoted%'"),
    ],
)
def test_given_a_write_that_fails_then_nothing_has_moved_and_the_same_call_mends_it(
    make_version, refuse, event, table, condition
):
    registry.promote(make_version(), "first", {})
    second = make_version()
    aliases, before = registry.aliases("penguins"), events()
    refuse(event, table, condition)

    with pytest.raises(RegistryError, match="MLflow refused penguins"):
        registry.promote(second, "second", {})

    assert registry.aliases("penguins") == aliases == {"champion": "1", "challenger": "2"}
    assert events() == before
    refuse()
    registry.promote(second, "second", {})
    assert registry.aliases("penguins") == {"champion": "2", "previous": "1"}
    assert len(events()) == len(before) + 2


def test_given_a_store_that_does_not_even_take_it_back_then_it_says_so(make_version, refuse):
    registry.promote(make_version(), "first", {})
    second = make_version()
    # the first alias moves, and from then on none
    refuse("UPDATE", "registered_model_aliases")
    with closing(sqlite3.connect(registry_file())) as connection, connection:
        connection.execute(
            REFUSE.format(event="DELETE", table="registered_model_aliases", condition="1").replace(
                "refuse BEFORE", "keep BEFORE"
            )
        )

    with pytest.raises(RegistryError, match="could not be put back either") as caught:
        registry.promote(second, "second", {})

    assert "just history" in str(caught.value)


def registry_file():
    import mlflow  # noqa: PLC0415 - 4 s that only this test pays

    return mlflow.get_tracking_uri().removeprefix("sqlite:///")


def test_given_a_process_that_died_between_two_aliases_then_a_promotion_mends_it(
    make_version, mlflow_store
):
    registry.promote(make_version(), "first", {})
    second = make_version()
    with closing(sqlite3.connect(mlflow_store)) as connection, connection:
        connection.execute(
            "UPDATE registered_model_aliases SET version = 2 WHERE alias = 'champion'"
        )
    assert not registry.was_live(second)

    registry.promote(registry.candidate("penguins"), "again", {})

    assert registry.aliases("penguins") == {"champion": "2"}
    assert events()[-1] == ("2", "promoted")
    assert registry.was_live(registry.numbered("penguins", "2"))


def test_given_refused_and_forced_then_only_the_forced_was_live(make_version):
    version = make_version()
    registry.note(version, "refused", "it is [worse]", {"macro F1, champion": 0.9})
    assert not registry.was_live(registry.numbered("penguins", "1"))
    registry.promote(version, "all the same", {}, registry.FORCED)
    assert registry.was_live(registry.numbered("penguins", "1"))


def test_given_no_model_then_each_question_says_what_to_run(mlflow_store):
    with pytest.raises(RegistryError, match="run `just train`"):
        registry.history("penguins")
    with pytest.raises(RegistryError, match="run `just train`"):
        registry.candidate("penguins")
    with pytest.raises(RegistryError, match="run `just train`, then `just deploy`"):
        registry.champion("penguins")
    with pytest.raises(RegistryError, match="MLflow refused penguins"):
        registry.aliases("penguins")


def test_given_no_such_version_then_one_line_says_so(make_version):
    make_version()
    for number in ("7", "seven"):
        with pytest.raises(RegistryError, match=f"MLflow refused penguins, version {number}"):
            registry.numbered("penguins", number)


def test_files_that_are_not_where_the_store_says_are_named(make_version, tmp_path):
    version = make_version()
    assert registry.download(version, tmp_path / "there").path.is_dir()
    shutil.rmtree(urlsplit(version.source).path)

    with pytest.raises(RegistryError, match="its files are not where the store says") as told:
        registry.download(version, tmp_path / "gone")
    assert version.source in str(told.value)
