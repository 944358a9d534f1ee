"""The pages for people, and what stands in them: links, headings, blocks, commands."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from common import ROOT
from visits import Clone, Commands

# In the order in which somebody reads them, and in which their commands are run.
FIRST = ("README.md", "docs/index.md", "docs/quick-start.md", "docs/journeys", "docs/how-to")
LAST = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PARSER = MarkdownIt("commonmark").enable("table")
BASH = shutil.which("bash") or "bash"
# A block that begins with such a comment is a file.
NAMED = re.compile(r"#\s*([\w./-]+\.\w+)\s*\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: Of its opening fence, from 1.
    """

    page: str
    line: int
    language: str
    content: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it is, where its first line says so."""
        named = NAMED.match(self.content)
        return named[1] if named else None

    def commands(self) -> list[str]:
        """The commands of a sh or console block, each with all of its lines."""
        if self.language == "sh":
            return list(join(self.content.splitlines()))
        if self.language == "console":
            return list(join(self.content.splitlines(), prompt="$ "))
        return []


def join(lines: list[str], prompt: str = "") -> Iterator[str]:
    """Yield commands, each with the lines that belong to it; with a prompt, the rest is output."""
    pending: list[str] = []
    for line in lines:
        if not pending and not line.startswith(prompt):
            continue
        pending.append(line if pending else line.removeprefix(prompt))
        text = "\n".join(pending)
        if is_complete(text):
            if not is_comment(text):
                yield text
            pending = []
    if pending:
        yield "\n".join(pending)


def is_comment(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith("#") for line in text.splitlines())


def is_complete(text: str) -> bool:
    """Whether bash would begin to run it now: no open quote, list, document or escaped end."""
    if text.endswith("\\"):
        return False
    checked = subprocess.run([BASH, "-n"], input=text, capture_output=True, text=True, check=False)
    return checked.returncode == 0 and "here-document" not in checked.stderr


@dataclass(frozen=True)
class Page:
    """A page of Markdown, by its path from the root."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @cached_property
    def tokens(self) -> list[Token]:
        return PARSER.parse(self.path.read_text(encoding="utf-8"))

    @cached_property
    def blocks(self) -> list[Block]:
        fences = [token for token in self.tokens if token.type in ("fence", "code_block")]
        return [
            Block(self.name, token.map[0] + 1, token.info.strip(), token.content)
            for token in fences
        ]

    @cached_property
    def anchors(self) -> set[str]:
        """What GitHub calls the page's headings."""
        found: list[str] = []
        for token, text in zip(self.tokens, self.tokens[1:], strict=False):
            if token.type == "heading_open":
                words = "".join(part.content for part in text.children)
                slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
                count = found.count(slug)
                found.append(slug)
                if count:
                    found.append(f"{slug}-{count}")
        return set(found)

    @cached_property
    def links(self) -> list[tuple[int, str]]:
        """Line and address of every link and picture."""
        found = []
        for token in self.tokens:
            for part in [token, *(token.children or [])]:
                address = part.attrGet("href") or part.attrGet("src")
                inside = (
                    re.findall(r'(?:src|href)="([^"]+)"', part.content)
                    if "html" in part.type
                    else []
                )
                line = (token.map or [0])[0] + 1
                found += [(line, str(one)) for one in [address, *inside] if one]
        return found


def place(name: str) -> tuple[int, str]:
    """Return where a page stands among the others."""
    order = [*FIRST, "docs", *LAST]
    return min(
        i
        for i, start in enumerate(order)
        if name == start
        or (name.startswith(f"{start}/") and (start != "docs" or not name.startswith(FIRST)))
    ), name


def find_pages() -> list[Page]:
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    names = sorted((file.relative_to(ROOT).as_posix() for file in files), key=place)
    return [Page(name) for name in names]


PAGES = find_pages()
assert len(PAGES) > len(LAST)


BUSY = [
    page
    for page in PAGES
    if any(one.language in ("sh", "console", "python") for one in page.blocks)
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test with the argument `page` every page, and `busy_page` those with commands."""
    for argument, some in {"page": PAGES, "busy_page": BUSY}.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, some, ids=[page.name for page in some])


@pytest.fixture(scope="session")
def pages() -> dict[str, Page]:
    """Every page by its path from the root."""
    return {page.name: page for page in PAGES}


@pytest.fixture(scope="session")
def commands() -> Commands:
    """What is to be done with the pages' commands."""
    return Commands.read()


@pytest.fixture(scope="module")
def clone(commands, tmp_path_factory) -> Iterator[Clone]:
    """A fresh clone, in which the commands of one page after the other are run."""
    place = tmp_path_factory.mktemp("reader")
    for folder in ("rookery", "home"):
        (place / folder).mkdir()
    clone = Clone(place / "rookery", place / "home", commands)
    clone.make()
    yield clone
    clone.end()
