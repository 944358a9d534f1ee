"""Request bodies in every format that is read, and in none."""

import csv
import io
import json
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import inference
from inference.errors import (
    InvalidRecordsError,
    MalformedRequestError,
    TooLargeError,
    UnsupportedFormatError,
)
from inference.schema import Schema
from inference.wire import PARQUET, number, parse

MAX_ROWS = 5
REFUSALS = (InvalidRecordsError, MalformedRequestError, TooLargeError, UnsupportedFormatError)
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
        {"dataframe_split": {"columns": NAMES, "data": ROWS, "index": [0, "b", None]}},
        {"dataframe_split": {"columns": NAMES, "data": ROWS, "index": None}},
        {"dataframe_records": RECORDS, "params": {"temperature": 1}},
    ],
    ids="-".join,
)
def test_formats_of_json(schema, content):
    assert read(schema, as_json(content)) == RECORDS


def test_byte_order_mark(schema):
    assert read(schema, b"\xef\xbb\xbf" + as_json({"inputs": RECORDS})) == RECORDS


def test_last_of_equal_keys_counts(schema):
    """As for Python's own reader, and for the browsers'."""
    body = b'{"inputs": [{"island": "Dream", "island": "Mars"}]}'
    assert read(schema, body) == [{"island": "Mars"}]


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
        '\n\nisland,culmen_length_mm\n"Dream","39.5"\n\nMars, \n"",4e1\n\n',
        ",island,culmen_length_mm\n7,Dream,39.5\n8,Mars,\n9,,40\n",
    ],
    ids=["plain", "other order", "byte order mark", "CRLF", "quotes and blank lines", "index"],
)
def test_csv(schema, text):
    assert read(schema, text.encode(), "text/csv") == RECORDS


def test_csv_keeps_what_is_in_quotes(schema):
    text = io.StringIO()
    cells = ["a,b", 'say "x"', "two\nlines", "next\u2028line", "größe"]
    csv.writer(text).writerows([["island"], *([cell] for cell in cells)])
    records = read(schema, text.getvalue().encode(), "text/csv")
    assert [record["island"] for record in records] == cells


def test_csv_is_read_as_the_table_is(schema):
    """Cells without the spaces around them, and missing where the project says so."""
    own = Schema.model_validate(schema.model_dump() | {"placeholders": ["-", "Dream"]})
    body = "island,culmen_length_mm\n Biscoe\t,-\n - , \u00a039.5\nDream,Dream\nNA,NA\n"
    assert [list(row.values()) for row in read(own, body.encode(), "text/csv")] == [
        ["Biscoe", None],
        [None, 39.5],
        # a category is one, whatever else it may mean
        ["Dream", None],
        ["NA", "NA"],
    ]


def test_json_is_what_its_client_meant(schema):
    records = [{"island": " Biscoe"}, {"island": "?"}, {"island": ""}]
    assert read(schema, as_json({"inputs": records})) == records


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
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1]], "index": []}}', "one label a row"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1]], "index": 1}}', "one label a row"),
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
        (b"island,sex\nDream,MALE\n  \n", "row 1: expected 2 values"),
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
@pytest.mark.parametrize("kind", ["records", "split", "columns", "csv", "parquet"])
def test_too_many_rows(schema, record, kind, rows):
    body = {
        "records": as_json({"dataframe_records": [{"island": "Dream"}] * rows}),
        "split": as_json({"dataframe_split": {"columns": ["island"], "data": [["Dream"]] * rows}}),
        "columns": as_json({"inputs": {"island": ["Dream"] * rows}}),
        "csv": b"island\n" + b"Dream\n" * rows,
        "parquet": as_parquet(pa.Table.from_pylist([record] * rows)),
    }[kind]
    content_type = {"csv": "text/csv", "parquet": PARQUET}.get(kind, "application/json")
    if rows > MAX_ROWS:
        with pytest.raises(TooLargeError, match=str(MAX_ROWS)):
            read(schema, body, content_type)
    else:
        assert len(read(schema, body, content_type)) == rows


@pytest.mark.parametrize("kind", ["records", "split", "columns", "one record", "csv"])
def test_wide_records_are_cut(schema, kind):
    """Nobody wants to hear of thousands of unknown columns one by one."""
    names = [f"wing {number}" for number in range(20_000)]
    body = {
        "records": as_json({"inputs": [dict.fromkeys(names)]}),
        "split": as_json({"dataframe_split": {"columns": names, "data": [[1] * len(names)]}}),
        "columns": as_json({"inputs": {name: [1] for name in names}}),
        "one record": as_json({"inputs": dict.fromkeys(names)}),
        "csv": (",".join(names) + "\n" + "," * (len(names) - 1)).encode(),
    }[kind]
    [cut] = read(schema, body, "text/csv" if kind == "csv" else "application/json")
    # enough to be refused
    assert list(cut) == names[: len(schema.features) + 1]


