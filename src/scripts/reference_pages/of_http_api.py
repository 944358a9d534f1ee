"""The service, by its own description for the example's table."""

import json
from collections.abc import Sequence
from typing import Any

from common import ROOT, settings
from inference import errors, openapi
from inference.limits import Limits
from scripts.reference_pages.markdown import code, page, table

EXAMPLE = ROOT / "config" / "local.yml"

Json = dict[str, Any]


def http_api_page() -> str:
    """Describe the service for the example's table, from its own description."""
    schema = settings.load(EXAMPLE).dataset.schema
    described = openapi.describe(schema, "1", Limits().max_rows, protected=True)
    paths = [
        [code(f"{method.upper()} {path}"), operation["summary"], ", ".join(operation["responses"])]
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    post = described["paths"]["/invocations"]["post"]
    answers = [[status, told["description"]] for status, told in post["responses"].items()]
    parts = [
        (
            "What the server answers, for the penguins of"
            " [config/local.yml](../../config/local.yml); `GET /openapi.json` describes a running"
            f" one for its own table, in OpenAPI {described['openapi']}."
            f" {described['info']['description']}"
        ),
        "## Paths",
        table(["request", "what it is", "statuses"], paths),
        "## POST /invocations",
        "Where `SERVING_TOKEN` is set, a request carries it as `Authorization: Bearer …`.",
        table(
            ["header", "meaning"],
            [[code(one["name"]), one["description"] + "."] for one in post["parameters"]],
        ),
        "### What a request may be",
        *request_parts(post["requestBody"]["content"]),
        "### A row",
        record_table(described["components"]["schemas"]["Record"]),
        "### What is answered",
        table(["status", "when"], answers),
        "A prediction holds the class, its probability, and those of all classes:",
        json_block(example_of_answer(schema.classes)),
        (
            "The headers `X-Request-Id` and `X-Model-Version` name the request and the version that"
            " answered."
        ),
        "### What a refusal says",
        (
            f"`problems` is there for status 422: the first {errors.SHOWN_PROBLEMS} values that do"
            " not fit. The codes are those of the [error family](errors.md)."
        ),
        json_block(errors.InvalidRecordsError([example_of_problem()]).answer()),
    ]
    return page("HTTP API", *parts)


def request_parts(content: Json) -> list[str]:
    """Show each format that is read, with an example."""
    parts = []
    for kind, body in content.items():
        parts.append(f"`{kind}`")
        for name, one in body.get("examples", {}).items():
            parts += [f"`{name}`:", json_block(one["value"])]
        if text := body.get("example"):
            parts += [body["schema"]["description"] + ":", f"```text\n{text.strip()}\n```"]
        elif "examples" not in body:
            parts.append("A table with the same columns, as a file of Parquet.")
    return parts


def json_block(value: object) -> str:
    """Show a value as JSON."""
    return f"```json\n{json.dumps(value, ensure_ascii=False)}\n```"


def record_table(schema: Json) -> str:
    """Make the table of a row's columns."""
    rows = [
        [code(name), one["description"], "required" if name in schema["required"] else ""]
        for name, one in schema["properties"].items()
    ]
    return table(["column", "value", "in a record"], rows)


def example_of_answer(classes: Sequence[str]) -> Json:
    """Return an answer to a request of one row."""
    probabilities = dict.fromkeys(classes, 0.05) | {classes[0]: 1 - 0.05 * (len(classes) - 1)}
    first = {"prediction": classes[0], "confidence": probabilities[classes[0]]}
    return {"predictions": [first | {"probabilities": probabilities}]}


def example_of_problem() -> Json:
    """Return a value that does not fit."""
    expected = "expected a number from 10 to 100 mm, or null"
    return {"row": 0, "column": "culmen_length_mm", "value": 422, "expected": expected}
