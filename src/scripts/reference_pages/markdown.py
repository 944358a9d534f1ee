"""Pages and tables of Markdown."""

import re
from collections.abc import Iterable, Sequence

NOTE = "<!-- `just reference` writes this page from the code: change that, not this. -->"
NO_TEXT = "–"  # noqa: RUF001 - a dash


def page(title: str, *parts: str) -> str:
    """Put a page together from its paragraphs, tables and headings."""
    return "\n\n".join([f"# {title}", NOTE, *parts]) + "\n"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a table of Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """Make a text fit into a table's cell: one line, no bars, no tags."""
    return " ".join(text.split()).replace("|", "\\|") or NO_TEXT


def code(value: object) -> str:
    """Set something in the type of code."""
    text = str(value)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def prose(text: str) -> str:
    """Set what stands in a docstring: tags would be HTML."""
    return re.sub(r"<(?=\w)", "&lt;", text)
