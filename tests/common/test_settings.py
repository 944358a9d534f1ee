"""The config file: variables, keys, types, places; and the files that ship."""

import json
import os

import pytest
import yaml

from common import ROOT, settings
from inference.errors import ConfigurationError
from inference.local import Local
from scripts.tables import TABLES

MINIMAL = {
    "project": "boats",
    "dataset": {
        "path": "data/boats.csv",
        "target": "kind",
        "classes": ["canoe", "ferry"],
        "features": {
            "length": {"kind": "number", "range": [1, 400], "unit": "m"},
            "hull": {"kind": "category", "categories": ["steel", "wood"]},
        },
    },
    "mlflow_tracking_uri": "sqlite:///mlflow.db",
    "backend": {"module": "backend.Local", "database": "a/b.db", "serving": "serving"},
}
# What a variable must look like.
SET = {
    "AWS_REGION": "us-east-1",
    "BUCKET": "some-bucket",
    "SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/sagemaker",
}
CONFIGS = sorted((ROOT / "config").glob("*.yml"))


def changed(key, value):
    """The minimal configuration with one value changed: `changed("backend.workers", 2)`."""
    content = json.loads(json.dumps(MINIMAL))
    *path, last = key.split(".")
    place = content
    for part in path:
        place = place.setdefault(part, {})
    place[last] = value
    return content


def parse(content):
    return settings.parse(yaml.safe_dump(content, allow_unicode=True), "my.yml")


@pytest.fixture
def variables(monkeypatch):
    """Set the variables that the tests expand, and make sure that ABSENT is not set."""
    monkeypatch.setenv("NAME", "boats")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)


def test_minimal():
    parsed = parse(MINIMAL)
    assert parsed.project == "boats"
    assert parsed.dataset.schema.numbers == ("length",)
    assert parsed.dataset.max_rejected == 0.05
    assert parsed.logging.level == "INFO"


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$NAME", "boats"),
        ("${NAME}", "boats"),
        ("${NAME:-x}", "boats"),
        ("${ABSENT:-x y/z}", "x y/z"),
        ("${EMPTY:-x}", "x"),
        ("${ABSENT:-}", ""),
        ("a-${NAME}/$NAME.db", "a-boats/boats.db"),
        ("5 $ and 6$", "5 $ and 6$"),
        ("plain", "plain"),
        (7, 7),
        (None, None),
    ],
)
def test_variables_are_expanded(text, expected):
    assert settings.expand(text, "key", "my.yml") == expected
    nested = {"a": [{"b": text}], "c": text}
    assert settings.expand(nested, "", "my.yml") == {"a": [{"b": expected}], "c": expected}


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("text", ["$ABSENT", "${ABSENT}", "x-${ABSENT}-y", "${EMPTY}"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mlflow_tracking_uri", lambda text: text),
        ("backend.database", lambda text: text),
        ("dataset.classes.1", lambda text: ["canoe", text]),
    ],
)
def test_variable_that_is_not_set(text, key, value):
    name = "EMPTY" if "EMPTY" in text else "ABSENT"
    content = changed(key.removesuffix(".1"), value(text))
    with pytest.raises(ConfigurationError) as caught:
        parse(content)
    assert str(caught.value).startswith(f"my.yml: {key} needs the environment variable {name},")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("colour", 1, "colour: unknown key (known: project, dataset, mlflow_tracking_uri,"),
        ("dataset.colour", 1, "dataset.colour: unknown key (known: target, classes, features,"),
        ("logging.colour", 1, "logging.colour: unknown key (known: level)"),
        ("dataset.features.hull.colour", 1, "dataset.features.hull.category.colour: unknown key"),
        ("backend.colour", 1, "backend.colour: Extra inputs are not permitted (backend.Local"),
        ("project", 5, "project: should be a valid string, not '5'"),
        ("project", "two words", "project: String should match pattern"),
        ("dataset", [], "dataset: should be a valid dictionary"),
        ("dataset.classes", "canoe", "dataset.classes: should be a valid tuple, not 'canoe'"),
        ("dataset.classes", [True, False], "dataset.classes.0: should be a valid string, not"),
        ("dataset.max_rejected", 2, "dataset.max_rejected: should be less than or equal to 1"),
        ("dataset.target", "hull", "dataset: target 'hull' is among the features"),
        ("dataset.features.hull.kind", "text", "dataset.features.hull: "),
        ("dataset.features.length.range", [5, 1], "dataset.features.length.number: range"),
        ("dataset.features.length.range", [1], "dataset.features.length.number.range.1: required"),
        ("network.layers", ["many"], "network.layers.0: should be a valid integer"),
        ("network.learning_rate", 0, "network.learning_rate: should be greater than 0, not '0'"),
        ("logging.level", "LOUD", "logging.level: should be 'DEBUG', 'INFO'"),
        ("backend", "backend.Local", "backend: should be a valid dictionary"),
        ("backend.module", None, "backend: the key module must name a backend"),
        ("backend.module", 1.5, "backend: the key module must name a backend"),
        ("backend.module", "Local", "backend: the key module must name a backend"),
        ("backend.module", "backend.Nowhere", "backend 'backend.Nowhere': there is no such"),
        ("backend.database", 5, "backend.database: Input is not a valid path"),
        ("backend.serving", None, "backend.serving: Input is not a valid path"),
        ("backend.workers", "two", "backend.workers: should be a valid integer"),
        ("backend.target", "localhost", "backend.target: expected http://HOST:PORT, not 'local"),
    ],
)
def test_wrong_setting(key, value, problem):
    with pytest.raises(ConfigurationError) as caught:
        parse(changed(key, value))
    assert str(caught.value).startswith(f"my.yml: {problem}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["project", "dataset", "mlflow_tracking_uri", "backend"])
def test_missing_setting(key):
    content = {name: value for name, value in MINIMAL.items() if name != key}
    with pytest.raises(ConfigurationError, match=f"my.yml: {key}: required key is missing"):
        parse(content)


def test_every_wrong_setting_is_told():
    content = changed("project", 5) | {"colour": 1}
    with pytest.raises(ConfigurationError, match=r"project: .*; colour: unknown key"):
        parse(content)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected keys and values"),
        ("- a\n- b\n", "expected keys and values"),
        ("just words", "expected keys and values"),
        ("a: [1, 2", "not YAML"),
        ("a: 1\n b: 2", "not YAML"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("a: 2025-13-45", "not YAML"),
        ("a: \x07", "not YAML"),
    ],
)
def test_text_that_is_no_config(text, problem):
    with pytest.raises(ConfigurationError, match=f"my.yml: {problem}") as caught:
        settings.parse(text, "my.yml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "größe".encode("latin-1")])
def test_file_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "my.yml"
    if content:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"my\.yml: cannot be read"):
        settings.load(path)


