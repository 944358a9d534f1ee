"""What was answered is kept: by the store, by the spool when the store refuses, and only once."""

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

import inference.spool
from inference import capture
from inference.backend import Captured
from inference.capture import Recorder
from inference.errors import BackendError, UnavailableError
from inference.spool import Spool
from inference.store import Store, first_key

PREDICTION = {
    "prediction": "Gentoo",
    "confidence": 0.8,
    "probabilities": {"Adelie": 0.15, "Chinstrap": 0.05, "Gentoo": 0.8},
}
START = datetime(2025, 3, 1, tzinfo=UTC)
EARLIER_TABLE = """
CREATE TABLE predictions (
    key BLOB PRIMARY KEY,
    request_id TEXT NOT NULL,
    row INTEGER NOT NULL,
    time REAL NOT NULL,
    model_version TEXT NOT NULL,
    features TEXT NOT NULL,
    prediction TEXT NOT NULL,
    confidence REAL NOT NULL,
    probabilities TEXT NOT NULL,
    target TEXT
) WITHOUT ROWID;
CREATE INDEX predictions_time ON predictions (time);
CREATE INDEX predictions_request ON predictions (request_id, row);
"""
EARLIER_INSERT = "INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
HOLDER = """
import sys
from pathlib import Path
from inference import capture
from inference.backend import Captured

capture.RETRY_AFTER = 0
recorder = capture.Recorder(Path(sys.argv[1]))
prediction = {"prediction": "a", "confidence": 1.0, "probabilities": {"a": 1.0, "b": 0.0}}

def save(name):
    recorder.save(Captured.from_answer(name, "1", [{}], [prediction]))

save("holder-before")
print("saved", flush=True)
sys.stdin.readline()
recorder.tick()
print("ticked", flush=True)
sys.stdin.readline()
save("holder-after")
recorder.close()
"""
WRITERS = 2
WRITER = """
import sys
from pathlib import Path
from inference.backend import Captured
from inference.capture import Recorder

recorder = Recorder(Path(sys.argv[1]))
prediction = {"prediction": "a", "confidence": 1.0, "probabilities": {"a": 1.0, "b": 0.0}}
for number in range(100):
    name = f"{sys.argv[2]}.{number}"
    recorder.save(Captured.from_answer(name, "1", [{}, {}], [prediction] * 2))
recorder.close()
"""


@pytest.fixture
def database(tmp_path):
    return tmp_path / "captured.db"


@pytest.fixture
def store(database):
    with closing(Store(database)) as opened:
        yield opened


@pytest.fixture
def recorder(database):
    with closing(Recorder(database)) as opened:
        yield opened


@pytest.fixture
def answer(record):
    """Make the rows of one request: `answer("a", rows=2, minute=5)`, five minutes after START."""

    def make(request_id="a", rows=1, minute=None, version="1", **changes):
        made = Captured.from_answer(
            request_id, version, [record | changes] * rows, [PREDICTION] * rows
        )
        if minute is None:
            return made
        time = (START + timedelta(minutes=minute)).timestamp()
        begin = first_key(time)
        return [row._replace(time=time, key=begin + row.key[len(begin) :]) for row in made]

    return make


def load(store, schema, limit=1000, since=None, labelled=None):
    return store.load(schema, limit, since=since, labelled=labelled)


