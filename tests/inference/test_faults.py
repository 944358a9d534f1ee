"""Whatever is killed, and while the database refuses: what was answered is stored, once."""

import http.client
import json
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager, nullcontext

import psutil
import pytest

from inference import launcher
from inference.capture import Recorder
from inference.spool import Spool

pytestmark = pytest.mark.integration

CLIENTS = 8
ROUNDS = 20
MASTERS = 4
LONGEST_PAUSE = 0.5


class Load:
    """Clients that ask over kept connections, one row a request, and go on whatever happens."""

    def __init__(self, backend, record):
        self._address = launcher.address(backend.settings.target)
        self._body = json.dumps({"dataframe_records": [record]})
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=[number]) for number in range(CLIENTS)
        ]
        self.answered, self.refused, self.interrupted = [], [], []

    def _run(self, number):
        asked = 0
        with closing(http.client.HTTPConnection(*self._address, timeout=20)) as connection:
            while not self._stop.is_set():
                try:
                    if connection.sock is None:
                        connection.connect()
                except OSError:
                    # no server listens, so nothing is asked
                    time.sleep(0.02)
                    continue
                asked += 1
                self._ask(connection, f"client{number}.{asked}")

    def _ask(self, connection, name):
        headers = {"content-type": "application/json", "x-request-id": name}
        try:
            connection.request("POST", "/invocations", self._body, headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self.interrupted.append(name)
        else:
            (self.answered if response.status == 200 else self.refused).append(name)

    def wait_for_answers(self):
        """Return when at least one request was asked and answered from now on."""
        enough = len(self.answered) + CLIENTS + 1
        deadline = time.monotonic() + 30
        while len(self.answered) < enough:
            assert time.monotonic() < deadline, "the server answers no more"
            time.sleep(0.01)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def locked(database):
    """Another process writes for longer than the server waits."""
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def kill_worker(backend, rng):
    """Kill a worker; the master replaces it."""
    master = launcher.running(backend.folder)
    while not (workers := master.children()):
        time.sleep(0.01)
    worker = rng.choice(workers)
    worker.kill()
    assert psutil.wait_procs([worker], timeout=20)[1] == []


def kill_master(backend, release):
    """Kill the master, which its workers follow, and start the server again."""
    master = launcher.running(backend.folder)
    workers = master.children()
    master.kill()
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    backend.deploy(release)


@pytest.fixture
def backend(make_local, tmp_path):
    backend = make_local(tmp_path, workers=2)
    yield backend
    launcher.stop(backend.folder)


def test_killed_at_random_moments(backend, release, record):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    rng = random.Random(seed)  # noqa: S311 - no secret
    version, database = release("1"), backend.settings.database
    # the database is locked in every other round
    masters = rng.sample(range(0, ROUNDS, 2), MASTERS // 2)
    masters += rng.sample(range(1, ROUNDS, 2), MASTERS // 2)

    backend.deploy(version)
    with Load(backend, record) as load:
        for number in range(ROUNDS):
            load.wait_for_answers()
            with locked(database) if number % 2 else nullcontext():
                load.wait_for_answers()
                assert number % 2 == 0 or not Spool(database).empty
                time.sleep(rng.uniform(0, LONGEST_PAUSE))
                if number in masters:
                    kill_master(backend, version)
                else:
                    kill_worker(backend, rng)
        load.wait_for_answers()
    assert launcher.stop(backend.folder)
    with closing(Recorder(database)) as recorder:
        recorder.recover()
        assert recorder.waiting == 0
    with closing(sqlite3.connect(database)) as connection:
        stored = Counter(
            name for (name,) in connection.execute("SELECT request_id FROM predictions")
        )

    assert [name for name in load.answered if stored[name] != 1] == []
    assert [name for name in load.interrupted if stored[name] > 1] == []
    assert stored.keys() <= {*load.answered, *load.interrupted}
    assert len(load.answered) > ROUNDS * CLIENTS
    assert load.interrupted
