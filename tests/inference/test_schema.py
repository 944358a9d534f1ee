"""What a schema accepts, what it refuses and how it says so, and the arrays it makes."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.errors import InvalidRecordsError
from inference.schema import MAX_NUMBER, MISSING_TEXTS, Schema, to_records

LENGTH = "culmen_length_mm"
LENGTH_EXPECTED = "expected a number from 10 to 100 mm, or null"
TEXT_EXPECTED = "expected text of 1 to 200 characters, or null"
# Names that are no Python names, and a feature of each sort.
ODD = Schema.model_validate(
    {
        "target": "цель",
        "classes": ["yes", "no"],
        "features": {
            "body mass (g)": {"kind": "number"},
            "größe": {"kind": "number", "range": [0, 1e30]},
            "class": {"kind": "category", "categories": ["a b", "ü"]},
            "note": {"kind": "category", "categories": ["x"], "required": False},
        },
    }
)
ODD_RECORD = {"body mass (g)": -1.5, "größe": 2.0, "class": "ü", "note": None}


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def refused(schema, records):
    with pytest.raises(InvalidRecordsError) as caught:
        schema.check(records)
    return caught.value


@pytest.mark.parametrize("value", [10, 100, 39, 39.5, None])
def test_number_in_range_is_accepted(schema, record, value):
    [checked] = schema.check([record | {LENGTH: value}])
    assert checked[LENGTH] == value
    assert type(checked[LENGTH]) in (float, type(None))


@pytest.mark.parametrize("value", ["Dream", "Atlantis", "x" * 200, " ", None])
def test_any_short_text_is_a_category(schema, record, value):
    assert schema.check([record | {"island": value}])[0]["island"] == value


@pytest.mark.parametrize(
    ("column", "value", "shown", "expected"),
    [
        (LENGTH, "39.5", "39.5", LENGTH_EXPECTED),
        (LENGTH, "", "", LENGTH_EXPECTED),
        (LENGTH, True, True, LENGTH_EXPECTED),
        (LENGTH, math.nan, "nan", LENGTH_EXPECTED),
        (LENGTH, math.inf, "inf", LENGTH_EXPECTED),
        (LENGTH, -math.inf, "-inf", LENGTH_EXPECTED),
        (LENGTH, 9.99, 9.99, LENGTH_EXPECTED),
        (LENGTH, 101, 101, LENGTH_EXPECTED),
        (LENGTH, 1e300, "1e+300", LENGTH_EXPECTED),
        (LENGTH, [39.5], "[39.5]", LENGTH_EXPECTED),
        (LENGTH, {"a": 1}, "{'a': 1}", LENGTH_EXPECTED),
        ("island", "", "", TEXT_EXPECTED),
        ("island", "x" * 201, "x" * 200, TEXT_EXPECTED),
        ("island", 3, 3, TEXT_EXPECTED),
        ("island", False, False, TEXT_EXPECTED),
        ("island", ["Dream"], "['Dream']", TEXT_EXPECTED),
    ],
)
def test_value_that_does_not_fit(schema, record, column, value, shown, expected):
    error = refused(schema, [record, record | {column: value}])
    assert error.problems == [{"row": 1, "column": column, "value": shown, "expected": expected}]
    assert str(error).startswith(f"row 1, column {column!r}: {expected}, not ")


@pytest.mark.parametrize("column", [LENGTH, "island"])
@pytest.mark.parametrize(
    "value",
    [10**30, 10**400, 10**5000, -(10**5000), nested(5000)],
    ids=["10**30", "10**400", "10**5000", "-10**5000", "nested"],
)
def test_value_that_is_too_large_to_show(schema, record, column, value):
    [problem] = refused(schema, [record | {column: value}]).problems
    assert (problem["row"], problem["column"]) == (0, column)
    assert isinstance(problem["value"], str)
    assert len(problem["value"]) <= 200


def test_missing_column_is_not_null(schema, record):
    lacking = {name: value for name, value in record.items() if name != "sex"}
    assert schema.check([lacking | {"sex": None}]) == [lacking | {"sex": None}]
    assert refused(schema, [lacking]).problems == [
        {"row": 0, "column": "sex", "expected": "required column is missing"}
    ]


def test_optional_column_may_be_missing():
    lacking = {name: value for name, value in ODD_RECORD.items() if name != "note"}
    assert ODD.check([lacking, ODD_RECORD]) == [lacking, ODD_RECORD]
    assert ODD.columns([lacking])["note"].tolist() == [[""]]


@pytest.mark.parametrize("key", ["colour", "Island", "", "x" * 500, 7])
def test_unknown_column(schema, record, key):
    [problem] = refused(schema, [record | {key: 1}]).problems
    assert problem["row"] == 0
    assert problem["column"] == str(key)[:200]
    assert problem["expected"].startswith("unknown column; known are island, culmen_length_mm")


@pytest.mark.parametrize(
    ("records", "row"), [([3], 0), (["a"], 0), ([None], 0), ([[]], 0), ("abc", "all"), ({}, "all")]
)
def test_what_is_no_record(schema, records, row):
    assert refused(schema, records).problems == [
        {"row": row, "expected": "expected an object with one value a column"}
    ]


def test_every_problem_is_told_and_the_answer_shows_the_first(schema, record):
    error = refused(schema, [record | {LENGTH: "x"}] * 30 + [record])
    assert [problem["row"] for problem in error.problems] == list(range(30))
    answer = error.answer()["error"]
    assert answer["code"] == "invalid_records"
    assert answer["message"].endswith(", not 'x' (and 29 more)")
    assert answer["problems"] == error.problems[:20]


def some_refused(schema, records, most=20):
    with pytest.raises(InvalidRecordsError) as caught:
        schema.check_some(records, most)
    return caught.value


def test_of_many_problems_some_are_told(schema, record):
    """A body of 30 KB can hold 10,000 rows in which every column is missing."""
    error = some_refused(schema, [record, *[{}] * 10_000])
    found = len(error.problems)
    assert 20 <= found < 2_000
    assert error.problems == refused(schema, [record, *[{}] * (found // 6)]).problems
    looked_at = found // 6 + 1
    message = f"(and {found - 1} more); rows from {looked_at} on were not looked at"
    assert error.answer()["error"]["message"].endswith(message)


@pytest.mark.parametrize("bad", [[5000], [9999], [0, 166, 167, 168, 334, 9999]])
def test_of_few_problems_all_are_told(schema, record, bad):
    records = [record] * 10_000
    for row in bad:
        records[row] = record | {LENGTH: "x"}
    error = some_refused(schema, records)
    assert error.problems == refused(schema, records).problems
    assert [problem["row"] for problem in error.problems] == bad
    assert str(error) == str(refused(schema, records))


@pytest.mark.parametrize("rows", [0, 1, 166, 167, 168, 1000])
def test_some_or_all_that_fits_is_the_same(schema, record, rows):
    records = [record | {LENGTH: 10 + number % 90} for number in range(rows)]
    assert schema.check_some(records, 20) == schema.check(records) == records


def test_unseen_categories_are_counted(schema, record):
    records = schema.check(
        [record | {"island": i} for i in ("Dream", "Mars", "Mars", None)] + [record | {"sex": "?"}]
    )
    assert schema.count_unseen(records) == {"island": 2, "sex": 1}
    assert schema.count_unseen([record]) == {}


def test_columns(schema, record):
    columns = schema.columns(schema.check([record, dict.fromkeys(record)]))
    assert list(columns) == list(record)
    assert columns["island"].tolist() == [["Biscoe"], [""]]
    assert columns["island"].dtype == object
    assert columns[LENGTH].dtype == np.float32
    np.testing.assert_array_equal(columns[LENGTH], np.float32([[48.5], [np.nan]]))


@settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.lists(
        st.fixed_dictionaries(
            dict.fromkeys(
                ("body mass (g)", "größe"),
                st.none()
                | st.floats()
                | st.integers(-10, 10)
                | st.integers()
                | st.sampled_from([MAX_NUMBER, -MAX_NUMBER, 10**5000, True, "1"]),
            )
            | {"class": st.none() | st.text() | st.sampled_from(["ü", "\0", 1])},
            optional={"note": st.none() | st.text(max_size=3)},
        ),
        max_size=5,
    )
)
def test_what_is_accepted_becomes_finite_numbers(records):
    try:
        checked = ODD.check(records)
    except InvalidRecordsError as error:
        assert error.problems  # noqa: PT017 - either outcome is right, neither may raise anything else
        return
    columns = ODD.columns(checked)
    for name, column in columns.items():
        assert column.shape == (len(records), 1)
        for given_record, value in zip(records, column[:, 0], strict=True):
            if name in ODD.numbers:
                missing = given_record[name] is None
                assert math.isnan(value) if missing else math.isfinite(value)
            else:
                assert value == (given_record.get(name) or "")


def test_schema_survives_its_file(tmp_path):
    path = tmp_path / "schema.json"
    ODD.write(path)
    again = Schema.read(path)
    assert again == ODD
    assert again.hash == ODD.hash
    assert again.check([ODD_RECORD]) == [ODD_RECORD]


def test_schema_of_a_model_from_before_placeholders(tmp_path):
    """Its cells stay what they were: what pandas reads as missing."""
    path = tmp_path / "schema.json"
    content = json.loads(ODD.model_dump_json())
    del content["placeholders"]
    path.write_text(json.dumps(content))
    again = Schema.read(path)
    assert again == ODD
    assert again.placeholders == MISSING_TEXTS


def test_placeholders_survive_their_file(tmp_path):
    path = tmp_path / "schema.json"
    own = Schema.model_validate(ODD.model_dump() | {"placeholders": ["-", "?"]})
    own.write(path)
    assert Schema.read(path) == own
    assert Schema.read(path).hash == own.hash != ODD.hash


def test_missing_cells():
    """A category is one, whatever else it may mean; a blank cell never is."""
    content = ODD.model_dump() | {"placeholders": ["-", "x", "ü"]}
    content["features"]["note"]["categories"] = ["x", ""]
    schema = Schema.model_validate(content)
    assert schema.missing_cells == {
        "body mass (g)": {"", "-", "x", "ü"},
        "größe": {"", "-", "x", "ü"},
        "class": {"", "-", "x"},
        "note": {"", "-", "ü"},
    }


def test_hash_is_of_the_content(schema):
    content = schema.model_dump()
    assert Schema.model_validate(content).hash == schema.hash
    content["features"][LENGTH]["range"] = (10, 101)
    assert Schema.model_validate(content).hash != schema.hash


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"target": "size"}, "target 'size' is among the features"),
        ({"classes": ["a", "b", "a"]}, "hold a class twice"),
        ({"classes": ["a"]}, "at least 2 items"),
        ({"features": {}}, "at least 1 item"),
        ({"features": {"size": {"kind": "number", "range": [5, 5]}}}, "from low to high"),
        ({"features": {"size": {"kind": "number", "range": [0, math.inf]}}}, "range"),
        ({"features": {"size": {"kind": "number", "range": [math.nan, 1]}}}, "range"),
        ({"features": {"size": {"kind": "number", "range": [0, 1e300]}}}, "range"),
        ({"features": {"size": {"kind": "date"}}}, "'number', 'category'"),
        ({"features": {"size": {"kind": "category", "categories": []}}}, "at least 1 item"),
        ({"colour": 1}, "Extra inputs are not permitted"),
    ],
)
def test_description_that_makes_no_sense(change, problem):
    content = {"target": "t", "classes": ["a", "b"], "features": {"size": {"kind": "number"}}}
    with pytest.raises(ValidationError, match=problem):
        Schema.model_validate(content | change)


def test_table_becomes_records(schema, record):
    table = pd.DataFrame([record, dict.fromkeys(record)]).astype({LENGTH: "Float64"})
    assert schema.check(to_records(table)) == [record, dict.fromkeys(record)]
    assert to_records([record]) == [record]
