"""What waits beside the database is moved into it by one command, whether a server runs or not."""

import sqlite3
from contextlib import closing, contextmanager

import pytest
import typer
from typer.testing import CliRunner

from common import ROOT
from inference import launcher
from inference.backend import Captured
from inference.spool import Spool
from inference.store import Store
from scripts import capture_replay, captures

PREDICTION = {"prediction": "a", "confidence": 1.0, "probabilities": {"a": 1.0, "b": 0.0}}
COUNT = 2000


def app(command):
    made = typer.Typer()
    made.command()(command)
    return made


@pytest.fixture
def database(tmp_path, monkeypatch):
    """The database of config/local.yml, in a folder of its own."""
    monkeypatch.setenv("ROOKERY_STATE", str(tmp_path))
    return tmp_path / "captured.db"


@pytest.fixture
def replay(database):
    """Run the command: exit code, standard output, standard error."""

    def run(command=capture_replay.capture_replay):
        config = str(ROOT / "config" / "local.yml")
        result = CliRunner().invoke(app(command), ["--config", config])
        return result.exit_code, result.stdout, result.stderr

    return run


def rows(count, name="a"):
    return Captured.from_answer(name, "1", [{}] * count, [PREDICTION] * count)


def stored(database):
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT COUNT(*) FROM predictions").fetchone()[0]


@contextmanager
def locked(database):
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_nothing_waits(replay, database):
    assert replay() == (0, f"nothing waits for {database}\n", "")
    # and nothing is made
    assert list(database.parent.iterdir()) == []


def test_all_is_moved_once(replay, database):
    spool = Spool(database)
    spool.append(rows(COUNT))
    whole = spool.path.read_bytes()
    assert replay() == (0, f"{COUNT} rows moved into {database}, none waits\n", "")
    assert stored(database) == COUNT
    assert replay()[1].startswith("nothing waits")

    # what was moved before it was killed is skipped
    spool.path.write_bytes(whole)
    assert replay()[0] == 0
    assert stored(database) == COUNT


def test_damaged_lines(replay, database):
    spool = Spool(database)
    spool.append(rows(2))
    with spool.path.open("ab") as file:
        file.write(b"damaged\nhalf a li")
    code, out, _ = replay()
    assert code == 0
    assert out == (
        f"2 damaged lines set aside in {spool.damaged_path}\n"
        f"2 rows moved into {database}, none waits\n"
    )
    assert spool.damaged_path.read_bytes() == b"damaged\nhalf a li\n"


def test_database_still_refuses(replay, database):
    spool = Spool(database)
    spool.append(rows(COUNT))
    Store(database).close()
    with locked(database):
        code, out, err = replay()
    assert (code, out) == (1, "")
    assert err == (
        f"error: {database} still refuses (database is locked): 0 rows moved, {COUNT} wait in"
        f" {spool.path}; run this again when the database is back\n"
    )
    assert replay()[0] == 0
    assert stored(database) == COUNT


def test_spool_cannot_be_read(replay, database):
    Spool(database).path.mkdir()
    code, out, err = replay()
    assert (code, out) == (1, "")
    assert err.startswith("error: 0 rows moved, then [Errno 21] Is a directory: ")
    assert err.count("\n") == 1


def test_database_is_damaged(replay, database):
    Spool(database).append(rows(1))
    database.write_bytes(b"not a database " * 1000)
    code, _, err = replay()
    assert code == 1
    assert "file is not a database" in err
    assert err.count("\n") == 1


@pytest.mark.integration
def test_while_a_server_runs(replay, database, make_local, release, record):
    backend = make_local(database.parent)
    try:
        backend.deploy(release("1"))
        backend.invoke([record])
        spool = Spool(database)
        for part in range(10):
            spool.append(rows(COUNT, f"part{part}"))
        # the server moves them, too
        code, out, _ = replay()
        assert (code, spool.empty) == (0, True), out
        backend.invoke([record])
    finally:
        launcher.stop(backend.folder)
    assert stored(database) == 10 * COUNT + 2


def test_counts_tell_what_waits(replay, database):
    Spool(database).append(rows(3))
    code, out, _ = replay(captures.captures)
    assert code == 0
    assert "3 rows wait in" in out
    assert "just capture-replay" in out
