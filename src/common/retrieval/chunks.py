"""Files as chunks: sections of Markdown, definitions of Python, paragraphs of text."""

import ast
import logging
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import yaml
from markdown_it import MarkdownIt
from pydantic import TypeAdapter, ValidationError

from inference.errors import RetrievalError

logger = logging.getLogger("rookery")

# Characters; some 130 words, which is what an answer quotes. Code and rows of tables are never cut.
LIMIT = 800
SEPARATOR = " > "
# Of any folder: keywords of sections, by file#heading.
KEYWORDS = "keywords.yml"
# What Sphinx builds a guide by: no reader is told anything there.
SPHINX = "conf.py"
# Its header, and the line below that.
TABLE = re.compile(r"\|.*\n[|: -]+(\n|\Z)")
COMMENT = re.compile(r"(?s)\s*<!--.*?-->\s*")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Chunk(NamedTuple):
    """A piece of a file.

    Attributes:
        source: The file, from the repository's root.
        heading: What it stands under: "Title > Section", or "module > Class > method".
        text: The piece itself.
        keywords: Other words for what it is about.
    """

    source: str
    heading: str
    text: str
    keywords: str = ""

    @property
    def content(self) -> str:
        """What is searched: the own heading counts twice, for it says what the text is about."""
        own = self.heading.rpartition(SEPARATOR)[2]
        return f"{self.heading}\n{own}\n{self.keywords}\n{self.text}"

    @property
    def section(self) -> str:
        """Where it stands, as file#heading."""
        return section_name(self.source, self.heading)


def section_name(source: str, heading: str) -> str:
    """Return how a section is named by keywords and questions: file#heading."""
    return f"{source}#{heading.rpartition(SEPARATOR)[2]}"


def find_files(locations: Iterable[str], root: Path) -> dict[str, Path]:
    """Find the files below some locations, by their names from `root`.

    Left out are hidden files and folders, and what only builds a guide: folders whose names begin
    with an underscore, and Sphinx's conf.py.

    Raises:
        RetrievalError: A location does not exist, or is a file of another kind.
    """
    found: dict[str, Path] = {}
    for location in locations:
        place = root / location
        if place.is_file() and place.suffix in SPLITTERS:
            files = [place]
        elif place.is_dir():
            files = [file for file in place.rglob("*") if _counts(file, place)]
        else:
            raise RetrievalError(
                f"--location: {location} is neither a folder nor a file ending in "
                f"{', '.join(SPLITTERS)}"
            )
        for file in files:
            path = file.resolve()
            inside = path.is_relative_to(root.resolve())
            found[(path.relative_to(root.resolve()) if inside else path).as_posix()] = path
    return dict(sorted(found.items()))


def _counts(file: Path, folder: Path) -> bool:
    *folders, name = file.relative_to(folder).parts
    aside = name.startswith(".") or any(part.startswith((".", "_")) for part in folders)
    kind = file.suffix in SPLITTERS or name == KEYWORDS
    return kind and not aside and name != SPHINX and file.is_file()


def split_all(sources: Mapping[str, bytes]) -> list[Chunk]:
    """Split files, and give each chunk the keywords of its section.

    Raises:
        RetrievalError: A file is not UTF-8, or one of keywords is not what it should be.
    """
    keywords: dict[str, str] = {}
    for source, content in sources.items():
        if Path(source).name == KEYWORDS:
            try:
                found = yaml.safe_load(decode(source, content)) or {}
                keywords |= TypeAdapter(dict[str, str]).validate_python(found)
            except (yaml.YAMLError, ValidationError) as error:
                raise RetrievalError(f"{source}: {' '.join(str(error).split())}") from error
    chunks = [
        chunk
        for source, content in sources.items()
        if Path(source).name != KEYWORDS
        for chunk in split(source, content)
    ]
    for section in sorted(keywords.keys() - {chunk.section for chunk in chunks}):
        logger.warning("keywords for %s, which is not there", section)
    return [chunk._replace(keywords=keywords.get(chunk.section, "")) for chunk in chunks]


