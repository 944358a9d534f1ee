"""How one index takes the place of another: whole, and without touching anyone else's."""

import os
import time
from pathlib import Path

import pytest

from common.retrieval.storage import LEFT_SECONDS, replace, staging
from inference.errors import RetrievalError


@pytest.fixture
def used(tmp_path):
    """The folder of the index in use."""
    return make(tmp_path / "openai-v1", "used")


def make(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "manifest.json").write_text(text)
    return folder


def read(folder: Path) -> str:
    return (folder / "manifest.json").read_text()


def test_two_at_once_are_both_put_to_use(used):
    first, second = make(staging(used), "first"), make(staging(used), "second")
    replace(used, first)
    assert read(used) == "first"
    replace(used, second)
    assert read(used) == "second"
    assert [file.name for file in used.parent.iterdir()] == [used.name]


def test_an_index_stays_where_there_is_nothing_to_replace_it(used):
    staged = make(staging(used), "new")
    replace(used, staged)
    # as `resume end` does after a run that ended well
    with pytest.raises(RetrievalError, match=r"is not there: .* run `just index` again") as caught:
        replace(used, staged)
    assert "\n" not in str(caught.value)
    assert read(used) == "new"


def test_an_index_is_put_back_if_another_cannot_take_its_place(used, monkeypatch):
    staged, rename = make(staging(used), "new"), Path.rename

    def fail(self, target):
        if self == staged:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(RetrievalError, match=r"cannot be replaced \(Input/output error\)"):
        replace(used, staged)
    assert (read(used), read(staged)) == ("used", "new")
    assert len([*used.parent.iterdir()]) == 2


def test_what_another_process_put_there_meanwhile_stays(used, monkeypatch):
    staged, rename = make(staging(used), "new"), Path.rename

    def overtake(self, target):
        if self == staged:
            make(used, "another's")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", overtake)
    with pytest.raises(RetrievalError, match="is it being indexed elsewhere"):
        replace(used, staged)
    assert read(used) == "another's"


@pytest.mark.parametrize(
    ("name", "age", "stays"),
    [
        (".openai-v1.0123abcd", LEFT_SECONDS + 60, False),
        (".openai-v1.0123abcd", LEFT_SECONDS - 60, True),
        (".openai-v1.5.0123abcd", LEFT_SECONDS + 60, True),
        (".openai-v1.5", LEFT_SECONDS + 60, True),
        ("openai-v1.0123abcd", LEFT_SECONDS + 60, True),
    ],
)
def test_only_what_killed_processes_left_is_removed(name, age, stays, used):
    left = make(used.parent / name, "left")
    moment = time.time() - age
    os.utime(left, (moment, moment))
    replace(used, make(staging(used), "new"))
    assert left.exists() is stays
    assert read(used) == "new"
