"""The service's description: valid OpenAPI 3.1, and true of what is read and answered."""

import sys

import jsonschema_rs
import orjson
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from inference import wire
from inference.errors import InvalidRecordsError, MalformedRequestError, RookeryError
from inference.openapi import REFUSALS, describe
from inference.predictor import Predictor
from inference.schema import Category, Number, Schema

MAX_ROWS = 3
POST = "/paths/~1invocations/post"
BODY = f"{POST}/requestBody/content/application~1json/schema"
OF_ALL_KINDS = Schema(
    target="kind",
    classes=("a", "b"),
    features={
        "größe/~%": Number(kind="number"),
        "length, mm": Number(kind="number", range=(-1, 1), unit="mm", required=False),
        'say "x"': Category(kind="category", categories=("true", "é")),
    },
)


@pytest.fixture
def described(schema):
    return describe(schema, "7", MAX_ROWS, protected=False)


@pytest.fixture
def fits(described):
    """Whether a value fits the part of the description that a JSON pointer names."""

    def check(pointer, value):
        part = {"$ref": f"#{pointer}", "components": described["components"]}
        return jsonschema_rs.Draft202012Validator(described | part).is_valid(value)

    return check


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("of_all_kinds", [False, True])
def test_description_is_valid(schema, of_all_kinds, protected):
    table = OF_ALL_KINDS if of_all_kinds else schema
    found = describe(table, "7", MAX_ROWS, protected=protected)
    assert [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(found)] == []
    # it is sent as JSON, and says whether there is a lock
    assert orjson.loads(orjson.dumps(found)) == found
    assert ("security" in found["paths"]["/invocations"]["post"]) is protected


def test_validator_finds_what_is_wrong(described):
    del described["info"]["version"]
    described["paths"]["/ping"]["get"]["responses"]["200"] = {}
    assert len(list(OPENAPI_31_VALIDATOR.iter_errors(described))) == 2


@pytest.mark.parametrize("of_all_kinds", [False, True])
def test_examples_are_read(schema, of_all_kinds):
    table = OF_ALL_KINDS if of_all_kinds else schema
    found = describe(table, "7", MAX_ROWS, protected=False)
    content = found["paths"]["/invocations"]["post"]["requestBody"]["content"]
    shown = {name: entry["value"] for name, entry in content[wire.JSON]["examples"].items()}
    assert shown.keys() == set(wire.FORMATS)
    validator = jsonschema_rs.Draft202012Validator(found | {"$ref": f"#{BODY}"})
    rows = []
    for body in shown.values():
        validator.validate(body)
        rows += table.check(wire.parse(orjson.dumps(body), wire.JSON, table, MAX_ROWS))
    rows += table.check(
        wire.parse(content[wire.CSV]["example"].encode(), wire.CSV, table, MAX_ROWS)
    )
    # one row, in five ways
    assert rows == [rows[0]] * 5
    assert rows[0].keys() == set(table.features)


VALUES = {
    "island": ["Biscoe", "Mars", "é" * 200, "", "x" * 201, None, 3, True, ["Biscoe"]],
    "culmen_length_mm": [10, 10.0, 100, 9.999, 100.001, None, "40", True, {}, 1e300],
}


@pytest.mark.parametrize(
    ("column", "value"), [(column, value) for column in VALUES for value in VALUES[column]]
)
@pytest.mark.parametrize("form", [*wire.FORMATS, "one record"])
def test_description_and_check_agree(fits, schema, record, form, column, value):
    row = record | {column: value}
    body = {
        "dataframe_split": {
            "dataframe_split": {"columns": list(row), "data": [list(row.values())]}
        },
        "one record": {"inputs": row},
    }.get(form, {form: [row]})
    try:
        schema.check(wire.parse(orjson.dumps(body), wire.JSON, schema, MAX_ROWS))
        is_read = True
    except InvalidRecordsError:
        is_read = False
    assert fits(BODY, body) is is_read


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        {"instances": [{}]},
        {"inputs": 3},
        {"inputs": [3]},
        {"columns": []},
        {"inputs": [{"wing": 1}]},
        {"dataframe_records": {}},
        {"dataframe_split": {"columns": [], "data": []}},
        {"dataframe_split": {"columns": ["island"], "data": [["Dream"]]}},
        {"params": {}},
    ],
    ids=str,
)
def test_neither_takes_what_is_no_table(fits, schema, body):
    assert not fits(BODY, body)
    with pytest.raises((InvalidRecordsError, MalformedRequestError)):
        schema.check(wire.parse(orjson.dumps(body), wire.JSON, schema, MAX_ROWS))


@pytest.mark.parametrize("rows", [MAX_ROWS, MAX_ROWS + 1])
def test_rows_are_limited(fits, record, rows):
    assert fits(BODY, {"inputs": [record] * rows}) is (rows == MAX_ROWS)


def test_answers_are_as_described(fits, make_model, record, tmp_path):
    predictor = Predictor.load(make_model(tmp_path / "model"))
    answered = {"predictions": predictor.predict(predictor.check([record, dict.fromkeys(record)]))}
    pointer = f"{POST}/responses/200/content/application~1json/schema"
    assert fits(pointer, orjson.loads(orjson.dumps(answered)))
    answered["predictions"][0]["prediction"] = "Emperor"
    assert not fits(pointer, answered)


def every_error(kind=RookeryError):
    yield kind
    for below in kind.__subclasses__():
        yield from every_error(below)


def test_errors_are_as_described(fits, schema):
    with pytest.raises(InvalidRecordsError) as caught:
        schema.check([3, {"wing": 1}, *[dict.fromkeys(schema.features, True)] * 30])
    found = [caught.value, *(kind("why") for kind in every_error() if kind != InvalidRecordsError)]
    assert {str(error.status) for error in found} == REFUSALS.keys()
    for error in found:
        pointer = f"{POST}/responses/{error.status}/content/application~1json/schema"
        assert fits(pointer, orjson.loads(orjson.dumps(error.answer())))
    assert not fits("/components/schemas/Error", {"detail": "why"})


def test_parquet_is_described_where_it_is_read(schema, monkeypatch):
    def kinds():
        found = describe(schema, "7", MAX_ROWS, protected=False)
        return list(found["paths"]["/invocations"]["post"]["requestBody"]["content"])

    assert kinds() == [wire.JSON, wire.CSV, wire.PARQUET]
    # what Python notes of a package that is not there
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert kinds() == [wire.JSON, wire.CSV]
