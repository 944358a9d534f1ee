"""The folder through which a deployer and the server's workers talk."""

import json
import os
import threading

import psutil
import pytest

from inference.errors import BackendError
from inference.live import LiveFolder, Pointer, Report

TEXT = "schema.json"


@pytest.fixture
def folder(tmp_path):
    return LiveFolder(tmp_path / "serving")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    (path / TEXT).write_text("first")
    return path


def test_nothing_is_live_at_first(folder):
    assert folder.pointer() is None
    assert folder.reports() == []


def test_moves(folder):
    first = folder.point("1", "run-1")
    assert folder.pointer() == first
    assert (first.version, first.run_id, first.previous) == ("1", "run-1", None)

    second = folder.point("2", "run-2")
    assert second == Pointer("2", "run-2", first.generation + 1, "1", "run-1")

    again = folder.point("2", "run-2b")
    assert again == Pointer("2", "run-2b", first.generation + 2, "1", "run-1")

    back = folder.point("1", "run-1")
    assert back == Pointer("1", "run-1", first.generation + 3, "2", "run-2b")


def test_restored_pointer_is_a_new_generation(folder):
    folder.point("1", "run-1")
    before = folder.point("2", "run-2")
    moved = folder.point("3", "run-3")
    folder.restore(before)
    restored = folder.pointer()
    assert restored == Pointer("2", "run-2", moved.generation + 1, "1", "run-1")


def test_generation_grows_even_if_the_first_deploy_is_undone(folder):
    failed = folder.point("1", "run-1")
    folder.restore(None)
    assert folder.pointer() is None
    # a worker that saw the first one must notice the second
    assert folder.point("2", "run-2").generation > failed.generation


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": "1", "colour": 2}', "3"])
def test_damaged_pointer(folder, text):
    folder.point("1", "run-1")
    folder.pointer_file.write_text(text)
    with pytest.raises(BackendError, match=r"live\.json: damaged .* remove it and deploy again"):
        folder.pointer()
    folder.pointer_file.unlink()
    assert folder.point("2", "run-2").version == "2"


def test_readers_see_whole_pointers_that_grow(folder):
    folder.point("0", "run")
    done = threading.Event()
    seen, failures = [], []

    def read():
        while not done.is_set():
            try:
                seen.append(folder.pointer())
            except BackendError as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(500):
        folder.point("v" * (number % 50), "run")
    done.set()
    reader.join()
    assert failures == []
    generations = [pointer.generation for pointer in seen]
    assert generations == sorted(generations)
    assert len(set(generations)) > 10
    assert [file.name for file in folder.path.iterdir()] == ["live.json"]


def test_model_is_copied(folder, source):
    target = folder.add_model("1", source)
    assert target == folder.model("1")
    assert (target / TEXT).read_text() == "first"


def test_model_is_replaced(folder, source):
    folder.add_model("1", source)
    (source / TEXT).rename(source / "other.json")
    target = folder.add_model("1", source)
    assert [file.name for file in target.iterdir()] == ["other.json"]
    assert [path.name for path in target.parent.iterdir()] == ["1"]


def test_model_that_cannot_be_copied_changes_nothing(folder, source):
    folder.add_model("1", source)
    (source / "dangling").symlink_to(source / "nowhere")
    with pytest.raises(OSError, match="dangling"):
        folder.add_model("1", source)
    assert [path.name for path in folder.model("1").parent.iterdir()] == ["1"]
    assert (folder.model("1") / TEXT).read_text() == "first"


def deploy(folder, source, version):
    path = folder.add_model(version, source)
    # times of files may be too coarse to tell these apart
    os.utime(path, (int(version), int(version)))
    folder.point(version, f"run-{version}")
    folder.drop_old_models()


def versions(folder):
    return sorted(path.name for path in (folder.path / "models").iterdir())


def test_old_models_are_dropped(folder, source):
    for version in "12345":
        deploy(folder, source, version)
    assert versions(folder) == ["3", "4", "5"]


def test_models_that_are_needed_stay(folder, source):
    for version in "12":
        deploy(folder, source, version)
    # three that never went live
    for version in "345":
        os.utime(folder.add_model(version, source), (int(version), int(version)))
    folder.drop_old_models()
    assert versions(folder) == ["1", "2", "3", "4", "5"]


def test_what_a_killed_deploy_left_is_dropped(folder, source):
    (folder.path / "models" / ".staging-killed").mkdir(parents=True)
    deploy(folder, source, "1")
    assert versions(folder) == ["1"]


def test_reports(folder):
    report = Report(os.getpid(), 3, "1")
    folder.report(report)
    assert folder.reports() == [report]
    folder.report(Report(os.getpid(), 4, "2", "does not load"))
    assert folder.reports() == [Report(os.getpid(), 4, "2", "does not load")]
    folder.withdraw(os.getpid())
    assert folder.reports() == []


def test_report_of_the_dead_is_ignored(folder):
    here = Report(os.getpid(), 4, "2")
    folder.report(here)
    file = folder.path / "workers" / f"{os.getpid()}.json"
    content = json.loads(file.read_text())
    content["report"]["pid"] = max(psutil.pids()) + 100_000
    (file.parent / "dead.json").write_text(json.dumps(content))
    assert folder.reports() == [here]


def test_report_of_a_worker_whose_id_another_process_has_now(folder):
    """After a restart of the machine, say: it would hold up every deploy."""
    folder.report(Report(os.getpid(), 4, "2"))
    [file] = (folder.path / "workers").iterdir()
    content = json.loads(file.read_text())
    content["started"] = "0 after the start"
    file.write_text(json.dumps(content))
    assert folder.reports() == []


def test_waiting_for_workers(folder):
    pointer = folder.point("2", "run-2")
    folder.report(Report(os.getpid(), pointer.generation, "2"))
    folder.wait_for_workers(pointer, timeout=1)


@pytest.mark.parametrize("reported", [False, True])
def test_workers_that_do_not_follow(folder, reported):
    pointer = folder.point("2", "run-2")
    if reported:
        folder.report(Report(os.getpid(), pointer.generation - 1, "1"))
    with pytest.raises(BackendError, match=r"not every worker took version 2 within 0\.1 s"):
        folder.wait_for_workers(pointer, timeout=0.1)


def test_worker_that_cannot_load(folder):
    pointer = folder.point("2", "run-2")
    folder.report(Report(os.getpid(), pointer.generation, "2", "graph.onnx is missing"))
    with pytest.raises(BackendError, match=r"version 2 does not load: graph\.onnx is missing"):
        folder.wait_for_workers(pointer, timeout=5)


def test_one_deploy_at_a_time(folder):
    other = LiveFolder(folder.path)
    with folder.locked(), pytest.raises(BackendError, match="another deploy"), other.locked():
        pytest.fail("two deploys at once")
    with other.locked():
        assert folder.path.is_dir()
