"""Files as chunks."""

import pytest

from common.retrieval.chunks import LIMIT, Chunk, find_files, split, split_all
from inference.errors import RetrievalError


def pieces(source: str, text: str) -> list[tuple[str, str]]:
    return [(chunk.heading, chunk.text) for chunk in split(source, text.encode())]


def test_markdown_is_split_by_headings_which_say_where_it_stands():
    text = "intro\n\n# Guide\n\nfirst\n\n## Set `up`\n\nsecond\n\n### Deep\n\nthird\n\n"
    text += "## Use\n\nlast\n"
    assert pieces("docs/a.md", text) == [
        ("a.md", "intro"),
        ("Guide", "first"),
        ("Guide > Set up", "second"),
        ("Guide > Set up > Deep", "third"),
        ("Guide > Use", "last"),
    ]


@pytest.mark.parametrize("fence", ["```", "~~~~", "   ```"])
def test_a_comment_in_code_is_no_heading(fence):
    code = f"{fence}sh\n# not a heading\n\nrun\n{fence}"
    assert pieces("a.md", f"# Title\n\n{code}\n\nafter\n") == [("Title", f"{code}\n\nafter")]


def test_code_is_never_cut():
    code = "```\n" + "a line of code\n\n" * 200 + "```"
    pipes = "```\n" + "| no | table |\n" * 200 + "```"
    text = f"# Title\n\n{'word ' * 100}\n\n{code}\n\n{pipes}\n\nend\n"
    found = [text for _, text in pieces("a.md", text)]
    assert [piece for piece in found if "code" in piece or "table" in piece] == [code, pipes]


def test_long_tables_are_cut_between_rows_and_each_part_has_the_header():
    header = "| a | b |\n|---|---|\n"
    rows = [f"| {number} | {'word ' * 20}|" for number in range(40)]
    text = f"# Title\n\nintro\n\n{header}" + "\n".join(rows) + "\n\nend\n"
    found = [text for _, text in pieces("a.md", text)]
    assert len(found) > 1
    assert all(piece.count(header) == 1 for piece in found)
    assert [line for piece in found for line in piece.splitlines() if line in rows] == rows
    assert max(map(len, found)) < LIMIT + 100
    assert found[0].startswith("intro\n\n| a | b |")
    assert found[-1].endswith("end")


def test_a_row_longer_than_the_limit_stays_whole():
    header = "| a | b |\n|---|---|\n"
    rows = [f"| {number} | {'word ' * LIMIT}|" for number in range(2)]
    found = pieces("a.md", f"# Title\n\n{header}" + "\n".join(rows) + "\n")
    assert [text for _, text in found] == [header + row for row in rows]


def test_short_tables_stay_whole():
    table = "| a | b |\n|---|---|\n| one | two |"
    assert pieces("a.md", f"# Title\n\n{table}\n\nafter\n") == [("Title", f"{table}\n\nafter")]


def test_long_paragraphs_that_begin_with_a_bar_are_no_tables():
    text = "| " + "word \n" * LIMIT
    assert [text.count("| ") for _, text in pieces("a.md", f"# Title\n\n{text}")] == [1]


def test_what_only_builds_a_guide_is_left_out():
    toctree, code = "```{toctree}\n:hidden:\n\nb\n```", "```sh\nrun\n```"
    text = f"# A\n\n<!-- made by\na script -->\n\ntext\n\n{toctree}\n\n{code}\n"
    assert [found.split() for _, found in pieces("a.md", text)] == [["text", "```sh", "run", "```"]]


def test_long_sections_are_cut_between_paragraphs_and_items():
    paragraphs = "\n\n".join(f"{number} " + "word " * 40 for number in range(20))
    items = "\n".join(f"- item {number} " + "word " * 40 for number in range(20))
    found = pieces("a.md", f"# Title\n\n{paragraphs}\n\n{items}\n")
    assert all(heading == "Title" and len(text) <= LIMIT + 2 for heading, text in found)
    joined = "\n".join(text for _, text in found)
    assert all(f"{number} word" in joined and f"- item {number} " in joined for number in range(20))


