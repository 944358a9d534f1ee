"""`adk web` in a real browser, without a key and without the internet: a question, and a game."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from common import ROOT
from common.retrieval import Index, index_folder
from scripts import pictures

pytestmark = [pytest.mark.browser, pytest.mark.integration]

QUESTION = "What do penguins eat?"
DOCUMENT = b"# Birds\n\n## Feeding\n\nPenguins eat krill and small fish.\n"
PATIENCE = 60_000  # ms: the first answer imports what it needs


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A repository whose only document tells of penguins."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "docs").mkdir()
    (folder / "docs" / "birds.md").write_bytes(DOCUMENT)
    index, _ = Index.build({"docs/birds.md": DOCUMENT}, locations=("docs",))
    index.save(folder / index_folder("embedded/tfidf").relative_to(ROOT))
    return folder


@contextmanager
def serving(root: Path, port: int) -> Iterator[str]:
    """Run what `just agents` runs, with all that it keeps below `root`."""
    command = [sys.executable, ROOT / "src" / "scripts" / "serve_agents.py", "--port", str(port)]
    environment = {
        **os.environ,
        "HOME": str(root),
        "ROOKERY_ROOT": str(root),
        "ROOKERY_ENV_FILE": str(root / "none"),
        "ROOKERY_STATE": str(root),
        "AGENT_MODEL": "",
        "EMBEDDING_MODEL": "",
    }
    log = root / "adk.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/list-apps", server, log)
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(20)
    assert code == 0, log.read_text()


def wait_for(url: str, server: subprocess.Popen, log: Path) -> None:
    """Ask until the server answers, or has ended."""
    while True:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - on this machine
                return
        except OSError:
            continue


@pytest.fixture(scope="module")
def url(root, free_port) -> Iterator[str]:
    with serving(root, free_port()) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip(pictures.INSTALL)
    with pictures.chromium() as started:
        yield started


@pytest.fixture
def open_app(browser, url) -> Iterator:
    """Open an application where there is no internet."""
    pages = []

    def visit(name: str) -> Page:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        pages.append(page)
        page.route(lambda asked: not asked.startswith(url), lambda route: route.abort())
        page.goto(f"{url}/dev-ui/?app={name}")
        return page

    yield visit
    for page in pages:
        page.close()


def say(page: Page, text: str) -> None:
    box = page.locator("textarea").first
    box.fill(text)
    box.press("Enter")


def test_both_applications_are_listed_and_nothing_else(url):
    with urllib.request.urlopen(f"{url}/list-apps", timeout=10) as answer:  # noqa: S310 - see above
        assert answer.read() == b'["rag","tic_tac_toe"]'


def test_a_question_gets_an_answer_with_its_references(open_app):
    page = open_app("rag")
    say(page, QUESTION)
    answer = page.locator("p", has_text="Penguins eat krill and small fish. [1]").last
    expect(answer).to_be_visible(timeout=PATIENCE)
    expect(page.locator("li", has_text="docs/birds.md: Birds > Feeding").last).to_be_visible()
    footer = page.get_by_text("Answered by embedded/rules (rules, not an LLM).").last
    expect(footer).to_be_visible()
    # by the last node alone, which has it checked
    expect(page.locator("p", has_text="Penguins eat krill and small fish. [1]")).to_have_count(1)


def test_a_game_is_played_and_counted(open_app):
    page = open_app("tic_tac_toe")
    say(page, "play a game")
    end = page.locator("p", has_text="Game 1:").last
    expect(end).to_contain_text("wins.", timeout=PATIENCE)
    say(page, "What is the score?")
    expect(page.locator("p", has_text="Score so far:").last).to_be_visible(timeout=PATIENCE)