def decode(source: str, content: bytes) -> str:
    """Return a file's text.

    Raises:
        RetrievalError: It is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RetrievalError(
            f"{source} is not UTF-8 ({error.reason} at byte {error.start}); convert it, or leave"
            " it out of --location"
        ) from error


def split(source: str, content: bytes) -> list[Chunk]:
    """Split a file by what its name ends in.

    Raises:
        RetrievalError: It is not UTF-8.
    """
    # the lines that parsers count
    lines = decode(source, content).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [
        Chunk(source, heading, piece)
        for heading, piece in SPLITTERS[Path(source).suffix](source, lines)
        if piece.strip()
    ]


def split_markdown(source: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the pieces of each section, cut between blocks, items of a list, or rows of a table.

    Comments and directives of a guide's builder, such as its table of contents, are left out.
    """
    tokens = MarkdownIt("commonmark").enable("table").parse("\n".join(lines))
    lines = list(lines)
    for token in tokens:
        comment = token.type == "html_block" and COMMENT.fullmatch(token.content)
        if token.map and (comment or (token.type == "fence" and token.info.startswith("{"))):
            first, last = token.map
            lines[first:last] = [""] * (last - first)
    trail: list[tuple[int, str]] = []
    starts: list[int] = []
    for place, token in enumerate(tokens):
        if token.map is None or token.nesting < 0:
            continue
        if token.type == "heading_open" and token.level == 0:
            yield from _pack(_heading(trail, source), lines, starts, token.map[0])
            depth, starts = int(token.tag[1:]), []
            title = "".join(
                part.content
                for part in tokens[place + 1].children or ()
                if part.type in {"text", "code_inline"}
            )
            trail = [*(known for known in trail if known[0] < depth), (depth, title)]
        elif token.level == 0 or (token.level == 1 and token.type == "list_item_open"):
            # a list begins where its first item does
            starts += [token.map[0]] if token.map[0] not in starts[-1:] else []
    yield from _pack(_heading(trail, source), lines, starts, len(lines))


def _heading(trail: Sequence[tuple[int, str]], source: str) -> str:
    return SEPARATOR.join(title for _, title in trail) or Path(source).name


def _pack(
    heading: str, lines: Sequence[str], starts: Sequence[int], end: int
) -> Iterator[tuple[str, str]]:
    """Yield neighbouring blocks together as long as they stay below the limit."""
    piece = ""
    for first, last in pairwise([*starts, end]):
        for block in _rows(lines[first:last]):
            if piece and len(piece) + len(block) > LIMIT:
                yield heading, piece.strip("\n")
                piece = ""
            piece += block + "\n"
    yield heading, piece.strip("\n")


def _rows(block: Sequence[str]) -> Iterator[str]:
    """Yield a block as it is, or a long table in several, each with the table's header."""
    text = "\n".join(block)
    if len(text) <= LIMIT or not TABLE.match(text):
        yield text
        return
    head, rows = block[:2], block[2:]
    part: list[str] = []
    for row in filter(None, rows):
        if part and sum(map(len, part)) + len(row) > LIMIT:
            yield "\n".join([*head, *part, ""])
            part = []
        part.append(row)
    yield "\n".join([*head, *part, ""])


def split_python(source: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield module, classes, functions and methods, each with its docstring first."""
    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError) as error:
        logger.warning("%s is read as text, for it is not Python: %s", source, error)
        yield from split_text(source, lines)
        return
    path = source.removeprefix("src/").removesuffix(".py").removesuffix("/__init__")
    yield from _split_definition(tree, (path.strip("/").replace("/", "."),), lines, 0, len(lines))


def _split_definition(
    node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
    trail: tuple[str, ...],
    lines: Sequence[str],
    first: int,
    last: int,
) -> Iterator[tuple[str, str]]:
    inner = () if isinstance(node, DEFINITIONS[:2]) else node.body
    parts = [
        (part, min(one.lineno for one in (part, *part.decorator_list)) - 1, part.end_lineno or last)
        for part in inner
        if isinstance(part, DEFINITIONS)
    ]
    elsewhere = {line for _, begin, end in parts for line in range(begin, end)}
    docstring = ast.get_docstring(node) or ""
    if docstring and node.body[0].lineno - 1 > first - isinstance(node, ast.Module):
        elsewhere |= set(range(node.body[0].lineno - 1, node.body[0].end_lineno or last))
    code = "\n".join(lines[line] for line in range(first, last) if line not in elsewhere)
    own = f"{docstring}\n\n{textwrap.dedent(code).strip()}"
    yield from ((SEPARATOR.join(trail), piece) for piece in _paragraphs(own))
    for part, begin, end in parts:
        yield from _split_definition(part, (*trail, part.name), lines, begin, end)


def split_text(source: str, lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield paragraphs, short ones together."""
    yield from ((Path(source).name, piece) for piece in _paragraphs("\n".join(lines)))


def _paragraphs(text: str) -> Iterator[str]:
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if piece and len(piece) + len(paragraph) > LIMIT:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}".strip("\n")
        if len(piece) > LIMIT:
            # at a white space where there is one
            *whole, piece = re.findall(rf"(?s).{{1,{LIMIT}}}(?=\s|\Z)|.{{1,{LIMIT}}}", piece)
            yield from whole
    yield piece


SPLITTERS = {".md": split_markdown, ".py": split_python, ".txt": split_text}
