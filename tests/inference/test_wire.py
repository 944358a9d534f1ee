"""Request bodies in every format that is read, and in none."""

import csv
import io
import json

import pytest

from inference.errors import MalformedRequestError, TooLargeError, UnsupportedFormatError
from inference.wire import number, parse

MAX_ROWS = 5
NAMES = ["island", "culmen_length_mm"]
ROWS = [["Dream", 39.5], ["Mars", None], [None, 40]]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
COLUMNS = {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}


def read(schema, body, content_type="application/json"):
    return parse(body, content_type, schema, MAX_ROWS)


def as_json(content):
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "content",
    [
        {"dataframe_records": RECORDS},
        {"inputs": RECORDS},
        {"instances": RECORDS},
        {"inputs": COLUMNS},
        {"instances": COLUMNS},
        {"dataframe_split": {"columns": NAMES, "data": ROWS}},
        {"dataframe_split": {"columns": NAMES, "data": ROWS, "index": [0, 1, 2]}},
        {"dataframe_records": RECORDS, "params": {"temperature": 1}},
    ],
    ids="-".join,
)
def test_formats_of_json(schema, content):
    assert read(schema, as_json(content)) == RECORDS


@pytest.mark.parametrize("name", ["inputs", "instances"])
def test_one_record_needs_no_list(schema, name):
    assert read(schema, as_json({name: RECORDS[0]})) == RECORDS[:1]


@pytest.mark.parametrize(
    "text",
    [
        "island,culmen_length_mm\nDream,39.5\nMars,\n,40\n",
        "culmen_length_mm,island\n39.5,Dream\n,Mars\n40,\n",
        "\ufeffisland,culmen_length_mm\nDream,39.5\nMars,\n,40\n",
        "island,culmen_length_mm\r\nDream,39.5\r\nMars,\r\n,40",
        'island,culmen_length_mm\n"Dream","39.5"\n\nMars, \n"",4e1\n\n',
    ],
    ids=["plain", "other order", "byte order mark", "CRLF", "quotes and blank lines"],
)
def test_csv(schema, text):
    assert read(schema, text.encode(), "text/csv") == RECORDS


def test_csv_keeps_what_is_in_quotes(schema):
    text = io.StringIO()
    cells = ["a,b", 'say "x"', "two\nlines", "next\u2028line", "größe"]
    csv.writer(text).writerows([["island"], *([cell] for cell in cells)])
    records = read(schema, text.getvalue().encode(), "text/csv")
    assert [record["island"] for record in records] == cells


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        'application/json; charset="UTF-8"',
        "application/json; charset=utf8",
    ],
)
def test_content_type(schema, content_type):
    assert read(schema, as_json({"inputs": RECORDS}), content_type) == RECORDS


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "text/csv; charset=utf-16",
    ],
)
def test_content_type_that_is_not_read(schema, content_type):
    with pytest.raises(UnsupportedFormatError):
        read(schema, as_json({"inputs": RECORDS}), content_type)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"not JSON", "not JSON"),
        (b'{"inputs": [{"island": "Dre', "not JSON"),
        (b'{"inputs": [{"culmen_length_mm": NaN}]}', "not JSON"),
        (b'{"inputs": [{"culmen_length_mm": Infinity}]}', "not JSON"),
        (b'{"inputs": [{"island": "\xff"}]}', "not JSON"),
        (b'{"inputs": [{"island": "\\ud800"}]}', "not JSON"),
        (b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b"[]", "expected a JSON object with one of inputs, instances"),
        (b"3", "expected a JSON object"),
        (b"{}", "expected exactly one of inputs"),
        (b'{"inputs": [], "instances": []}', "expected exactly one of inputs"),
        (b'{"inputs": [], "colour": 1}', "unknown: colour"),
        (b'{"params": {}}', "expected exactly one of inputs"),
        (b'{"inputs": 3}', "inputs must be a list of records, or lists by column"),
        (b'{"inputs": null}', "inputs must be a list of records, or lists by column"),
        (b'{"inputs": {"a": [1, 2], "b": [1]}}', "inputs: the columns differ in length"),
        (b'{"dataframe_records": {"a": [1]}}', "dataframe_records must be a list"),
        (b'{"dataframe_split": []}', "dataframe_split must be an object"),
        (b'{"dataframe_split": {"data": [[1]]}}', "columns must be a list of names"),
        (b'{"dataframe_split": {"columns": [1], "data": []}}', "columns must be a list of names"),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": []}}', "names a column twice"),
        (b'{"dataframe_split": {"columns": ["a"]}}', "data must be a list of rows"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1], [1, 2]]}}', "row 1: expected 1"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [3]}}', "row 0: expected 1"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [], "x": 1}}', "must be an object"),
        (b'{"inputs": []}', "holds no rows"),
        (b'{"inputs": {}}', "holds no rows"),
        (b'{"inputs": {"island": []}}', "holds no rows"),
        (b'{"dataframe_split": {"columns": ["a"], "data": []}}', "holds no rows"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_malformed_json(schema, body, problem):
    with pytest.raises(MalformedRequestError, match=problem) as caught:
        read(schema, body)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "holds no rows"),
        (b"island\n", "holds no rows"),
        (b"island,island\nDream,Dream\n", "names a column twice"),
        (b"island,sex\nDream,MALE\nDream\n", "row 1: expected 2 values"),
        (b"island,sex\nDream,MALE,1\n", "row 0: expected 2 values"),
        (b'island\n"Dream\n', "not CSV"),
        (b'island\n"Dream"x\n', "not CSV"),
        (b"island\n" + b"x" * 200_000, "not CSV"),
        ("island\nGrößer".encode("latin-1"), "not UTF-8"),
        ("island\nDream".encode("utf-16"), "not UTF-8"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_malformed_csv(schema, body, problem):
    with pytest.raises(MalformedRequestError, match=problem):
        read(schema, body, "text/csv")


@pytest.mark.parametrize("rows", [MAX_ROWS, MAX_ROWS + 1])
@pytest.mark.parametrize("kind", ["records", "split", "columns", "csv"])
def test_too_many_rows(schema, kind, rows):
    body = {
        "records": as_json({"dataframe_records": [{"island": "Dream"}] * rows}),
        "split": as_json({"dataframe_split": {"columns": ["island"], "data": [["Dream"]] * rows}}),
        "columns": as_json({"inputs": {"island": ["Dream"] * rows}}),
        "csv": b"island\n" + b"Dream\n" * rows,
    }[kind]
    content_type = "text/csv" if kind == "csv" else "application/json"
    if rows > MAX_ROWS:
        with pytest.raises(TooLargeError, match=str(MAX_ROWS)):
            read(schema, body, content_type)
    else:
        assert len(read(schema, body, content_type)) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("39.5", 39.5),
        (" 1e3 ", 1000.0),
        ("-0", 0.0),
        ("", None),
        ("  ", None),
        ("x", "x"),
        ("1,5", "1,5"),
        ("0x10", "0x10"),
        # Python reads these as numbers, the tools that people make tables with do not
        ("1_000", "1_000"),
        ("١٢", "١٢"),
    ],
)
def test_number(text, expected):
    assert number(text) == expected