def stored(database):
    """Ids of all rows in the store, as another process sees them."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT request_id || '-' || row FROM predictions").fetchall()
    return sorted(name for (name,) in rows)


def shares(labels, value):
    return sum(label == value for label in labels) / len(labels)


class TestStore:
    def test_what_is_saved_is_loaded_with_its_types(self, store, schema, record):
        records = [record, dict.fromkeys(record), record | {"island": 'Größe "x"\n'}]
        before = datetime.now(UTC)
        store.save(Captured.from_answer("request", "7", records, [PREDICTION] * 3))
        table = load(store, schema)

        assert list(table["id"]) == ["request-2", "request-1", "request-0"]
        pd.testing.assert_frame_equal(
            table[list(record)],
            pd.DataFrame(records[::-1]).astype(dict.fromkeys(schema.numbers, float)),
        )
        assert table["time"].between(before - timedelta(seconds=1), datetime.now(UTC)).all()
        assert list(table["model_version"]) == ["7"] * 3
        assert list(table["prediction"]) == ["Gentoo"] * 3
        assert list(table["confidence"]) == [0.8] * 3
        assert list(table["probability Adelie"]) == [0.15] * 3
        assert list(table["target"]) == [None] * 3

    def test_empty_store_gives_the_same_columns(self, store, schema, answer):
        empty = load(store, schema)
        store.save(answer())
        full = load(store, schema)
        assert len(empty) == 0
        assert list(empty) == [
            *("id", "time", "model_version"),
            *schema.features,
            *("prediction", "confidence"),
            *(f"probability {name}" for name in schema.classes),
            "target",
        ]
        assert empty.dtypes.to_dict() == full.dtypes.to_dict()
        assert str(full["time"].dtype) == "datetime64[ns, UTC]"
        assert {str(full[name].dtype) for name in schema.numbers} == {"float64"}

    def test_newest_first_whatever_the_order_of_saving(self, store, schema, answer):
        for minute in (2, 0, 3, 1):
            store.save(answer(f"m{minute}", rows=2, minute=minute))
        assert list(load(store, schema)["id"]) == [
            f"m{minute}-{row}" for minute in (3, 2, 1, 0) for row in (1, 0)
        ]
        assert list(load(store, schema, limit=3)["id"]) == ["m3-1", "m3-0", "m2-1"]
        assert len(load(store, schema, limit=0)) == 0

    @pytest.mark.parametrize(
        ("since", "count"),
        [
            (datetime(1, 1, 1, tzinfo=UTC), 4),
            (START - timedelta(minutes=1), 4),
            (START, 4),
            (START + timedelta(minutes=1.5), 2),
            (START + timedelta(minutes=3), 1),
            (START + timedelta(minutes=4), 0),
            (datetime(9999, 1, 1, tzinfo=UTC), 0),
        ],
    )
    def test_since(self, store, schema, answer, since, count):
        for number in range(4):
            store.save(answer(minute=number))
        assert len(load(store, schema, since=since)) == count

    def test_since_the_time_of_a_row_includes_it(self, store, schema, answer):
        for number in range(30):
            store.save(answer(f"r{number}"))
        for place, time in enumerate(load(store, schema)["time"]):
            assert len(load(store, schema, since=time)) > place

    def test_labelled(self, store, schema, answer):
        for name in "abc":
            store.save(answer(name))
        store.label_known([("b-0", "Adelie")])
        assert list(load(store, schema, labelled=True)["id"]) == ["b-0"]
        assert list(load(store, schema, labelled=True)["target"]) == ["Adelie"]
        assert set(load(store, schema, labelled=False)["id"]) == {"a-0", "c-0"}
        assert len(load(store, schema, limit=1, labelled=False)) == 1
        assert len(load(store, schema)) == 3

    def test_labelled_since(self, store, schema, answer):
        for minute in range(4):
            store.save(answer(f"m{minute}", minute=minute))
        store.label_known([("m0-0", "Adelie"), ("m2-0", "Adelie")])
        since = START + timedelta(minutes=1)
        assert list(load(store, schema, since=since, labelled=True)["id"]) == ["m2-0"]
        assert list(load(store, schema, since=since, labelled=False)["id"]) == ["m3-0", "m1-0"]

    def test_feature_that_earlier_rows_do_not_have(self, store, schema, answer):
        content = schema.model_dump()
        content["features"]["wing_mm"] = {"kind": "number"}
        content["classes"] = (*schema.classes, "Emperor")
        store.save(answer())
        table = load(store, type(schema).model_validate(content))
        assert table["wing_mm"].isna().all()
        assert table["probability Emperor"].isna().all()

    def test_same_row_is_stored_once(self, store, answer):
        rows = answer(rows=3)
        store.save(rows)
        store.save([*rows[1:], *answer("b")])
        assert store.counts() == [("1", 4, 0)]

    def test_rows_are_saved_together_or_not_at_all(self, store, database, answer):
        good, bad = answer("good"), [answer("bad")[0]._replace(features={"no": "text"})]
        with pytest.raises(sqlite3.Error):
            store.save([*good, *bad])
        store.save(answer("next"))
        assert stored(database) == ["next-0"]

    def test_counts(self, store, answer):
        assert store.counts() == []
        store.save([*answer("a", rows=2), *answer("b", rows=3, version="2")])
        store.label_known([("b-1", "Adelie"), ("b-2", "Adelie")])
        assert sorted(store.counts()) == [("1", 2, 0), ("2", 3, 2)]

    def test_database_of_an_earlier_version(self, database, schema, answer):
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(EARLIER_TABLE)
            connection.executemany(EARLIER_INSERT, answer("old", minute=1))
            connection.commit()
        with closing(Store(database)) as store:
            store.save(answer("new", rows=2, minute=2))
            assert store.label_known([("old-0", "Adelie")]) == 1
            assert list(load(store, schema)["id"]) == ["new-1", "new-0", "old-0"]
            assert list(load(store, schema, labelled=True)["id"]) == ["old-0"]
            assert store.counts() == [("1", 3, 1)]
            with store.transaction() as connection:
                found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")
                assert set(found) == {("predictions_labelled",)}

    def test_reading_does_not_wait_for_a_writer(self, store, database, schema, answer):
        store.save(answer())
        with locked(database), closing(Store(database, timeout=0)) as other:
            assert len(load(other, schema)) == 1
            assert other.counts() == [("1", 1, 0)]

    def test_oldest_rows_are_removed_first(self, store, database, answer):
        for minute in (3, 1, 4, 2):
            store.save(answer(f"m{minute}", rows=2, minute=minute))
        before = (START + timedelta(minutes=3)).timestamp()
        assert store.remove_oldest(before, most=3) == 3
        assert stored(database) == ["m2-1", "m3-0", "m3-1", "m4-0", "m4-1"]
        assert store.remove_oldest(before, most=3) == 1
        assert store.remove_oldest(before, most=3) == 0
        assert stored(database) == ["m3-0", "m3-1", "m4-0", "m4-1"]

    def test_processes_that_write_at_once_lose_nothing(self, database):
        command = [sys.executable, "-c", WRITER, str(database)]
        writers = [subprocess.Popen([*command, f"w{number}"]) for number in range(WRITERS)]
        assert [writer.wait(timeout=60) for writer in writers] == [0] * WRITERS
        with closing(Recorder(database)) as last:
            last.recover()
            assert last.waiting == 0
        assert stored(database) == sorted(
            f"w{writer}.{number}-{row}"
            for writer in range(WRITERS)
            for number in range(100)
            for row in range(2)
        )


class TestLabels:
    @pytest.mark.parametrize(("quality", "low", "high"), [(0, 0, 0), (1, 1, 1), (0.8, 0.7, 0.9)])
    def test_quality_is_the_share_of_right_predictions(
        self, store, schema, answer, quality, low, high
    ):
        store.save(answer(rows=500))
        assert store.label_simulated(quality, seed=1) == 500
        labels = list(load(store, schema)["target"])
        assert low <= shares(labels, "Gentoo") <= high
        assert set(labels) <= set(schema.classes)
        if quality == 0:
            assert 0.4 < shares(labels, "Adelie") < 0.6

    def test_seed_makes_it_reproducible(self, tmp_path, schema, answer):
        rows = answer(rows=50)

        def simulate(name, seed):
            with closing(Store(tmp_path / name)) as store:
                store.save(rows)
                store.label_simulated(0.5, seed)
                return list(load(store, schema)["target"])

        first = simulate("first.db", 1)
        assert simulate("second.db", 1) == first
        assert simulate("third.db", 2) != first

    def test_only_what_has_no_label_gets_one(self, store, schema, answer):
        store.save(answer("old", rows=20))
        assert store.label_simulated(0, seed=1) == 20
        before = load(store, schema)
        store.save(answer("new", rows=20))
        assert store.label_simulated(1, seed=1) == 20
        assert store.label_simulated(1, seed=1) == 0
        after = load(store, schema)
        old = after[after["id"].str.startswith("old")].reset_index(drop=True)
        pd.testing.assert_frame_equal(old, before)
        assert list(after["target"][:20]) == ["Gentoo"] * 20

    def test_known_labels(self, store, schema, answer):
        store.save(answer("a-b.c:1", rows=3))
        assert store.label_known([("a-b.c:1-0", "Adelie"), ("a-b.c:1-2", "Chinstrap")]) == 2
        assert list(load(store, schema)["target"]) == ["Chinstrap", None, "Adelie"]
        assert store.label_known([]) == 0

    def test_requests_with_the_same_id(self, store, schema, answer):
        store.save(answer("a"))
        store.save(answer("a", rows=2))
        assert store.label_known([("a-0", "Adelie")]) == 2
        assert sorted(load(store, schema, labelled=True)["id"]) == ["a-0", "a-0"]

    def test_labels_while_others_write(self, store, database, answer):
        def write():
            with closing(Store(database)) as other:
                for number in range(100):
                    other.save(answer(f"r{number}"))

        writer = threading.Thread(target=write)
        writer.start()
        labelled = 0
        while writer.is_alive():
            labelled += store.label_simulated(1, seed=1)
        writer.join()
        labelled += store.label_simulated(1, seed=1)
        assert labelled == 100
        assert store.counts() == [("1", 100, 100)]

    @pytest.mark.parametrize("unknown", ["b-0", "a-9", "a", "", "a-x", "a-0x"])
    def test_unknown_id_and_nothing_is_labelled(self, store, schema, answer, unknown):
        store.save(answer(rows=2))
        with pytest.raises(BackendError, match="1 of 3 ids were never captured") as caught:
            store.label_known([("a-0", "Adelie"), (unknown, "Adelie"), ("a-1", "Adelie")])
        assert unknown in str(caught.value)
        assert load(store, schema)["target"].isna().all()


@contextmanager
def locked(database):
    """Another process writes for long."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def read_only(database):
    """SQLite itself refuses to write: the header asks for a newer version of it."""
    with database.open("r+b") as file:
        file.seek(18)
        before = file.read(1)
        file.seek(18)
        file.write(b"\3")
        file.flush()
        yield
        file.seek(18)
        file.write(before)


