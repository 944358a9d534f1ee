"""The question set, and what the index must make of it."""

import pytest

from common import ROOT
from common.retrieval import Index, quality
from common.retrieval.index import Passage
from common.retrieval.quality import Asked, Question, calibrate, rates
from common.retrieval.storage import LOCATIONS, read_sources
from inference.errors import RetrievalError

GATE = 0.9


@pytest.fixture(scope="module")
def questions():
    return quality.read_questions()


@pytest.fixture(scope="module")
def index():
    """An index of this project's documents, before its threshold is tuned."""
    return Index.build(read_sources(LOCATIONS))[0]


@pytest.fixture(scope="module")
def tuned(index, questions):
    return quality.check(index, questions, minimum=0)[0]


def part(questions, *, held_back: bool, answerable: bool) -> list[Question]:
    return [
        one
        for one in questions
        if bool(one.answered_by) is answerable and (one.held_back or not held_back)
    ]


def test_the_question_set_is_large_and_a_third_is_held_back(questions):
    for answerable, least in ((True, 40), (False, 20)):
        every = part(questions, held_back=False, answerable=answerable)
        held = part(questions, held_back=True, answerable=answerable)
        assert len(every) >= least
        assert len(held) / len(every) == pytest.approx(1 / 3, abs=0.02)
    assert len({one.question for one in questions}) == len(questions)


def test_every_section_that_answers_a_question_is_there(index, questions):
    there = {chunk.section for chunk in index.chunks}
    named = {section for one in questions for section in one.answered_by}
    assert named - there == set()


def test_keywords_are_of_sections_that_are_there(caplog):
    Index.build(read_sources(LOCATIONS))
    assert "which is not there" not in caplog.text


@pytest.mark.parametrize("held_back", [False, True], ids=["all", "held back"])
class TestGate:
    def test_what_the_documents_answer_is_found(self, tuned, questions, held_back):
        asked = part(questions, held_back=held_back, answerable=True)
        right = [one for one in asked if one.is_answered(tuned.search(one.question, count=4))]
        missed = [one.question for one in asked if one not in right]
        assert len(right) / len(asked) >= GATE, missed

    def test_what_they_do_not_answer_is_refused(self, tuned, questions, held_back):
        asked = part(questions, held_back=held_back, answerable=False)
        answered = [one.question for one in asked if tuned.search(one.question)]
        assert 1 - len(answered) / len(asked) >= GATE, answered


def test_questions_that_are_held_back_do_not_tune(index, questions):
    tuning = [one for one in questions if not one.held_back]
    with_them, _ = quality.check(index, questions, minimum=0)
    without_them, _ = quality.check(index, tuning, minimum=0)
    assert (
        with_them.manifest.threshold == without_them.manifest.threshold != index.manifest.threshold
    )


def test_the_table_says_what_was_measured(index, questions):
    _, found = quality.check(index, questions, minimum=0)
    lines = {name: figures for name, *figures in found.table}
    counts = [part(questions, held_back=held, answerable=True) for held in (True, False)]
    assert lines["questions with an answer"][1:] == [str(len(each)) for each in counts]
    assert all(0 <= float(figure) <= 1 for figure in lines["recall@4, both, with refusals"])
    assert set(dict(found.failures)) <= {one.question for one in questions}


def test_an_index_that_answers_too_little_is_refused(index):
    wrong = [
        Question(question="What is the capital of France?", answered_by=("README.md#Recipes",))
    ]
    with pytest.raises(RetrievalError, match=r"answers 0% .* capital of France\? \(") as caught:
        quality.check(index, wrong, minimum=0.5)
    assert "\n" not in str(caught.value)


def test_an_index_of_other_documents_is_not_checked(questions):
    index, _ = Index.build({"other/a.md": b"# A\n\ntext\n"}, ("other",))
    same, found = quality.check(index, questions, minimum=1)
    assert (same, found.table) == (index, [])


def test_a_passage_answers_for_its_own_section_alone():
    question = Question(question="?", answered_by=("a.md#A",))
    assert question.is_answered([Passage("a.md", "A", "text", 1)])
    assert not question.is_answered([Passage("a.md", "A > B", "text", 1)])


def asked(coverage: float, *, answerable: bool) -> Asked:
    passage = Passage("a.md", "A", "text", 1)
    question = Question(question="?", answered_by=("a.md#A",) if answerable else ())
    return Asked(question, [passage], coverage)


def test_the_threshold_lies_between_answers_and_refusals():
    every = [asked(0.9, answerable=True), asked(0.7, answerable=True), asked(0.3, answerable=False)]
    assert calibrate(every) == pytest.approx(0.5)
    assert rates(every, 0.5) == (1, 1)
    assert rates(every, 0.8) == (0.5, 1)
    assert rates(every, 0.2) == (1, 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("- quest: x\n", "question"), ("- [", "yaml"), ("- question: x\n  held: true\n", "held")],
)
def test_a_question_set_of_another_form_is_refused(tmp_path, text, reason):
    (tmp_path / "yaml.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RetrievalError, match=reason) as caught:
        quality.read_questions(tmp_path / "yaml.yaml")
    assert "\n" not in str(caught.value)


def test_a_question_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RetrievalError, match="cannot be read"):
        quality.read_questions(tmp_path / "none.yaml")


def test_the_set_lies_where_the_documents_say():
    assert ROOT / "evals" / "questions.yaml" == quality.QUESTIONS
