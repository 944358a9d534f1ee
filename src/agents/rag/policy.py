"""The rules of the embedded model for each agent that answers questions."""

import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agents.embedded import Call, Reply, Request
from agents.rag.citations import FENCE, NOTHING, blocks, is_small_talk, plain
from common.terms import terms

MAX_QUOTES = 4
# Of longer blocks of code, only lines that share something with the question are quoted.
MAX_CODE_LINES = 4
# Asks for something to type, which stands in the documents as code.
HOW = re.compile(r"\bhow (?:do|can|to|should|would)\b|\bcommand", re.IGNORECASE)
CODE_WORTH = 1.5
DIAGRAM = "```mermaid"
# Quotes that have less of the best one's score say little about the question.
WORTH = 0.5
RANK_COST = 0.1
# The first row of a table, and the line below it.
TITLES = re.compile(r"^(\|.*\|)\n(\|[\s:|-]+\|)$", re.MULTILINE)
ITEM_MARK = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")


@dataclass(frozen=True)
class Quote:
    """A sentence, an item, a row or a block of code of a passage.

    Attributes:
        passage: Its number.
        text: In Markdown.
        about: Its terms, and those of what stands before it where it is code.
    """

    passage: int
    text: str
    about: frozenset[str]


def retriever(request: Request) -> Reply:
    """Quote the sentences of the retrieved passages that share most with the question."""
    if is_small_talk(request.user):
        return "Hello. Ask me something about the documents."
    if "retrieve" not in request.results:
        return Call("retrieve", {"query": request.user})
    passages = request.results["retrieve"].get("passages", [])
    chosen = choose(request.user, passages)
    if not chosen:
        return NOTHING
    return "\n\n".join(
        f"From [{quote.passage}]:\n\n{quote.text}"
        if FENCE.match(quote.text)
        else f"{quote.text} [{quote.passage}]"
        for quote in chosen
    )


def choose(question: str, passages: list[dict[str, Any]]) -> list[Quote]:
    """Return the best quotes, in the order in which the passages have them."""
    wanted = set(terms(question))
    quotes = [quote for passage in passages for quote in split(passage, wanted)]
    seen = Counter(word for quote in quotes for word in quote.about & wanted)
    headings = {passage["number"]: set(terms(passage["heading"])) for passage in passages}

    def score(quote: Quote) -> float:
        weight = {word: math.log(1 + len(quotes) / seen[word]) for word in quote.about & wanted}
        heading = 0.5 * len(headings[quote.passage] & wanted)
        worth = CODE_WORTH if "`" in quote.text and HOW.search(question) else 1
        return worth * (sum(weight.values()) + heading) * (1 - RANK_COST * (quote.passage - 1))

    points = [score(quote) for quote in quotes]
    limit = max(WORTH * max(points, default=0), sys.float_info.min)
    best = sorted(range(len(quotes)), key=lambda place: -points[place])[:MAX_QUOTES]
    return [quotes[place] for place in sorted(best) if points[place] >= limit]


def split(passage: dict[str, Any], wanted: set[str]) -> Iterator[Quote]:
    """Yield what can be quoted of a passage to somebody who asks for some terms."""
    number, before = passage["number"], frozenset[str]()
    titles = {row for rows in TITLES.findall(passage["text"]) for row in rows}
    for block in blocks(passage["text"]):
        text = "\n".join(block).strip()
        if FENCE.match(block[0]):
            opening, *lines, closing = block
            if len(lines) > MAX_CODE_LINES:
                lines = [line for line in lines if wanted & set(terms(line))][:MAX_CODE_LINES]
            if lines and not text.startswith(DIAGRAM):
                about = before.union(terms("\n".join(lines)))
                yield Quote(number, "\n".join([opening, *lines, closing]), about)
            continue
        if not text or text.startswith("#") or text in titles:
            continue
        if text.startswith("|"):
            cells = [cell.strip() for cell in text.strip("| ").split("|")]
            text = f"{cells[0]}: {'; '.join(filter(None, cells[1:]))}"
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z`])", ITEM_MARK.sub("", text)):
            line = plain(" ".join(sentence.split()))
            before = frozenset(terms(line))
            # a sentence that ends so says nothing without what follows it
            if before and not line.endswith(":"):
                yield Quote(number, line, before)


def formatter(request: Request) -> Reply:
    """Turn the Markdown of the message into HTML."""
    from common.pages import to_html  # noqa: PLC0415 - only answers need it

    return str(to_html(request.user))