@contextmanager
def corrupt(database):
    """The file is not a database any more."""
    content = database.read_bytes()
    database.write_bytes(b"not a database " * 1000)
    yield
    database.write_bytes(content)


@contextmanager
def replaced_by_folder(database):
    """The file cannot even be opened."""
    aside = database.rename(database.with_name("aside"))
    database.mkdir()
    yield
    database.rmdir()
    aside.rename(database)


@contextmanager
def full(_):
    """No file may grow beyond two pages of a database, as on a disk that is almost full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestRecorder:
    @pytest.fixture(autouse=True)
    def _no_pause(self, monkeypatch):
        monkeypatch.setattr(capture, "RETRY_AFTER", 0)

    @pytest.mark.parametrize(
        ("fault", "opened"), [(locked, False), (locked, True), (read_only, False)]
    )
    def test_store_refuses(self, recorder, database, answer, fault, opened):
        Store(database).close()
        if opened:
            recorder.save(answer("before"))
        with fault(database):
            recorder.save(answer("during", rows=2))
            assert recorder.waiting == 2
            recorder.save(answer("more"))
            assert recorder.waiting == 3
            recorder.tick()
            assert recorder.waiting == 3
        recorder.tick()
        recorder.save(answer("after"))
        assert recorder.waiting == 0
        expected = ["after-0", "during-0", "during-1", "more-0"]
        assert stored(database) == sorted(expected + ["before-0"] * opened)

    @pytest.mark.parametrize("fault", [corrupt, replaced_by_folder])
    def test_store_cannot_be_opened(self, recorder, database, answer, fault):
        with closing(Store(database)) as store:
            store.save(answer("before"))
        with fault(database):
            recorder.save(answer("during"))
            assert recorder.waiting == 1
        recorder.save(answer("after"))
        assert recorder.waiting == 0
        assert stored(database) == ["after-0", "before-0", "during-0"]

    def test_disk_is_full(self, recorder, database, answer):
        recorder.save(answer("before"))
        with full(database):
            # the database's log cannot grow, the spool beside it still can
            recorder.save(answer("small"))
            assert len(recorder.spool) == 1
            # this one fits into neither, and leaves no half of a line in the spool
            recorder.save(answer("large", island="x" * 1_000_000))
            assert (len(recorder.spool), recorder.waiting) == (1, 2)
            recorder.save(answer("more"))
            assert (len(recorder.spool), recorder.waiting) == (2, 3)
        recorder.tick()
        assert recorder.waiting == 0
        assert stored(database) == ["before-0", "large-0", "more-0", "small-0"]

    def test_memory_and_spool_are_moved_in_steps(self, recorder, database, answer, monkeypatch):
        monkeypatch.setattr(capture, "STEP_ROWS", 2)
        monkeypatch.setattr(inference.spool, "BLOCK", 1000)
        Store(database).close()
        with locked(database):
            recorder.save(answer("spool", rows=10))
            with full(database):
                recorder.save(answer("memory", rows=5, island="x" * 10_000))
        assert (len(recorder.spool), recorder.waiting) == (10, 15)
        waiting = []
        while recorder.waiting:
            recorder.tick()
            waiting.append(recorder.waiting)
            assert len(stored(database)) == 15 - recorder.waiting
        # what is in memory is moved first, two rows a step, then a block of the spool a step
        assert waiting[:2] == [13, 11]
        assert len(waiting) >= 4

    def test_recover_moves_all(self, recorder, database, answer, monkeypatch):
        monkeypatch.setattr(inference.spool, "BLOCK", 1000)
        Spool(database).append(answer("spool", rows=100))
        assert recorder.recover() == 100
        assert recorder.waiting == 0
        assert len(stored(database)) == 100

    def test_memory_has_an_end(self, recorder, database, answer, monkeypatch):
        monkeypatch.setattr(capture, "MEMORY_ROWS", 3)
        Store(database).close()
        recorder.spool.path.mkdir()
        with locked(database):
            recorder.save(answer("fits", rows=3))
            with pytest.raises(UnavailableError, match="try again later"):
                recorder.save(answer("refused"))
        recorder.tick()
        assert stored(database) == ["fits-0", "fits-1", "fits-2"]

    def test_broken_spool_does_not_keep_rows_from_the_store(self, recorder, database, answer):
        Store(database).close()
        recorder.spool.path.mkdir()
        with locked(database):
            recorder.save(answer("during"))
        recorder.save(answer("after"))
        assert stored(database) == ["after-0", "during-0"]
        recorder.tick()
        recorder.save(answer("later"))
        assert stored(database) == ["after-0", "during-0", "later-0"]

    def test_broken_spool_does_not_keep_rows_in_memory(
        self, recorder, database, answer, monkeypatch
    ):
        monkeypatch.setattr(capture, "STEP_ROWS", 2)
        recorder.spool.path.mkdir()
        assert recorder.recover() == 0
        with locked(database):
            recorder.save(answer(rows=5))
        recorder.close()
        assert len(stored(database)) == 5

    def test_last_attempt_when_it_ends(self, database, answer):
        Store(database).close()
        recorder = Recorder(database)
        with locked(database):
            recorder.save(answer())
        recorder.close()
        assert stored(database) == ["a-0"]
        assert recorder.waiting == 0

    def test_another_process_replays_what_one_left(self, recorder, database, answer):
        Spool(database).append(answer(rows=2))
        recorder.tick()
        assert stored(database) == ["a-0", "a-1"]

    def test_store_is_asked_again_after_a_pause_only(self, recorder, database, answer, monkeypatch):
        monkeypatch.setattr(capture, "RETRY_AFTER", 3600)
        Store(database).close()
        with locked(database):
            recorder.save(answer("during"))
        recorder.save(answer("soon after"))
        recorder.tick()
        assert recorder.waiting == 2


def remove_file(database):
    database.unlink()


def remove_all(database):
    for file in database.parent.iterdir():
        file.unlink()


def remove_folder(database):
    shutil.rmtree(database.parent)


def replace_file(database):
    remove_all(database)
    Store(database).close()


class TestRemovedDatabase:
    @pytest.fixture(autouse=True)
    def _no_pause(self, monkeypatch):
        monkeypatch.setattr(capture, "RETRY_AFTER", 0)

    @pytest.fixture
    def database(self, tmp_path):
        return tmp_path / "folder" / "captured.db"

    @pytest.mark.parametrize("idle", [False, True])
    @pytest.mark.parametrize("remove", [remove_file, remove_all, remove_folder, replace_file])
    def test_what_is_answered_from_then_on_is_in_the_new_one(
        self, recorder, database, answer, remove, idle, caplog
    ):
        recorder.save(answer("before"))
        remove(database)
        if idle:
            recorder.tick()
        recorder.save(answer("next"))
        recorder.save(answer("later"))
        recorder.tick()
        assert recorder.waiting == 0
        assert stored(database) == ["later-0", "next-0"]
        assert "its file was removed or replaced" in caplog.text

    def test_other_process_that_had_it_open(self, recorder, database, answer):
        command = [sys.executable, "-c", HOLDER, str(database)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline() == b"saved\n"
            recorder.save(answer("before"))
            # the files of its log stay, and the other process goes on with them
            database.unlink()
            recorder.tick()
            holder.stdin.write(b"go on\n")
            holder.stdin.flush()
            assert holder.stdout.readline() == b"ticked\n"
            recorder.save(answer("after"))
            assert recorder.waiting == 0
            holder.communicate(b"go on\n", timeout=30)
        assert holder.returncode == 0
        recorder.recover()
        assert stored(database) == ["after-0", "holder-after-0"]


class TestRetention:
    DAYS = 2.0

    @pytest.fixture(autouse=True)
    def _no_pause(self, monkeypatch):
        monkeypatch.setattr(capture, "RETENTION_PAUSE", 0)

    @pytest.fixture
    def recorder(self, database):
        with closing(Recorder(database, retention_days=self.DAYS)) as opened:
            yield opened

    @pytest.fixture
    def old(self, answer):
        """Make rows that are older than may be kept, one a minute."""

        def make(count):
            return [row for minute in range(count) for row in answer(f"old{minute}", minute=minute)]

        return make

    def test_old_rows_are_removed_in_steps(
        self, recorder, store, database, old, answer, monkeypatch
    ):
        monkeypatch.setattr(capture, "STEP_ROWS", 3)
        store.save([*old(7), *answer("new", rows=2)])
        left = []
        for _ in range(4):
            recorder.tick()
            left.append(len(stored(database)))
        assert left == [6, 3, 2, 2]
        assert stored(database) == ["new-0", "new-1"]

    @pytest.mark.parametrize(("hours", "kept"), [(-1, 0), (1, 1)])
    def test_age(self, recorder, store, database, answer, hours, kept):
        limit = datetime.now(UTC) - timedelta(days=self.DAYS)
        minute = (limit + timedelta(hours=hours) - START) / timedelta(minutes=1)
        store.save(answer(minute=minute))
        recorder.tick()
        assert len(stored(database)) == kept

    def test_everything_is_kept_unless_it_is_set(self, store, database, old):
        store.save(old(3))
        with closing(Recorder(database)) as recorder:
            recorder.tick()
        assert len(stored(database)) == 3

    def test_looked_for_again_after_a_pause_only(self, recorder, store, database, old, monkeypatch):
        monkeypatch.setattr(capture, "RETENTION_PAUSE", 3600)
        recorder.tick()
        store.save(old(3))
        recorder.tick()
        assert len(stored(database)) == 3

    def test_locked_by_another_process(self, recorder, store, database, old, caplog):
        store.save(old(3))
        with locked(database):
            recorder.tick()
        assert "stay for now: database is locked" in caplog.text
        assert not recorder.spool.path.exists()
        recorder.tick()
        assert stored(database) == []

    def test_writers_go_on(self, recorder, store, database, old, answer, monkeypatch):
        # a busy machine may stall a writer, a step that removes rows may not
        monkeypatch.setattr(capture, "LOCK_TIMEOUT", 2)
        monkeypatch.setattr(capture, "STEP_ROWS", 20)
        store.save(old(2000))
        removed = threading.Event()
        written, seen = [], set()

        def write(name):
            with closing(Recorder(database)) as writer, closing(Store(database)) as reader:
                while not removed.is_set():
                    rows = answer(f"{name}.{len(written)}", rows=2)
                    writer.save(rows)
                    written.extend(f"{row.request_id}-{row.row}" for row in rows)
                    [(_, count, _)] = reader.counts()
                    seen.add(count)

        writers = [threading.Thread(target=write, args=[f"w{number}"]) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        while any(name.startswith("old") for name in stored(database)):
            recorder.tick()
        removed.set()
        for writer in writers:
            writer.join()
        assert len(seen) > 10
        assert stored(database) == sorted(written)
        assert not recorder.spool.path.exists()


class TestSpool:
    @pytest.fixture
    def spool(self, database):
        return Spool(database)

    def test_no_spool(self, spool, store):
        assert spool.empty
        assert len(spool) == 0
        assert spool.replay(store) == (0, 0)
        assert not spool.path.exists()

    def test_replayed_row_is_what_was_spooled(self, spool, store, schema, answer):
        rows = answer(island="Größe\n")
        store.save(rows)
        direct = load(store, schema)
        with store.transaction() as connection:
            connection.execute("DELETE FROM predictions")
        spool.append(rows)
        assert not spool.empty
        assert spool.replay(store) == (1, 0)
        assert spool.empty
        pd.testing.assert_frame_equal(load(store, schema), direct)

    def test_replay_that_was_cut_off_before_the_spool_was_emptied(
        self, spool, store, database, answer
    ):
        spool.append(answer("a", rows=3))
        content = spool.path.read_bytes()
        spool.replay(store)
        spool.path.write_bytes(content)
        spool.append(answer("b"))
        spool.replay(store)
        assert stored(database) == ["a-0", "a-1", "a-2", "b-0"]
        assert spool.empty

    def test_spool_stays_while_the_store_refuses(self, spool, database, answer):
        with closing(Store(database, timeout=0)) as store:
            spool.append(answer())
            with locked(database), pytest.raises(sqlite3.OperationalError):
                spool.replay(store)
        assert len(spool) == 1

    @pytest.mark.parametrize(
        "line",
        [
            b"not JSON\n",
            b"\xff\xfe\n",
            b"{}\n",
            b"5\n",
            b"[]\n",
            b'["zz", "a"]\n',
            b'["00", "a"]\n',
            b"[null, null, null, null, null, null, null, null, null]\n",
            b'["00", null, 0, 0, "1", "{}", "a", 1, "{}"]\n',
        ],
    )
    def test_damaged_line_is_set_aside(self, spool, store, database, answer, line):
        spool.append(answer("a"))
        with spool.path.open("ab") as file:
            file.write(line)
        spool.append(answer("b"))
        assert spool.replay(store) == (2, 1)
        assert stored(database) == ["a-0", "b-0"]
        assert spool.empty
        assert spool.damaged_path.read_bytes() == line

    def test_half_a_line_does_not_hide_the_next(self, spool, store, database, answer):
        """A process was killed, or the power cut, while it wrote."""
        spool.append(answer("half"))
        spool.path.write_bytes(spool.path.read_bytes()[:-20])
        spool.append(answer("next"))
        spool.replay(store)
        assert stored(database) == ["next-0"]

    @pytest.mark.parametrize("block", [1, 700, 5000, 2**17])
    def test_replay_in_blocks(self, spool, store, database, answer, monkeypatch, block):
        monkeypatch.setattr(inference.spool, "BLOCK", block)
        rows = [answer(f"r{number}", island="x" * (number * 53 % 1000)) for number in range(50)]
        for [row] in rows:
            spool.append([row])
        content = spool.path.read_bytes()
        moved = 0
        while not spool.empty:
            step, damaged = spool.replay(store)
            assert step > 0
            assert damaged == 0
            moved += step
            # what is left are whole lines, and what is gone is in the store
            left = spool.path.read_bytes()
            assert content.startswith(left)
            assert left.count(b"\n") == len(spool) == 50 - moved
            assert len(stored(database)) == moved
        assert stored(database) == sorted(f"r{number}-0" for number in range(50))

    def test_several_replay_at_once(self, spool, database, answer, monkeypatch):
        monkeypatch.setattr(inference.spool, "BLOCK", 2000)
        Store(database).close()
        spool.append(answer("a", rows=300))
        moved = []

        def replay():
            with closing(Store(database)) as store:
                while not spool.empty:
                    moved.append(Spool(database).replay(store)[0])

        threads = [threading.Thread(target=replay) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(moved) == 300
        assert len(stored(database)) == 300

    def test_replay_while_others_spool(self, spool, store, database, answer):
        def write():
            other = Spool(database)
            for number in range(100):
                other.append(answer(f"r{number}"))

        writer = threading.Thread(target=write)
        writer.start()
        replayed = 0
        while writer.is_alive():
            replayed += spool.replay(store)[0]
        writer.join()
        replayed += spool.replay(store)[0]
        assert replayed == 100
        assert stored(database) == sorted(f"r{number}-0" for number in range(100))

    def test_lines_are_json(self, spool, answer):
        [row] = answer()
        spool.append([row])
        [line] = spool.path.read_text(encoding="utf-8").splitlines()
        assert json.loads(line)[:2] == [row.key.hex(), "a"]
