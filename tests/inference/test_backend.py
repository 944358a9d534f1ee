"""Names and settings become backends, and answers become rows to store."""

import json
import re
import sys

import pytest

from inference.backend import (
    Backend,
    Captured,
    backend_class,
    create_backend,
    settings_from_environment,
)
from inference.errors import ConfigurationError
from inference.local import Local

PLACES = {"database": "a.db", "serving": "serving"}
PREDICTION = {"prediction": "ü", "confidence": 0.75, "probabilities": {"ü": 0.75, "b": 0.25}}


@pytest.mark.parametrize("name", ["backend.Local", "inference.local.Local"])
def test_name_of_a_backend(name):
    assert backend_class(name) is Local


def test_backend_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_backend.py").write_text(
        "from inference.local import Local\nclass Mine(Local):\n    pass\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    created = create_backend("my_backend.Mine", PLACES)
    monkeypatch.delitem(sys.modules, "my_backend")
    assert type(created).__name__ == "Mine"
    assert isinstance(created, Backend)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "Local",
        "backend.",
        "backend.Lokal",
        "backend.local",
        "backend.Local.More",
        ".local.Local",
        "inference.local.Lokal",
        "no_such_module.Local",
    ],
)
def test_name_of_nothing(name):
    with pytest.raises(ConfigurationError, match=re.escape(f"backend {name!r}: there is no such")):
        backend_class(name)


@pytest.mark.parametrize("name", ["inference.schema.Schema", "inference.labels.read_label_file"])
def test_name_of_something_else(name):
    with pytest.raises(ConfigurationError, match="not a subclass of Backend"):
        backend_class(name)


def test_name_of_the_interface():
    with pytest.raises(ConfigurationError, match="does not implement deploy, invoke, label"):
        create_backend("backend.Backend", {})


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "backend.database: Field required"),
        (PLACES | {"databse": 1}, "backend.databse: Extra inputs are not permitted"),
        (PLACES | {"workers": 0}, "backend.workers: should be greater than 0"),
        (PLACES | {"workers": "two"}, "backend.workers: should be a valid integer"),
        (PLACES | {"capture_sync": "off"}, "backend.capture_sync: should be 'normal' or"),
        (PLACES | {"target": "https://A:1"}, "backend.target: expected http://HOST:PORT, not 'htt"),
        (PLACES | {"target": "http://a"}, "backend.target: expected http://HOST:PORT, not 'http"),
        (PLACES | {"target": "http://a:x"}, "backend.target: "),
        (PLACES | {"target": "http://a:99999"}, "backend.target: "),
        (PLACES | {"target": "8080"}, "backend.target: expected http://HOST:PORT, not '8080'"),
    ],
)
def test_setting_that_is_wrong(settings, problem):
    with pytest.raises(ConfigurationError) as caught:
        create_backend("backend.Local", settings)
    assert str(caught.value).startswith(problem)
    assert "backend.Local takes capture_sync, " in str(caught.value)
    assert ", database, serving, target, workers" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_of_the_environment(monkeypatch):
    monkeypatch.delenv("MODEL_BACKEND_CONFIG", raising=False)
    assert settings_from_environment() == {}
    monkeypatch.setenv("MODEL_BACKEND_CONFIG", json.dumps(PLACES))
    assert settings_from_environment() == PLACES


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_settings_that_are_no_object(monkeypatch, text):
    monkeypatch.setenv("MODEL_BACKEND_CONFIG", text)
    with pytest.raises(ConfigurationError, match="MODEL_BACKEND_CONFIG"):
        settings_from_environment()


def test_rows_of_an_answer():
    records = [{"größe": 1.5, "b": None}, {"größe": None, "b": "x"}]
    rows = Captured.from_answer("request", "7", records, [PREDICTION] * 2)
    assert [json.loads(row.features) for row in rows] == records
    assert [(row.request_id, row.row, row.model_version) for row in rows] == [
        ("request", 0, "7"),
        ("request", 1, "7"),
    ]
    assert json.loads(rows[0].probabilities) == PREDICTION["probabilities"]
    assert (rows[0].prediction, rows[0].confidence) == ("ü", 0.75)


def test_keys_are_unique_and_grow():
    keys = [
        row.key
        for _ in range(100)
        for row in Captured.from_answer("same", "1", [{}] * 3, [PREDICTION] * 3)
    ]
    assert len(set(keys)) == 300
    # requests of the same nanosecond may come in any order
    assert [key[:8] for key in keys] == sorted(key[:8] for key in keys)
    assert [key[-1] for key in keys[:3]] == [0, 1, 2]


def test_an_answer_for_each_record():
    with pytest.raises(ValueError, match="shorter"):
        Captured.from_answer("request", "1", [{}, {}], [PREDICTION])