def test_nothing_of_a_section_is_lost():
    text = "# A\n\n> quote\n\n1. one\n2. two\n   - nested\n\n[a]: https://b.org\n\n<div>x</div>\n"
    found = " ".join(text for _, text in pieces("a.md", text))
    assert found.split() == text.removeprefix("# A").split()


def test_windows_line_ends_and_a_byte_order_mark():
    assert split("a.md", b"\xef\xbb\xbf# A\r\n\r\ntext\r\n") == [Chunk("a.md", "A", "text")]


def test_python_is_split_by_definitions_with_docstrings_first():
    text = '''"""What the module is for."""

LIMIT = 3


@decorated
def load(path):
    """Load a thing."""
    return path


class Store:
    """Keeps things."""

    size = 1

    def get(self, key):
        """Get one."""
        return key
'''
    assert pieces("src/common/things.py", text) == [
        ("common.things", "What the module is for.\n\nLIMIT = 3"),
        ("common.things > load", "Load a thing.\n\n@decorated\ndef load(path):\n    return path"),
        ("common.things > Store", "Keeps things.\n\nclass Store:\n\n    size = 1"),
        ("common.things > Store > get", "Get one.\n\ndef get(self, key):\n    return key"),
    ]


def test_python_on_one_line():
    assert pieces("a.py", 'def f(): "doc"\n') == [("a > f", 'doc\n\ndef f(): "doc"')]


def test_what_is_not_python_is_read_as_text(caplog):
    assert pieces("old.py", "print 'hello'\n") == [("old.py", "print 'hello'")]
    assert "old.py is read as text" in caplog.text


def test_text_is_split_by_paragraphs():
    long = "word " * 1000
    found = [text for _, text in pieces("notes.txt", f"one\n\ntwo\n\n{long}\n\nend")]
    assert found[0] == "one\n\ntwo"
    assert all(0 < len(text) <= LIMIT for text in found)
    assert " ".join(found).split() == ["one", "two", *["word"] * 1000, "end"]


def test_a_word_longer_than_the_limit_is_cut():
    found = [text for _, text in pieces("notes.txt", "x" * (3 * LIMIT))]
    assert "".join(found) == "x" * (3 * LIMIT)
    assert max(map(len, found)) == LIMIT


@pytest.mark.parametrize("name", ["a.md", "a.py", "a.txt"])
def test_empty_files_have_no_chunks(name):
    assert split(name, b"\n\n") == []


def test_a_file_that_is_not_utf_8_is_named():
    with pytest.raises(RetrievalError, match=r"^a\.md is not UTF-8 .* at byte 2"):
        split("a.md", b"ab\xff")


def test_keywords_are_those_of_their_section(caplog):
    sources = {
        "docs/a.md": b"# A\n\nfirst\n\n## B\n\nsecond\n",
        "docs/keywords.yml": b"docs/a.md#B: other words\ndocs/a.md#C: nothing\n",
    }
    assert [chunk.keywords for chunk in split_all(sources)] == ["", "other words"]
    assert "docs/a.md#C" in caplog.text


def test_keywords_of_another_form_are_refused():
    with pytest.raises(RetrievalError, match=r"docs/keywords\.yml"):
        split_all({"docs/a.md": b"text", "docs/keywords.yml": b"- a list\n"})


def test_files_are_found_below_locations(tmp_path):
    left_out = ("docs/.hidden/c.md", "docs/_static/g.txt", "docs/conf.py", "docs/d.png", "f.md")
    for name in ("docs/a.md", "docs/deep/b.txt", "docs/deep/__init__.py", "e.py", *left_out):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
    assert list(find_files(["docs", "e.py"], tmp_path)) == [
        "docs/a.md",
        "docs/deep/__init__.py",
        "docs/deep/b.txt",
        "e.py",
    ]


@pytest.mark.parametrize("location", ["nothing", "image.png"])
def test_a_location_that_cannot_be_read_is_named(tmp_path, location):
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(RetrievalError, match=f"--location: {location} is neither"):
        find_files([location], tmp_path)