def test_places_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = parse(MINIMAL)
    backend = parsed.create_backend()
    assert isinstance(backend, Local)
    assert backend.settings.database == ROOT / "a" / "b.db"
    assert backend.settings.serving == ROOT / "serving"
    assert parsed.tracking_uri == f"sqlite:///{ROOT / 'mlflow.db'}"
    assert settings.load().project == "penguins"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////var/mlflow.db", "sqlite:////var/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://db/runs", "postgresql://db/runs"),
    ],
)
def test_tracking_uri_that_is_absolute(uri, expected):
    assert parse(changed("mlflow_tracking_uri", uri)).tracking_uri == expected


def test_absolute_places_stay(tmp_path):
    parsed = parse(changed("backend.database", str(tmp_path / "x.db")))
    assert parsed.create_backend().settings.database == tmp_path / "x.db"


def test_another_backend_than_the_configured_one():
    parsed = parse(MINIMAL)
    assert type(parsed.create_backend("inference.local.Local")) is Local
    with pytest.raises(ConfigurationError, match="no such class"):
        parsed.create_backend("backend.Nowhere")


def test_settings_survive_metaflow(monkeypatch):
    """Metaflow keeps them as JSON, with the variables already replaced."""
    monkeypatch.setenv("NAME", "boats")
    text = yaml.safe_dump(changed("project", "$NAME"))
    kept = json.loads(json.dumps(settings.parse_for_metaflow(text)))
    monkeypatch.delenv("NAME")
    assert settings.Settings.model_validate(kept) == settings.parse(yaml.safe_dump(MINIMAL), "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x.py", "run"], "config/local.yml"),
        (["x.py", "--config", "project", "my.yml", "run"], "my.yml"),
        (["x.py", "--config", "other", "my.yml", "run"], "config/local.yml"),
        (["x.py", "--config-value", "project", "{}", "run"], "--config-value project"),
    ],
)
def test_source_of_a_flows_settings(arguments, expected):
    assert settings.config_source(arguments) == expected


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_config_file_that_ships(path, monkeypatch):
    text = path.read_text(encoding="utf-8")
    for match in settings.VARIABLE.finditer(text):
        if match[1]:
            continue
        name, has_default = match[2] or match[3], match[4] is not None
        if has_default:
            monkeypatch.delenv(name, raising=False)
        elif not os.environ.get(name):
            monkeypatch.setenv(name, SET.get(name, "set-by-the-test"))
    parsed = settings.load(path)
    shows_other_table = path.stem in TABLES
    assert parsed.project == (path.stem if shows_other_table else "penguins")
    assert shows_other_table or (ROOT / parsed.dataset.path).is_file()


def test_local_is_what_the_readme_says(monkeypatch):
    for name in ("ENDPOINT_URL", "MLFLOW_TRACKING_URI", "ROOKERY_STATE"):
        monkeypatch.delenv(name, raising=False)
    parsed = settings.load()
    local = parsed.create_backend().settings
    assert parsed.dataset.classes == ("Adelie", "Chinstrap", "Gentoo")
    assert parsed.tracking_uri == f"sqlite:///{ROOT / 'mlflow.db'}"
    assert local.target == "http://127.0.0.1:8080"
    assert local.database == ROOT / ".rookery" / "captured.db"


def test_config_file_extends_another(tmp_path):
    base = tmp_path / "base.yml"
    base.write_text(yaml.safe_dump(MINIMAL | {"project": "base"}))
    text = yaml.safe_dump({"extends": str(base), "logging": {"level": "DEBUG"}})

    parsed = settings.parse(text, "own.yml")

    assert parsed.project == "base"
    assert parsed.logging.level == "DEBUG"
    # a key that both have is this file's as a whole
    own = {"extends": str(base), "backend": MINIMAL["backend"], "project": "own"}
    assert settings.parse(yaml.safe_dump(own), "own.yml").project == "own"


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        (None, "base.yml: cannot be read"),
        ("[]", "base.yml: expected keys and values"),
        ("extends: other.yml", "own.yml: .*base.yml extends another file itself"),
    ],
)
def test_config_file_that_cannot_be_extended(tmp_path, base, problem):
    path = tmp_path / "base.yml"
    if base is not None:
        path.write_text(base)
    with pytest.raises(ConfigurationError, match=problem):
        settings.parse(f"extends: {path}", "own.yml")
    with pytest.raises(ConfigurationError, match=r"own\.yml: extends: expected the path"):
        settings.parse("extends: [3]", "own.yml")
