"""Odd windows, from the store to the verdict: each ends in one, or in an error that says why."""

import sqlite3
import time

import pandas as pd
import pytest

from common.monitoring import review as reviews
from common.settings import MonitoringSettings
from inference.backend import Captured
from inference.errors import BackendError
from inference.schema import Number, Schema, to_records

pytestmark = pytest.mark.integration


@pytest.fixture
def captured(local, schema):
    """Save drawn rows as if they were answered, and label those that have a target."""

    def save(rows, version="2", schema=schema):
        answered = []
        for position, record in enumerate(to_records(rows[list(schema.features)])):
            row = rows.iloc[position]
            probabilities = {name: float(row[f"probability {name}"]) for name in schema.classes}
            prediction = {
                "prediction": row["prediction"],
                "confidence": float(row["confidence"]),
                "probabilities": probabilities,
            }
            name = f"{version}-{time.time_ns()}-{position}"
            answered += Captured.from_answer(name, version, [record], [prediction])
        local.save(answered)
        targets = [
            (answer.key, target)
            for answer, target in zip(answered, rows["target"], strict=True)
            if isinstance(target, str)
        ]
        with sqlite3.connect(local.settings.database) as connection:
            update = "UPDATE predictions SET target = ? WHERE key = ?"
            connection.executemany(update, [(target, key) for key, target in targets])
        return answered

    return save


@pytest.fixture
def monitor(local, schema, reference):
    """Load what was captured, and review it."""

    def monitor(champion="2", limit=500, **references):
        known = {champion: (schema, reference)} | references
        rows = reviews.load_window(local, known[champion][0], known.get, limit)
        return reviews.review(rows, champion, known.get, MonitoringSettings(), [])

    return monitor


def find(judgement, name, column=None):
    return next(c for c in judgement.checks if (c["name"], c["column"]) == (name, column))


def failed(judgement):
    return {(c["name"], c["column"]) for c in judgement.checks if c["verdict"] == "fail"}


def verdicts(judgement, name):
    return {c["verdict"] for c in judgement.checks if c["name"] == name}


def test_no_rows(monitor):
    found = monitor()
    assert (found.judged.verdict, found.judged.rows, found.others) == ("no data", 0, [])
    assert "Nothing has been captured yet" in find(found.judged, "volume")["sentence"]
    assert tuple(found.pages) == reviews.PAGES


def test_one_row(captured, monitor, draw):
    captured(draw(1))
    found = monitor()
    assert (found.judged.verdict, found.judged.rows) == ("not enough data", 1)
    assert "1 row, captured" in find(found.judged, "volume")["sentence"]
    assert failed(found.judged) == set()


def test_no_labels(captured, monitor, draw):
    captured(draw(300).assign(target=None))
    found = monitor()
    assert found.judged.verdict == "pass"
    assert verdicts(found.judged, "accuracy") == {"not enough data"}
    assert (
        "0 labelled rows of version 2, and 50 are needed"
        in (find(found.judged, "accuracy")["sentence"])
    )


def test_labels_for_three_rows(captured, monitor, draw):
    rows = draw(300)
    captured(rows.assign(target=rows["target"].where(rows.index < 3, None)))
    found = monitor()
    assert found.judged.verdict == "pass"
    assert "3 labelled rows of version 2" in find(found.judged, "accuracy")["sentence"]


def test_one_class_only(captured, monitor, draw, reference):
    known = reference[(reference["target"] == "Gentoo") & (reference["prediction"] == "Gentoo")]
    captured(draw(300, table=known))
    found = monitor()
    assert found.judged.verdict == "fail"
    assert ("drift", "prediction") in failed(found.judged)
    assert find(found.judged, "accuracy")["verdict"] == "pass"
    assert "neither labels nor predictions hold Adelie" in found.pages["quality"]


def test_an_all_null_column(captured, monitor, draw):
    captured(draw(300).assign(sex=None))
    found = monitor()
    assert found.judged.verdict == "fail"
    assert failed(found.judged) == {("missing", "sex")}
    assert "100.0% of the values are missing" in find(found.judged, "missing", "sex")["sentence"]


def test_a_column_that_vanished_after_a_schema_change(captured, monitor, draw, schema, reference):
    """Rows under the old schema have it, those under the new one have not: neither is wrong."""
    smaller = Schema(
        target=schema.target,
        classes=schema.classes,
        features={name: one for name, one in schema.features.items() if name != "sex"},
    )
    captured(draw(200), "1")
    captured(draw(250, seed=1), "2", smaller)
    found = monitor(**{"1": (schema, reference), "2": (smaller, reference.drop(columns="sex"))})
    assert (found.judged.version, found.judged.rows, found.judged.verdict) == ("2", 250, "pass")
    assert "sex" not in {check["column"] for check in found.judged.checks}
    [old] = found.others
    assert (old.version, old.rows, old.verdict) == ("1", 200, "pass")
    assert find(old, "missing", "sex")["figure"] < 0.1

    # the other way round: what the new schema asks for is nowhere in the old rows
    gone = monitor("1", **{"2": (schema, reference)})
    assert failed(gone.others[0]) == {("missing", "sex")}


