"""`just hooks` and what git then does before a commit and a push, in a repository of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from common import ROOT

pytestmark = pytest.mark.integration

CLEAN = '"""A module."""\n'
# the line is longer than the formatter leaves it
UNFORMATTED = '"""A module."""\n\nNAMES = [ "a",\n "b" ]\n'


class Repository:
    """A clone with the project's recipes and hooks, and this one's packages and tools."""

    def __init__(self, path: Path, home: Path) -> None:
        self.path = path
        for name in ("justfile", "justw", "pyproject.toml", ".githooks", ".ci"):
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, path / name)
        for name in (".venv", ".tools"):
            if (ROOT / name).exists():
                (path / name).symlink_to(ROOT / name)
        scripts = path / "src" / "scripts"
        scripts.mkdir(parents=True)
        for name in ("__init__.py", "audit.py"):
            shutil.copy(ROOT / "src" / "scripts" / name, scripts)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
            "HOME": str(home),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
        }
        self.run("git", "init", "--quiet", "--initial-branch", "main")
        (path / ".gitignore").write_text(".venv\n.tools\n")
        self.run("git", "add", ".")
        self.run("git", "commit", "--quiet", "--message", "Start")

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command there; return its exit code and all that it said."""
        done = subprocess.run(
            words,
            cwd=self.path,
            env=self.environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    def commit(self, name: str, text: str) -> tuple[int, str]:
        """Write, stage and commit a file."""
        (self.path / name).write_text(text)
        self.run("git", "add", name)
        return self.run("git", "commit", "--message", f"Add {name}")


@pytest.fixture
def repository(tmp_path_factory) -> Repository:
    return Repository(tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("home"))


def test_nothing_is_checked_unless_asked_for(repository):
    assert repository.run("git", "config", "--local", "core.hooksPath")[0] == 1
    assert repository.commit("module.py", UNFORMATTED)[0] == 0


def test_a_commit_is_refused_with_the_reason_and_a_clean_one_is_not(repository):
    assert repository.run("./justw", "hooks")[0] == 0

    code, told = repository.commit("module.py", UNFORMATTED)
    assert code == 1
    assert "module.py" in told
    assert "just format" in told

    code, told = repository.commit("module.py", CLEAN)
    assert code == 0, told

    # a part of a package, whose other files are not staged
    assert repository.commit("src/scripts/more.py", CLEAN)[0] == 0

    # what is staged counts, not what the file holds by now
    (repository.path / "module.py").write_text(UNFORMATTED)
    repository.run("git", "add", "module.py")
    (repository.path / "module.py").write_text(CLEAN)
    assert repository.run("git", "commit", "--message", "Change it")[0] == 1
    # here git keeps what is staged elsewhere
    assert repository.run("git", "commit", "--all", "--message", "Leave it")[0] == 1
    (repository.path / "module.py").write_text(f"{CLEAN}\nNAMES = []\n")
    assert repository.run("git", "commit", "--all", "--message", "Change it")[0] == 0


def test_a_style_error_and_a_key_are_refused(repository, planted_key):
    repository.run("./justw", "hooks")

    code, told = repository.commit("module.py", f"{CLEAN}\nimport os\n")
    assert code == 1
    assert "F401" in told
    repository.run("git", "rm", "--quiet", "--cached", "module.py")

    code, told = repository.commit("notes.txt", planted_key)
    assert code == 1
    assert "notes.txt" in told
    assert "aws-access-token" in told


def test_removal_ends_it_and_hooks_of_others_are_left_alone(repository):
    repository.run("./justw", "hooks")
    assert repository.run("./justw", "hooks", "--remove")[0] == 0
    assert repository.commit("module.py", UNFORMATTED)[0] == 0

    repository.run("git", "config", "core.hooksPath", "/elsewhere")
    code, told = repository.run("./justw", "hooks")
    assert code == 1
    assert "/elsewhere" in told
    repository.run("./justw", "hooks", "--remove")
    assert repository.run("git", "config", "core.hooksPath") == (0, "/elsewhere\n")


@pytest.mark.parametrize(("lint", "quick_tests", "pushed"), [(1, 0, 1), (0, 1, 1), (0, 0, 0)])
def test_a_push_needs_lint_and_the_quick_tests(repository, tmp_path, lint, quick_tests, pushed):
    # the recipes themselves take minutes; which of them the hook calls, and how, is what counts
    (repository.path / "justfile").write_text(
        "set positional-arguments\n"
        f"lint:\n    @env | grep -q ^GIT_DIR= && exit 9 || exit {lint}\n"
        f'test *ARGS:\n    @[ "$*" = "-m not integration" ] && exit {quick_tests}\n'
    )
    repository.commit("module.py", CLEAN)
    repository.run("git", "init", "--quiet", "--bare", str(tmp_path / "remote"))
    repository.run("git", "config", "core.hooksPath", ".githooks")

    code, told = repository.run("git", "push", str(tmp_path / "remote"), "main")
    assert (code != 0) == pushed, told
