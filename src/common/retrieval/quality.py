"""How well an index answers: a set of questions, and the threshold of refusal tuned on a part."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import yaml
from pydantic import TypeAdapter, ValidationError

from common import ROOT
from inference.errors import RetrievalError
from inference.schema import Strict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from common.retrieval.index import Index, Passage

QUESTIONS = ROOT / "evals" / "questions.yaml"
# Two of a hundred questions.
SLACK = 0.02


class Question(Strict):
    """A question, and the sections that answer it.

    Attributes:
        question: As a user asks it.
        answered_by: Sections as file#heading, each of which answers it; none if nothing does.
        held_back: Whether it is kept away from tuning.
    """

    question: str
    answered_by: tuple[str, ...] = ()
    held_back: bool = False

    def is_answered(self, passages: Iterable[Passage]) -> bool:
        """Whether one of the passages is of a section that answers it."""
        return not set(self.answered_by).isdisjoint(passage.section for passage in passages)


class Asked(NamedTuple):
    """A question, the passages that were found for it, and how much of it they cover."""

    question: Question
    passages: list[Passage]
    coverage: float


class Quality(NamedTuple):
    """How well an index answers.

    Attributes:
        headers: Of the table.
        table: A figure a line, for the questions tuned on, those held back, and all.
        failures: Each question that was not answered or refused as it should be, and what was done.
    """

    headers: tuple[str, ...]
    table: list[tuple[str, ...]]
    failures: list[tuple[str, str]]


def read_questions(file: Path = QUESTIONS) -> list[Question]:
    """Read a set of questions.

    Raises:
        RetrievalError: It cannot be read, or is not what it should be.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return TypeAdapter(list[Question]).validate_python(content)
    except OSError as error:
        raise RetrievalError(f"{file} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise RetrievalError(f"{file}: {' '.join(str(error).split())}") from error


def applicable(index: Index, questions: Sequence[Question]) -> list[Question]:
    """Leave out the questions whose answers are in other documents than an index has.

    Where none of the answers is in it, nothing is known about what it should refuse either.
    """
    there = {chunk.section for chunk in index.chunks}
    answered = [one for one in questions if not there.isdisjoint(one.answered_by)]
    return [one for one in questions if not one.answered_by or one in answered] if answered else []


def check(index: Index, questions: Sequence[Question], minimum: float) -> tuple[Index, Quality]:
    """Tune the threshold of an index on the questions that are not held back, and measure it.

    Raises:
        RetrievalError: Recall@4 or the share of refusals is smaller than the minimum.
    """
    questions = applicable(index, questions)
    if not questions:
        return index, Quality((), [], [])
    asked = ask(index, questions)
    threshold = calibrate([one for one in asked if not one.question.held_back])
    recall, refused = rates(asked, threshold)
    failures = [
        (one.question.question, describe(one, threshold))
        for one in asked
        if not is_right(one, threshold)
    ]
    if min(recall, refused) < minimum:
        raise RetrievalError(
            f"of {len(questions)} questions the index answers {recall:.0%} of what it should, and"
            f" refuses {refused:.0%} of what it should; --minimum {minimum:g} asks for more. The"
            f" first: {failures[0][0]} ({failures[0][1]})"
        )
    return index.with_threshold(threshold), Quality(
        ("", "tuned on", "held back", "all"), table(index, asked, threshold), failures
    )


def ask(
    index: Index, questions: Sequence[Question], weights: tuple[float, float] | None = None
) -> list[Asked]:
    """Ask all questions at once, and refuse none; weights are those of `Index.rank`."""
    vectors = index.embedder.embed([one.question for one in questions])
    return [
        Asked(one, *index.rank(one.question, vector, weights=weights))
        for one, vector in zip(questions, vectors, strict=True)
    ]


def calibrate(asked: Sequence[Asked]) -> float:
    """Return the coverage below which questions are best refused.

    The best is where the worse of recall and share of refusals is highest. That moves with every
    question; the middle of all that come within SLACK of it hardly does.
    """
    levels = sorted({0.0, *(one.coverage for one in asked), 1.0})
    gaps = [(min(rates(asked, (low + high) / 2)), low, high) for low, high in pairwise(levels)]
    best = max(figure for figure, _, _ in gaps)
    good = [gap for gap in gaps if gap[0] >= best - SLACK]
    return (min(low for _, low, _ in good) + max(high for _, _, high in good)) / 2


def is_right(one: Asked, threshold: float) -> bool:
    """Whether a question was answered from the right section, or rightly refused."""
    if one.coverage < threshold:
        return not one.question.answered_by
    return one.question.is_answered(one.passages)


def describe(one: Asked, threshold: float) -> str:
    """Say what was done with a question."""
    if one.coverage < threshold:
        return "refused"
    return "answered from " + ", ".join(passage.section for passage in one.passages)


def rates(asked: Iterable[Asked], threshold: float) -> tuple[float, float]:
    """Return the recall of what can be answered, and the share of the others that is refused.

    Recall counts the questions with a passage from a section that answers them; a question that is
    refused is not answered.
    """
    results: dict[bool, list[bool]] = {True: [], False: []}
    for one in asked:
        results[bool(one.question.answered_by)].append(is_right(one, threshold))
    recall, refused = (sum(each) / len(each) if each else 1.0 for each in results.values())
    return recall, refused


def table(index: Index, asked: Sequence[Asked], threshold: float) -> list[tuple[str, ...]]:
    """Return the figures of each way to search, and of refusing."""
    parts = [
        [one for one in asked if not one.question.held_back],
        [one for one in asked if one.question.held_back],
        asked,
    ]
    answerable = [[one.question for one in part if one.question.answered_by] for part in parts]
    ways = {"BM25 alone": (1.0, 0.0), "vectors alone": (0.0, 1.0), "both": None}
    lines = [
        (f"recall@4, {name}", [rates(ask(index, part, weights), 0)[0] for part in answerable])
        for name, weights in ways.items()
    ]
    lines += [
        ("recall@4, both, with refusals", [rates(part, threshold)[0] for part in parts]),
        ("refused of what has no answer", [rates(part, threshold)[1] for part in parts]),
    ]
    counts = [
        (
            f"questions with {kind} answer",
            *(str(sum(wanted(one) for one in part)) for part in parts),
        )
        for kind, wanted in (
            ("an", lambda one: bool(one.question.answered_by)),
            ("no", lambda one: not one.question.answered_by),
        )
    ]
    return [*counts, *((name, *(f"{figure:.2f}" for figure in figures)) for name, figures in lines)]
