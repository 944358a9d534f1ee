"""The flow that indexes documents, in a project of its own."""

import os
import shutil
import subprocess
import sys

import pytest

from common import ROOT
from common.retrieval import Index

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of what the flow reads."""
    root = tmp_path_factory.mktemp("project")
    for name in ("README.md", "docs", "evals", "config"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    return root


@pytest.fixture(scope="module")
def index(project):
    """Run the flow: `index("--location", "docs")` returns exit code and output."""

    def run(*parameters: str, **variables: str) -> tuple[int, str]:
        done = subprocess.run(
            [
                sys.executable,
                str(ROOT / "src/pipelines/indexing.py"),
                "--no-pylint",
                "run",
                *parameters,
            ],
            cwd=project,
            env={
                **os.environ,
                "ROOKERY_ROOT": str(project),
                "ROOKERY_STATE": str(project / ".rookery"),
                "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(project),
                "EMBEDDING_MODEL": "",
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_documents_are_indexed_and_what_is_unchanged_is_not_embedded_again(project, index):
    folder = project / "data" / "index" / "embedded-tfidf"
    code, output = index()
    assert code == 0, output
    assert "recall@4, both" in output
    found = Index.load(folder, root=project)
    assert any("rollback" in one.text for one in found.search("How do I roll back a deployment?"))
    assert found.search("What is the capital of France?") == []

    code, output = index()
    assert code == 0, output
    assert ", 0 of them embedded" in output
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]

    # one that is damaged spares nothing, and one that is bad is not put to use
    (folder / "chunks.jsonl").write_bytes(b"")
    code, output = index("--minimum", "1.01")
    assert code == 1
    assert "everything is embedded anew" in output
    assert "--minimum 1.01 asks for more" in output
    assert (folder / "chunks.jsonl").read_bytes() == b""
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (("--location", "nowhere"), "--location: nowhere is neither a folder nor a file"),
        (("--embedding-model", "embedded/other"), "embedded/other does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(index, parameters, reason):
    code, output = index(*parameters)
    assert code == 1
    assert reason in output
    assert "Traceback" not in output
