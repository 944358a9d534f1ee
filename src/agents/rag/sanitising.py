"""Lets through of HTML what an answer needs, whoever wrote it."""

import html
import re

import nh3

from common.pages import to_html

TAGS = {
    *("p", "br", "hr", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"),
    *("strong", "em", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"),
}


def clean(fragment: str) -> str:
    """Remove all tags but TAGS, and every attribute."""
    return nh3.clean(fragment, tags=TAGS, attributes={})


def shown(fragment: str) -> list[str]:
    """Return the words that HTML shows."""
    return re.findall(r"\w+", html.unescape(nh3.clean(fragment, tags=set())))


def sanitise(fragment: str, answer: str) -> str:
    """Return an answer as safe HTML.

    Args:
        fragment: What the formatter made of it.
        answer: The answer in Markdown, which has been checked. If the formatter has changed its
            words, its own rendering is returned instead.
    """
    own = clean(to_html(answer))
    offered = clean(fragment)
    return offered if shown(offered) == shown(own) else own