def test_rows_of_three_versions(captured, monitor, draw, schema, reference):
    heavier = reference.assign(body_mass_g=reference["body_mass_g"] + 1600)
    captured(draw(150, table=heavier), "1")
    captured(draw(130, seed=1), "2")
    captured(draw(200, seed=2), "unknown")
    found = monitor(**{"1": (schema, heavier)})
    assert (found.judged.version, found.judged.rows, found.judged.verdict) == ("2", 130, "pass")
    assert [(other.version, other.rows, other.verdict) for other in found.others] == [
        ("unknown", 200, "not enough data"),
        ("1", 150, "pass"),
    ]


def test_a_clock_in_the_future(captured, monitor, draw, local):
    captured(draw(300))
    day = 86_400.0
    with sqlite3.connect(local.settings.database) as connection:
        connection.execute("UPDATE predictions SET time = time + ?", [400 * day])
    found = monitor()
    assert found.judged.verdict == "warn"
    check = find(found.judged, "freshness")
    assert (check["verdict"], round(check["figure"])) == ("warn", -9600)
    assert (
        "9,600.0 hours in the future: the clock here or the clock of the server is wrong"
        in (check["sentence"])
    )


def test_a_clock_beyond_all_calendars(captured, monitor, draw, local):
    captured(draw(1))
    with sqlite3.connect(local.settings.database) as connection:
        connection.execute("UPDATE predictions SET time = 1e12")
    with pytest.raises(BackendError, match="one holds what cannot have been captured"):
        monitor()


def test_a_hundred_thousand_duplicates(captured, monitor, draw, local):
    captured(draw(1))
    with sqlite3.connect(local.settings.database) as connection:
        connection.execute(
            """
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
            INSERT INTO predictions SELECT key || CAST(i AS BLOB), request_id, row, time,
            model_version, features, prediction, confidence, probabilities, target
            FROM predictions, n
            """
        )
    found = monitor(limit=1_000_000)
    assert (found.judged.verdict, found.judged.rows) == ("fail", 100_000)
    check = find(found.judged, "duplicates")
    assert (check["verdict"], round(check["figure"], 3)) == ("fail", 0.997)
    assert "occurs 100,000 times, and 1 row of 100,000 differ." in check["sentence"]
    assert ("constant", "body_mass_g") in failed(found.judged)


@pytest.mark.parametrize("damage", ["no database", "a page", "half of it"])
def test_a_corrupt_database_file(captured, monitor, draw, local, damage):
    captured(draw(300))
    database = local.settings.database
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(database.read_bytes())
    if damage == "no database":
        content[:] = b"not a database " * 100
    elif damage == "a page":
        content[8192:32768] = b"\xff" * (32768 - 8192)
    else:
        del content[len(content) // 2 :]
    database.write_bytes(content)
    with pytest.raises(BackendError) as caught:
        monitor()
    assert str(caught.value).startswith(f"capture database {database}: ")
    assert "if it is damaged, move it away and a new one is made" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("features", "{"),
        ("features", "[]"),
        ("features", "{}, {}"),
        ("features", "null"),
        ("features", '{"sex": ["MALE"]}'),
        ("probabilities", "3"),
        ("probabilities", '{"Adelie": "much"}'),
        ("confidence", "much"),
        ("time", "yesterday"),
    ],
)
def test_a_row_that_cannot_have_been_captured(captured, monitor, draw, local, column, value):
    """Somebody edited the database by hand."""
    answered = captured(draw(3))
    with sqlite3.connect(local.settings.database) as connection:
        connection.execute(
            f"UPDATE predictions SET {column} = ? WHERE key = ?",  # noqa: S608 - our own names
            [value, answered[1].key],
        )
    with pytest.raises(BackendError, match="cannot have been captured") as caught:
        monitor()
    assert f"among the rows {answered[0].request_id}-0 to {answered[2].request_id}-0" in (
        str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_numbers_where_another_version_captured_text(captured, monitor, draw, schema, reference):
    """Without a reference of that version, its rows are not judged, and in nobody's way."""
    odd = Schema(target="species", classes=schema.classes, features={"sex": Number(kind="number")})
    captured(draw(200))
    captured(draw(50, seed=1).assign(sex=1.5), "1", odd)
    found = monitor()
    assert (found.judged.verdict, found.judged.rows) == ("pass", 200)
    number = Schema(
        target="species",
        classes=schema.classes,
        features={**schema.features, "sex": Number(kind="number")},
    )
    table = reference.assign(sex=pd.Series(range(len(reference)), dtype=float))
    found = monitor("1", **{"1": (number, table)})
    assert (found.judged.version, found.judged.rows) == ("1", 50)
    assert find(found.judged, "schema")["verdict"] == "pass"
    assert [other.version for other in found.others] == ["2"]
