"""Pages of our own: templates filled with values that stay text, whatever is in them."""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
# What means something to Markdown inside of a line; an underscore within a word does not.
MARKS = re.compile(r"[\\`*\[\]<>&|~#!$]|(?<![^\W_])_|_(?![^\W_])")
# Where a line would begin a list or end a heading.
LIST = re.compile(r"^(?:(?=[-+=])|(\d{1,9})(?=[.)](?:\s|$)))")


def render(template: str, **values: object) -> str:
    """Fill the template of this name: HTML, or Markdown where it ends in .md.j2.

    Every value is escaped, except what was made a `markupsafe.Markup`.
    """
    return _environment(markdown=template.endswith(".md.j2")).get_template(template).render(values)


def to_html(markdown: str) -> Markup:
    """Turn Markdown into HTML; tags that stand in it become text."""
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only few processes need it

    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))  # noqa: S704 - html is off


def escape_markdown(value: object) -> object:
    """Return a value as text that Markdown shows as it is, on one line."""
    if isinstance(value, Markup):
        return value
    return LIST.sub(r"\g<1>\\", MARKS.sub(r"\\\g<0>", " ".join(str(value).split())))


@cache
def _environment(*, markdown: bool) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - 0.1 s

    options: dict[str, Any] = {"finalize": escape_markdown} if markdown else {"autoescape": True}
    return Environment(  # noqa: S701 - Markdown is escaped by `finalize`
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
