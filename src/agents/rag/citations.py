"""Lets through of an answer what retrieved passages bear out, and gives it its references."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from common.terms import WORD, terms

Status: TypeAlias = Literal["answered", "refused", "talk"]
Passage: TypeAlias = dict[str, Any]  # number, source, heading, text

# What the instruction has a model say where the passages do not answer.
NOTHING = "NOT FOUND"
# [2], [1, 3], or a file in brackets, which models write however they were told
CITATION = re.compile(r"\[(\d[\d,\s]*|[^\[\]\s]+\.(?:md|py|txt)[^\[\]]{0,200})\](?!\()")
CODE = re.compile(r"`([^`\n]+)`")
NUMBER = re.compile(r"\d+")
# Code, which stays as it is; a link or an image; and what else could begin a link or a tag.
ACTIVE = re.compile(
    r"(?P<code>`[^`\n]*`)|!?\[(?P<title>[^\[\]]*)\]\((?:[^()]|\([^()]*\))*\)"
    r"|(?P<link>\](?=\()|^\s*\[[^\[\]]*\](?=:))|(?P<tag><)",
    re.MULTILINE,
)
# With a backtick after it, it is text for CommonMark, and can hold an image. Of what else stands
# there only the language is kept.
FENCE = re.compile(r"^( {0,3}(```|~~~))[ \t]*([\w+#-]*)[^`\n]*$", re.MULTILINE)
# What a parser makes of Markdown that loads something or leads somewhere.
LIVE = {"image", "link_open", "html_inline", "html_block"}
# What begins a block of its own: an item, a heading, a quotation, a row of a table.
ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)]|#{1,6}|>|\|)(?:\s|$|(?<=\|))")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?!\[)")
# Share of a sentence's terms that stand in what it cites: a summary has connecting words of its
# own, and one that tells something else shares few.
SUPPORT = 0.5
SMALL_TALK = re.compile(
    r"\W*(?:(?:hi|hello|hey|good (?:morning|afternoon|evening|day)|thanks|thank you|thx|bye|goodbye"
    r"|ok|okay|great|cheers|there|so much|very much|a lot|how are you|who are you"
    r"|what can you do)\b\W*)+",
    re.IGNORECASE,
)
MAX_TALK = 300
MAX_QUESTION = 2000
SHOWN_WORDS = 6


@dataclass(frozen=True)
class Checked:
    """What is left of an answer.

    Attributes:
        status: answered, refused, or talk, which needs no references.
        text: Markdown without HTML and links.
        references: The passages cited, in the order of their numbers.
        removed: Citations of something that was not retrieved, and sentences that nothing
            retrieved bears out.
    """

    status: Status
    text: str
    references: list[Passage] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def is_small_talk(question: str) -> bool:
    """Whether a message is made of greetings and thanks alone."""
    return bool(SMALL_TALK.fullmatch(question[:MAX_QUESTION]))


def check(answer: str, passages: Sequence[Passage], question: str) -> Checked:
    """Check an answer.

    Args:
        answer: What the model wrote, in Markdown.
        passages: What was retrieved, numbered from 1.
        question: What it answers.
    """
    if len(question) > MAX_QUESTION:
        return refuse(f"the question has {len(question):,} characters; ask it in {MAX_QUESTION:,}")
    if is_small_talk(question) and not passages:
        text = inert(plain(CITATION.sub("", answer)).strip()[:MAX_TALK])
        return Checked("talk", text or "Hello. Ask me something about the documents.")
    if not passages or answer.strip().strip(".*`") == NOTHING:
        return refuse(missing(question, passages))
    removed: list[str] = []
    numbers: dict[int, int] = {}  # of a passage, and in the answer
    kept = [check_block(block, passages, numbers, removed) for block in blocks(answer)]
    if not numbers:
        found = ", ".join(sorted({passage["source"] for passage in passages}))
        reason = f"nothing in the model's answer is borne out by what was found in {found}"
        return refuse(reason, removed)
    references = [passages[number - 1] | {"number": new} for number, new in numbers.items()]
    text = "\n".join(text for text in kept if text is not None)
    text = inert(re.sub(r"\n{3,}", "\n\n", text).strip())
    return Checked("answered", text, references, removed)


def refuse(reason: str, removed: Iterable[str] = ()) -> Checked:
    """Say that there is no answer, and why."""
    return Checked("refused", f"I cannot answer this from the documents: {reason}.", [], [*removed])


def missing(question: str, passages: Sequence[Passage]) -> str:
    """Say what of a question no passage speaks of."""
    known = set(terms(text_of(passages)))
    lacking = dict.fromkeys(
        word for word in WORD.findall(question) if terms(word) and not known & set(terms(word))
    )
    if not lacking:
        return "what they say about it does not answer the question"
    return f"nothing was found there on {', '.join(list(lacking)[:SHOWN_WORDS])}"


def text_of(passages: Iterable[Passage]) -> str:
    """Return what passages and their headings say, with single spaces."""
    return " ".join(
        " ".join(f"{passage['heading']} {passage['text']}".split()) for passage in passages
    )


def is_borne_out(sentence: str, told: str) -> bool:
    """Whether a text says what a sentence does, as far as words can tell.

    Half of its terms stand there, and all of its numbers and of its code.
    """
    own, known = set(terms(sentence)), set(terms(told))
    return (
        len(own & known) >= SUPPORT * len(own)
        and set(NUMBER.findall(sentence)) <= set(NUMBER.findall(told))
        and all(" ".join(code.split()) in told for code in CODE.findall(sentence))
    )


def blocks(answer: str) -> Iterator[list[str]]:
    """Yield the lines of each paragraph, item, row, heading, and fenced block of code.

    A line without text is a block, too.
    """
    block: list[str] = []
    fence = ""
    for line in answer.splitlines():
        mark = FENCE.match(line)
        if fence:
            block.append(line)
            if mark and line.strip() == fence:
                yield block
                block, fence = [], ""
        elif mark or ITEM.match(line) or not line.strip() or (block and not block[0].strip()):
            if block:
                yield block
            block = [line]
            fence = mark[2] if mark else ""
        else:
            block.append(line)
    if block:
        # a fence that nobody closed
        yield [*block, fence] if fence else block


def check_block(
    block: Sequence[str], passages: Sequence[Passage], numbers: dict[int, int], removed: list[str]
) -> str | None:
    """Return what is left of a block, if anything.

    Args:
        block: Its lines.
        passages: What was retrieved.
        numbers: Numbers of the passages in the answer; those that the block is first to cite are
            added.
        removed: What is removed is added.
    """
    if mark := FENCE.match(block[0]):
        told = text_of(passages)
        lacking = [line for line in block[1:-1] if " ".join(line.split()) not in told]
        removed += lacking
        return None if lacking else "\n".join([f"{mark[1]}{mark[3]}", *block[1:]])
    text = "\n".join(block)
    if not text.strip():
        return text
    cited = {
        number for match in CITATION.finditer(text) for number in cited_numbers(match[1], passages)
    }
    told = text_of(
        passage for number, passage in enumerate(passages, 1) if number in (cited or {number})
    )

    def renumber(match: re.Match[str]) -> str:
        valid = cited_numbers(match[1], passages)
        if not valid:
            removed.append(match[0])
        return "".join(f"[{numbers.setdefault(number, len(numbers) + 1)}]" for number in valid)

    kept = []
    for sentence in SENTENCE_END.split(text):
        said = CITATION.sub("", sentence)
        if not is_borne_out(said, told):
            removed.append(sentence)
        # such as: Yes [1]
        elif terms(said) or (re.search(r"\w", said) and CITATION.search(sentence)):
            kept.append(plain(CITATION.sub(renumber, sentence)))
    return " ".join(kept) if kept else None


def cited_numbers(citation: str, passages: Sequence[Passage]) -> list[int]:
    """Return the numbers of the retrieved passages that the inside of a citation names."""
    if citation[0].isdigit() and not re.search(r"[a-z]", citation):
        named = [int(number) for number in re.findall(r"\d{1,6}", citation)]
        return [number for number in named if 1 <= number <= len(passages)]
    file = re.split(r"[#,:\s]", citation, maxsplit=1)[0]
    found = (number for number, passage in enumerate(passages, 1) if passage["source"] == file)
    return [next(found)] if any(passage["source"] == file for passage in passages) else []


def plain(markdown: str) -> str:
    """Take links and images from Markdown, and make text of its tags.

    An address that a model puts together can carry what it has read to whoever owns the address.
    """

    def replace(match: re.Match[str]) -> str:
        if match["link"]:
            return f"{match['link']} "
        return "&lt;" if match["tag"] else match["code"] or match["title"]

    return ACTIVE.sub(replace, markdown)


def inert(markdown: str) -> str:
    """Make text of every bracket and tag, should a link, an image or a tag be left.

    `plain` may take for code what is none, since each link that it removes can hold a backtick.
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 - only few processes need it

    found: dict[str, Any] = {}
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown, found)
    kinds = {each.type for token in tokens for each in (token, *(token.children or ()))}
    if not kinds & LIVE and not found.get("references"):
        return markdown
    # not by backslashes, which one before them would undo
    return markdown.replace("[", "&#91;").replace("<", "&lt;")


def with_references(checked: Checked, model: str) -> str:
    """Return an answer in Markdown with its references and who wrote it."""
    parts = [checked.text]
    if checked.references:
        lines = [
            f"{passage['number']}. `{passage['source']}`: {plain(passage['heading'])}"
            for passage in checked.references
        ]
        parts += ["References:", "\n".join(lines)]
    return inert("\n\n".join([*parts, f"*Answered by {model}.*"]))
