"""Windows of several versions: each judged beside its own reference, the champion's in front."""

from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pandas as pd
import pytest

from common.monitoring import review as reviews
from common.packaging import REFERENCE
from common.settings import MonitoringSettings
from inference.backend import Captured
from inference.errors import RegistryError
from inference.local import ARTIFACTS
from inference.predictor import SCHEMA
from inference.schema import Category, Number, Schema

OTHER = Schema(
    target="species",
    classes=("Gentoo", "Dodo"),
    features={
        "island": Number(kind="number"),
        "wing <b>": Number(kind="number", range=(0, 10)),
        "colour": Category(kind="category", categories=("blue", "grey")),
    },
)
EVIDENTLY = "window.drawDashboard"


@pytest.fixture
def judge(schema, reference):
    """Review rows of versions that all have the penguins' reference, unless given others."""

    def judge(rows, champion="2", **references):
        known = {"1": (schema, reference), "2": (schema, reference)} | references
        return reviews.review(rows, champion, known.get, MonitoringSettings(), [])

    return judge


def find(judgement, name, column=None):
    return next(c for c in judgement.checks if (c["name"], c["column"]) == (name, column))


@pytest.mark.integration
def test_each_version_beside_its_own_reference(judge, draw, schema, reference):
    """What is drift beside one reference is none beside the other."""
    moved = reference.assign(body_mass_g=reference["body_mass_g"] + 1600)
    rows = pd.concat(
        [
            draw(300),
            draw(200, seed=1, table=moved).assign(model_version="1"),
            draw(120, seed=2).assign(model_version="gone"),
        ]
    ).sample(frac=1, random_state=0, ignore_index=True)
    found = judge(rows, **{"1": (schema, moved)})
    assert (found.judged.version, found.judged.rows, found.judged.verdict) == ("2", 300, "pass")
    assert [(other.version, other.rows, other.verdict) for other in found.others] == [
        ("1", 200, "pass"),
        ("gone", 120, "not enough data"),
    ]
    assert "version '1' 200, version 'gone' 120" in find(found.judged, "volume")["sentence"]
    assert [(c["name"], c["verdict"]) for c in found.others[1].checks] == [
        ("reference", "not enough data")
    ]
    assert "holds no reference of version gone" in found.others[1].checks[0]["sentence"]
    assert tuple(found.pages) == reviews.PAGES
    assert all(EVIDENTLY in found.pages[name] for name in ("data", "drift", "quality"))

    swapped = judge(rows, champion="1", **{"2": (schema, moved)})
    assert swapped.judged.verdict == "fail"
    assert swapped.others[0].verdict == "fail"
    assert find(swapped.others[0], "drift", "body_mass_g")["verdict"] == "fail"


@pytest.mark.integration
def test_a_champion_that_answered_nothing_yet(judge, draw):
    found = judge(draw(300), champion="1")
    assert (found.judged.verdict, found.judged.rows) == ("no data", 0)
    assert find(found.judged, "volume")["sentence"] == (
        "Version 1, which is deployed, answered none of the 300 newest rows: version '2' 300."
    )
    assert [(other.version, other.verdict) for other in found.others] == [("2", "pass")]
    assert EVIDENTLY not in found.pages["data"]


def test_a_champion_without_a_reference(judge, draw):
    found = judge(draw(300), champion="7")
    assert (found.judged.verdict, found.judged.rows) == ("not enough data", 0)
    assert [(other.version, other.verdict) for other in found.others] == [("2", "pass")]
    assert tuple(found.pages) == reviews.PAGES
    assert all("no reference of version 7" in page for page in found.pages.values())


def test_the_same_checks_without_evidently(judge, draw):
    found = judge(draw(300), champion="7").others[0]
    check = find(found, "drift", "body_mass_g")
    assert check["verdict"] == "pass"
    assert "without Evidently" not in check["sentence"]
    names = {check["name"] for check in found.checks}
    assert {"volume", "drift", "associations", "accuracy", "macro F1"} <= names


def test_cells_are_read_as_by_the_champion(schema):
    assert OTHER.placeholders != schema.placeholders
    assert reviews.merge([OTHER, schema]).placeholders == schema.placeholders


def answer(schema, version, record, count=120):
    shares = {name: 1 / len(schema.classes) for name in schema.classes}
    prediction = {"prediction": schema.classes[0], "confidence": 0.5, "probabilities": shares}
    return Captured.from_answer(version, version, [record] * count, [prediction] * count)


def test_columns_of_every_version_are_read(local, schema, record, reference):
    """A column of the one is a number, of the other a category; classes differ as well."""
    old = {"island": 3.5, "wing <b>": 7.0, "colour": "blue"}
    local.save(answer(OTHER, "1", old) + answer(schema, "2", record))
    known = {"1": (OTHER, reference), "2": (schema, reference)}
    rows = reviews.load_window(local, schema, known.get, 1000)
    first, second = (rows[rows["model_version"] == version].iloc[0] for version in "12")
    assert (first["island"], first["wing <b>"], first["colour"]) == (3.5, 7.0, "blue")
    assert (second["island"], second["body_mass_g"]) == ("Biscoe", 4850.0)
    assert first["probability Dodo"] == 0.5
    assert pd.isna(second["probability Dodo"])
    table = reference.assign(island=3.5, colour="blue", **{"wing <b>": 7.0})
    window = reviews.make_window(rows, "1", {"1": (OTHER, table)}.get, MonitoringSettings())
    assert window.rows["island"].tolist() == [3.5] * 120
    checked = reviews.check_alone(window)
    assert next(c for c in checked if c.name == "schema").verdict == "pass"


def test_categories_that_look_like_numbers_stay_texts(local, schema, record, reference):
    """What is a category for the one version is a number for the champion."""
    zones = Category(kind="category", categories=("1", "2", "3", "4"))
    old, new = (
        Schema(target="species", classes=schema.classes, features={**schema.features, "zone": zone})
        for zone in (zones, Number(kind="number"))
    )
    local.save(answer(old, "1", {**record, "zone": "1"}) + answer(schema, "0", record, 5))
    local.save(answer(new, "2", {**record, "zone": 2}))
    known = {
        "1": (old, reference.assign(zone="1")),
        "2": (new, reference.assign(zone=2.0)),
        "0": (schema, reference),
    }
    rows = reviews.load_window(local, new, known.get, 1000)
    first, second = (
        reviews.make_window(rows, version, known.get, MonitoringSettings()) for version in "12"
    )
    assert first.rows["zone"].tolist() == ["1"] * 120
    assert second.rows["zone"].tolist() == [2.0] * 120
    [unseen] = [c for c in reviews.check_alone(first) if (c.name, c.column) == ("unseen", "zone")]
    assert (unseen.verdict, unseen.figure) == ("pass", 0)


def test_one_schema_is_read_once(local, schema, record, reference):
    local.save(answer(schema, "1", record) + answer(schema, "2", record, 5))
    known = {"2": (schema, reference)}
    rows = reviews.load_window(local, schema, known.get, 1000)
    assert rows["model_version"].value_counts().to_dict() == {"1": 120, "2": 5}
    assert list(rows) == list(local.load(schema, 10))


@pytest.mark.integration
@pytest.mark.parametrize("name", [SCHEMA, REFERENCE])
def test_given_a_damaged_file_then_the_version_is_named(make_version, reference, name):
    version = make_version(reference=reference)
    folder = Path(url2pathname(urlparse(version.source).path))
    (folder / ARTIFACTS / name).write_bytes(b"PAR1 and no more")

    with pytest.raises(RegistryError, match=r"^version 1 of penguins: its schema"):
        reviews.read_reference(version)
