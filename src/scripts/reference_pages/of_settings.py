"""Every key of a config file: value, default and meaning."""

import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from common import settings
from inference.errors import ConfigurationError
from inference.local import LocalSettings
from inference.sagemaker import SagemakerSettings
from inference.schema import Category, Number
from scripts.reference_pages.markdown import NO_TEXT, code, page, prose, table

Json = dict[str, Any]


def settings_page() -> str:
    """Describe every key of a config file."""
    parts = [
        (
            "What a config file may say: [config/local.yml](../../config/local.yml) is an example."
            " A key that is not here stops every command, with its name and the names that are"
            " known. Besides these, `extends` names a config file whose sections hold where this"
            " one has none. `$VAR`, `${VAR}` and `${VAR:-default}` are replaced by"
            " [environment variables](environment.md); `$$` stands for `$`."
        ),
    ]
    for title, model in sections().items():
        parts += [f"## {title}", *introduction(model), settings_table(model)]
    return page("Settings", *parts)


def sections() -> dict[str, type[BaseModel]]:
    """Return the models of a config file's sections by their headings."""
    found: dict[str, type[BaseModel]] = {"The whole file": settings.Settings}
    for name, field in settings.Settings.model_fields.items():
        if models := models_in(field.annotation):
            found[name] = models[0]
        if name == "dataset":
            found |= {"dataset.features: numbers": Number, "dataset.features: categories": Category}
        if name == "backend":
            found["backend: backend.Local"] = LocalSettings
            found["backend: backend.Sagemaker"] = SagemakerSettings
            for key, value in SagemakerSettings.model_fields.items():
                if models := models_in(value.annotation):
                    found[f"backend.{key}"] = models[0]
    return found


def models_in(annotation: object) -> list[type[BaseModel]]:
    """Return the models of an annotation such as `Model | None`."""
    parts = getattr(annotation, "__args__", (annotation,))
    return [one for one in parts if isinstance(one, type) and issubclass(one, BaseModel)]


def introduction(model: type[BaseModel]) -> list[str]:
    """Return the paragraphs of a model's docstring, without its attributes."""
    text = inspect.cleandoc(model.__doc__ or "").split("Attributes:")[0].strip()
    return [prose(" ".join(part.split())) for part in text.split("\n\n")] if text else []


def settings_table(model: type[BaseModel]) -> str:
    """Make the table of a model's keys."""
    schema = model.model_json_schema()
    texts = descriptions(model)
    rows = []
    for name, field in model.model_fields.items():
        kind = describe_type(schema["properties"][name])
        rows.append([code(name), kind, default(field), describe(model, name, field, texts)])
    return table(["key", "value", "default", "meaning"], rows)


def describe(model: type[BaseModel], name: str, field: FieldInfo, texts: Mapping[str, str]) -> str:
    """Say what a key means: as its model says, or as the model of its value says.

    Raises:
        ConfigurationError: Neither says anything.
    """
    if name in texts:
        return prose(texts[name])
    if models := models_in(field.annotation):
        return introduction(models[0])[0]
    if name == "kind":
        return "Which kind of feature it is."
    raise ConfigurationError(
        f"{model.__name__}.{name} has no line below Attributes: in a docstring"
    )


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and its bases say of its attributes."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        _, _, text = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        for entry in re.split(r"\n    (?=\w)", "\n" + text)[1:]:
            name, _, meaning = entry.partition(": ")
            found[name] = " ".join(meaning.split())
    return found


def default(field: FieldInfo) -> str:
    """Say what holds where a key is left out."""
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        made = field.default_factory()  # type: ignore[call-arg] - none of ours takes the data
        # what depends on the machine stands in the key's description
        return NO_TEXT if isinstance(made, int) else yaml_of(made)
    return "its own defaults" if isinstance(field.default, BaseModel) else yaml_of(field.default)


def yaml_of(value: object) -> str:
    """Write a value as a config file would."""
    return code(json.dumps(value, ensure_ascii=False))


def describe_type(schema: Json) -> str:
    """Say in words what a JSON schema allows."""
    if options := schema.get("anyOf"):
        return " or ".join(describe_type(option) for option in options)
    if "$ref" in schema or "discriminator" in schema:
        return "keys and values"
    if values := schema.get("enum") or ("const" in schema and [schema["const"]]):
        return " or ".join(map(code, values))
    kind = str(schema.get("type", "value"))
    if kind == "array":
        if inner := schema.get("prefixItems"):
            return f"list of {len(inner)} {describe_type(inner[0])}s"
        return f"list of {describe_type(schema['items'])}".replace("integer", "integers")
    words = {"object": "keys and values", "string": "text", "boolean": "true or false"}
    text: str = words.get(kind, kind)
    if schema.get("format") == "path":
        text = "path"
    if pattern := schema.get("pattern"):
        text += f" like {code(pattern)}"
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return f"{text} {' and '.join(limits)}".rstrip()
