import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigurationError
from scripts import aws_files
from scripts.aws_files import Edit

VALUES = {"A": "1", "B": "two"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "A=1\nB=two\n"),
        ("X=9\n", "X=9\nA=1\nB=two\n"),
        ("X=9", "X=9\nA=1\nB=two\n"),
        ("# mine\n\nA=\nX='9 9' # why\n", "# mine\n\nA=1\nX='9 9' # why\nB=two\n"),
        ("A=1\nexport B='two'\n", "A=1\nexport B='two'\n"),
        ("A=0\nX=1\nA=2\n", "A=1\nX=1\nA=1\nB=two\n"),
    ],
)
def test_variables_are_set_and_other_lines_stay(text, expected):
    assert aws_files.set_variables(text, VALUES) == expected
    assert aws_files.set_variables(expected, VALUES) == expected


def test_variables_are_dropped_where_they_have_the_value():
    text = "# mine\nA=1\n\nB=other\nC=3\n"
    assert aws_files.drop_variables(text, {**VALUES, "C": None}) == "# mine\n\nB=other\n"


LINES = st.lists(st.sampled_from(["X=1", "# A=1", "Y='a b'", "", "Z=  2 # x", "export W=3"]))


@given(LINES)
def test_what_was_set_can_be_dropped_without_a_trace(lines):
    text = "".join(f"{line}\n" for line in lines)
    assert aws_files.drop_variables(aws_files.set_variables(text, VALUES), dict(VALUES)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "[me]\na = 1\nb = 2\n"),
        ("[default]\nx=1\n", "[default]\nx=1\n\n[me]\na = 1\nb = 2\n"),
        ("[default]\nx=1", "[default]\nx=1\n\n[me]\na = 1\nb = 2\n"),
        (
            "[me]\n# note\na=0\noutput = json\n\n[other]\na=5\n",
            "[me]\nb = 2\n# note\na = 1\noutput = json\n\n[other]\na=5\n",
        ),
        ("[me]\na=1\nb=2\n", "[me]\na=1\nb=2\n"),
        ("[ me ]\ns3 =\n  a = 7\na = 1\nb = 2\n", "[ me ]\ns3 =\n  a = 7\na = 1\nb = 2\n"),
    ],
)
def test_keys_of_a_section_are_set_and_other_lines_stay(text, expected):
    values = {"a": "1", "b": "2"}
    assert aws_files.set_section(text, "me", values) == expected
    assert aws_files.set_section(expected, "me", values) == expected
    assert aws_files.section(expected, "me").items() >= values.items()


def test_a_section_goes_with_its_last_key():
    text = "[default]\nx=1\n\n[other]\ny=2\n"
    ours = aws_files.set_section(text, "me", {"a": "1"})
    assert aws_files.drop_section(ours, "me", ["a"]) == text
    kept = aws_files.set_section(text, "other", {"a": "1"})
    assert aws_files.drop_section(kept, "other", ["a"]) == text


def test_no_file_is_changed_where_one_cannot_be(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("before")
    edits = [Edit.open(good).to("after"), Edit.open(bad).to("after")]
    # a folder stands in the way, since the files were read
    bad.mkdir()
    with pytest.raises(ConfigurationError, match=r"bad.*; no file was changed"):
        aws_files.commit(edits)
    assert good.read_text() == "before"
    assert {file.name for file in tmp_path.iterdir()} == {"good", "bad"}


def test_a_file_is_kept_as_it_was_before_the_first_change(tmp_path):
    file = tmp_path / "file"
    file.write_text("first")
    aws_files.commit([Edit.open(file).to("second")])
    aws_files.commit([Edit.open(file).to("third")])
    assert Edit.open(file).original() == "first"
    assert file.read_text() == "third"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before")
    link.symlink_to(file)
    aws_files.commit([Edit.open(link).to("after")])
    assert link.is_symlink()
    assert file.read_text() == "after"


def test_a_place_that_cannot_be_written_is_found_at_once(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        Edit.open(tmp_path / "file" / "below")


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_json_that_is_no_object_is_refused(tmp_path, text):
    file = tmp_path / "file"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="JSON"):
        aws_files.set_keys(Edit.open(file), VALUES)
