"""The service's description in OpenAPI 3.1, for the table of the live model."""

import csv
import io
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from pydantic import TypeAdapter

from inference import wire
from inference.errors import SHOWN_PROBLEMS
from inference.schema import MAX_TEXT, Feature, Schema

Json = dict[str, Any]

REQUEST_ID = {"type": "string", "pattern": r"^[A-Za-z0-9_.:-]{1,64}$"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "problems": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": SHOWN_PROBLEMS,
                    "items": {
                        "type": "object",
                        "required": ["row", "expected"],
                        "additionalProperties": False,
                        "properties": {
                            "row": {"type": "integer", "minimum": 0},
                            "column": {"type": "string", "maxLength": MAX_TEXT},
                            "value": {"type": ["boolean", "number", "string"]},
                            "expected": {"type": "string"},
                        },
                    },
                },
            },
        }
    },
}
REFUSALS = {
    "400": "Not in a format that is read",
    "401": "No valid token",
    "413": "Too many bytes or rows",
    "415": "A content type, charset or encoding that is not read",
    "422": "Records that do not fit: each with row, column, value and what was expected",
    "500": "The service failed",
    "503": "Not now: no model is loaded, or too many requests wait",
}


def describe(schema: Schema, version: str, max_rows: int, *, protected: bool) -> Json:
    """Describe every endpoint.

    Args:
        schema: The live model's.
        version: Its number.
        max_rows: Most rows in a request.
        protected: Whether /invocations asks for a token.
    """
    described: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Predictions of {schema.target}",
            "version": version,
            "description": "A prediction is answered once its record is stored.",
        },
        "paths": {
            "/invocations": {"post": invocations(schema, max_rows)},
            "/ping": {"get": health("Whether a model is loaded")},
            "/health": {"get": health("The same as /ping")},
            "/version": {"get": told("What is live", reference("Version"))},
            "/metrics": {
                "get": {
                    "summary": "Counts of all workers, in Prometheus' form",
                    "responses": {"200": answer("Counts", {"type": "string"}, "text/plain")},
                }
            },
            "/openapi.json": {"get": told("This description", {"type": "object"})},
        },
        "components": {
            "schemas": {
                "Record": record(schema),
                "Prediction": prediction(schema),
                "Version": texts("model_version", "run_id", "engine", "schema_hash"),
                "Error": ERROR,
            }
        },
    }
    if protected:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["paths"]["/invocations"]["post"]["security"] = [{"token": []}]
    return described


def invocations(schema: Schema, max_rows: int) -> Json:
    """Describe the endpoint for predictions."""
    rows = {"minItems": 1, "maxItems": max_rows}
    return {
        "summary": "Predict rows of the table",
        "parameters": [
            {
                "name": "X-Request-Id",
                "in": "header",
                "description": "Names the request in its answer, in the log, and in what is"
                " captured; what is not letters, digits and _.:-, at most 64, is replaced",
                "schema": {"type": "string"},
            }
        ],
        "requestBody": {"required": True, "content": bodies(schema, rows)},
        "responses": {
            "200": answer(
                "One prediction a row, in their order",
                {
                    "type": "object",
                    "required": ["predictions"],
                    "additionalProperties": False,
                    "properties": {
                        "predictions": {"type": "array", "items": reference("Prediction"), **rows}
                    },
                },
                headers={"X-Request-Id": REQUEST_ID, "X-Model-Version": {"type": "string"}},
            ),
            **{status: refusal(why) for status, why in REFUSALS.items()},
        },
    }


def bodies(schema: Schema, rows: Json) -> Json:
    """Describe the formats that are read, each with an example.

    Args:
        schema: The live model's.
        rows: How many rows there may be, as keywords for an array.
    """
    sample = {name: example(feature) for name, feature in schema.features.items()}
    records = {"type": "array", "items": reference("Record"), **rows}
    either = {"anyOf": [records, reference("Record")]}
    split = {"columns": list(sample), "data": [list(sample.values())]}
    forms = {
        "dataframe_records": (records, [sample]),
        "dataframe_split": (columns_and_data(schema, rows), split),
        "inputs": (either, [sample]),
        "instances": (either, sample),
    }
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([sample, sample.values()])
    found = {
        wire.JSON: {
            "schema": {"oneOf": [form(name, content) for name, (content, _) in forms.items()]},
            "examples": {name: {"value": {name: value}} for name, (_, value) in forms.items()},
        },
        wire.CSV: {
            "schema": {
                "type": "string",
                "description": "A header and at least one row, their columns in any order",
            },
            "example": table.getvalue(),
        },
    }
    if find_spec("pyarrow"):
        found[wire.PARQUET] = {"schema": {"type": "string", "format": "binary"}}
    return found


def form(name: str, content: Json) -> Json:
    """Describe one way to put rows into JSON."""
    return {
        "type": "object",
        "required": [name],
        "additionalProperties": False,
        "properties": {
            name: content,
            "params": {"description": "Taken and not used, for clients of MLflow's server"},
        },
    }


def columns_and_data(schema: Schema, rows: Json) -> Json:
    """Describe the content of `dataframe_split`."""
    values = list(record(schema)["properties"].values())
    return {
        "type": "object",
        "required": ["columns", "data"],
        "additionalProperties": False,
        "description": "Any order of the columns is read, and an index with one label a row",
        "properties": {
            "columns": {"const": list(schema.features)},
            "data": {
                "type": "array",
                "items": {
                    "type": "array",
                    "prefixItems": values,
                    "items": False,
                    "minItems": len(values),
                },
                **rows,
            },
        },
    }


def record(schema: Schema) -> Json:
    """Describe one row."""
    described = TypeAdapter(schema.record_type).json_schema()
    for name, feature in schema.features.items():
        described["properties"][name]["description"] = feature.expected
    return described


def example(feature: Feature) -> float | str:
    """Return a value that a feature takes."""
    if feature.kind == "category":
        return feature.categories[0]
    return sum(feature.range) / 2 if feature.range else 1.0


def prediction(schema: Schema) -> Json:
    """Describe the prediction of one row."""
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    return {
        "type": "object",
        "required": ["prediction", "confidence", "probabilities"],
        "additionalProperties": False,
        "properties": {
            "prediction": {"enum": list(schema.classes)},
            "confidence": probability,
            "probabilities": {
                "type": "object",
                "required": list(schema.classes),
                "additionalProperties": False,
                "properties": dict.fromkeys(schema.classes, probability),
            },
        },
    }


def health(summary: str) -> Json:
    """Describe an endpoint that answers with its status alone."""
    responses = {"200": {"description": "It is"}, "503": {"description": "It is not"}}
    return {"summary": summary, "responses": responses}


def told(summary: str, schema: Json) -> Json:
    """Describe an endpoint that tells of the live model."""
    responses = {"200": answer(summary, schema), "503": refusal("No model is loaded yet")}
    return {"summary": summary, "responses": responses}


def answer(
    description: str,
    schema: Json,
    media_type: str = wire.JSON,
    headers: Mapping[str, Json] | None = None,
) -> Json:
    """Describe an answer."""
    described: Json = {"description": description, "content": {media_type: {"schema": schema}}}
    if headers:
        described["headers"] = {name: {"schema": kind} for name, kind in headers.items()}
    return described


def refusal(why: str) -> Json:
    """Describe an answer that says why there is no other."""
    return answer(why, reference("Error"))


def texts(*names: str) -> Json:
    """Describe an object of texts."""
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "required": list(names), "properties": properties}


def reference(name: str) -> Json:
    """Refer to a component."""
    return {"$ref": f"#/components/schemas/{name}"}