def as_parquet(table, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


@pytest.fixture
def table(record):
    """Two penguins; the second knows nothing of itself."""
    return pa.Table.from_pylist([record, dict.fromkeys(record)])


@pytest.fixture
def parquet(schema):
    """Read a Parquet body, or a table as one, into records."""

    def parse_body(content, **options):
        body = as_parquet(content, **options) if isinstance(content, pa.Table) else content
        return read(schema, body, PARQUET)

    return parse_body


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "none"},
        {"compression": "gzip"},
        {"compression": "zstd"},
        {"use_dictionary": False},
        {"row_group_size": 1},
        {"version": "1.0"},
        {"data_page_version": "2.0"},
        {"write_page_checksum": True},
    ],
    ids=str,
)
def test_parquet(parquet, table, record, options):
    assert parquet(table, **options) == [record, dict.fromkeys(record)]
    assert parquet(table.select(sorted(record)), **options) == [record, dict.fromkeys(record)]


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("body_mass_g", pa.array([4850, None], pa.int64()), [4850, None]),
        ("body_mass_g", pa.array([4850.0, float("nan")]), [4850.0, None]),
        ("body_mass_g", pa.array([np.float16(4848), None]), [4848.0, None]),
        ("body_mass_g", pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
        ("body_mass_g", pa.nulls(2), [None, None]),
        ("body_mass_g", pa.array([True, None]), [True, None]),
        ("island", pa.array(["größe", None]), ["größe", None]),
        ("island", pa.array(["Dream", None], pa.large_string()), ["Dream", None]),
        ("island", pa.array(["Dream", None], pa.string_view()), ["Dream", None]),
        ("island", pa.array(["Dream", None]).dictionary_encode(), ["Dream", None]),
        ("island", pa.array(["NaN", ""]), ["NaN", ""]),
        ("island", pa.array([float("nan"), None]), [None, None]),
        ("island", pa.array([3, None]), [3, None]),
    ],
    ids=str,
)
def test_values_of_parquet(parquet, table, column, values, expected):
    found = parquet(table.drop_columns(column).append_column(column, values))
    assert [row[column] for row in found] == expected
    assert [type(row[column]) for row in found] == [type(value) for value in expected]


def test_index_of_a_data_frame_is_no_column(schema, record):
    frame = pd.DataFrame([record] * 3, index=[7, 8, 9])
    csv_body, parquet_body = frame.to_csv().encode(), frame.to_parquet()
    assert b"__index_level_0__" in parquet_body
    assert read(schema, csv_body, "text/csv") == [record] * 3
    assert read(schema, parquet_body, PARQUET) == [record] * 3


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("ns", "Nowhere/Land"),
        pa.date32(),
        pa.decimal128(5, 2),
        pa.binary(),
        pa.list_(pa.string()),
        pa.struct([("a", pa.int64())]),
    ],
    ids=str,
)
@pytest.mark.parametrize("column", ["island", "body_mass_g"])
def test_types_of_parquet_that_are_not_read(parquet, table, column, kind):
    with pytest.raises(InvalidRecordsError, match=column) as caught:
        parquet(table.drop_columns(column).append_column(column, pa.nulls(2, kind)))
    assert (
        caught.value.problems[0]["value"].split("<")[0]
        == str(pa.schema([("a", kind)])[0].type).split("<")[0]
    )


def test_columns_of_parquet(parquet, table):
    with pytest.raises(InvalidRecordsError, match="'sex': required column is missing"):
        parquet(table.drop_columns("sex"))
    with pytest.raises(InvalidRecordsError, match="'wing': unknown column"):
        parquet(table.append_column("wing", pa.nulls(2)))
    with pytest.raises(MalformedRequestError, match="names a column twice"):
        parquet(table.append_column("sex", pa.nulls(2)))
    many = {f"wing {number}": pa.nulls(1) for number in range(1000)}
    with pytest.raises(InvalidRecordsError) as caught:
        parquet(pa.table(many))
    assert len(caught.value.problems) < 20


def test_parquet_that_unpacks_to_much(parquet, table):
    long = pa.array(["x" * 30_000_000, "y" * 30_000_000])
    body = as_parquet(table.drop_columns("sex").append_column("sex", long))
    assert len(body) < 5_000_000
    with pytest.raises(TooLargeError, match="50000000 bytes"):
        parquet(body)


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_parquet_whose_texts_are_parts_of_others(parquet, table, encoding):
    with pytest.raises(MalformedRequestError, match="encoding that is not read"):
        parquet(table, use_dictionary=False, column_encoding={"sex": encoding})


def test_text_that_stands_in_every_row_is_unpacked_once(parquet, table):
    text = "x" * 100_000
    column = pa.array([text, text]).dictionary_encode()
    first, second = parquet(table.drop_columns("sex").append_column("sex", column))
    assert first["sex"] == text
    assert first["sex"] is second["sex"]


def test_damaged_parquet(parquet, table, record):
    whole = as_parquet(table, write_page_checksum=True)
    for body in (
        b"",
        b"PAR1",
        b"PAR1PAR1",
        b"a,b\n1,2\n",
        whole[:-1],
        whole[1:],
        whole[:50],
    ):
        with pytest.raises(MalformedRequestError, match="not Parquet, is damaged"):
            parquet(body)
    for place in range(0, len(whole), 7):
        body = bytearray(whole)
        body[place] ^= 0x55
        try:
            rows = parquet(bytes(body))
        except REFUSALS:
            continue
        # some bits say nothing of the table, and there is no checksum over them
        assert len(rows) == 2


def test_parquet_where_it_cannot_be_read(parquet, table, monkeypatch):
    # what Python notes of a package that is not there
    monkeypatch.delitem(sys.modules, "inference.parquet", raising=False)
    monkeypatch.delattr(inference, "parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    body = as_parquet(table)
    with pytest.raises(UnsupportedFormatError, match="pyarrow is missing"):
        parquet(body)


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
