"""A small project with documents, and an index of it."""

import pytest

from common.retrieval import Index
from common.retrieval.storage import read_sources

DOCUMENTS = {
    "README.md": "# Rookery\n\n## Rollback\n\n`just rollback` serves the former version again.\n",
    "docs/birds.md": "# Birds\n\n## Food\n\nPenguins eat krill and squid.\n\n## Nests\n\nStones.\n",
    "docs/code/store.py": '"""Keeps captured rows."""\n\n\ndef save(row):\n    """Save a row."""\n',
    "docs/notes.txt": "The server listens on port 8080.\n",
}


@pytest.fixture
def project(tmp_path):
    """The root of a project with four documents."""
    for name, text in DOCUMENTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def make_index(project):
    """Index the project's documents: `make_index(earlier)` returns index and embedded chunks."""

    def make(earlier=None):
        return Index.build(read_sources(("docs", "README.md"), project), earlier=earlier)

    return make


@pytest.fixture
def folder(project, make_index):
    """Where the project's index is saved."""
    place = project / "data" / "index" / "embedded-tfidf"
    make_index()[0].save(place)
    return place
