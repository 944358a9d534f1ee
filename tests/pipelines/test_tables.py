"""Other tables than the penguins, through the whole circle, with a config file each."""

import csv

import pytest

from common.dataset import read_table
from common.simulation import draw, drifting_feature, send, truth
from inference import launcher
from scripts.demo import alarm_bell
from scripts.tables import TABLES

ROWS = 300


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "accuracy"),
    [("wine", 0.93), ("breast_cancer", 0.93), ("parcels", 0.9)],
)
def test_circle(name, accuracy, workshop_class, tmp_path):
    file = tmp_path / f"{name}.csv"
    TABLES[name]().to_csv(file, index=False)
    with alarm_bell() as (bell, alarms):
        shop = workshop_class(tmp_path, f"config/{name}.yml", DATASET=str(file), ALERT_URLS=bell)
        schema = shop.settings.dataset.schema
        rows = read_table(shop.settings.dataset, file).rows

        def run(flow, **parameters):
            fine, found, output = shop.run(flow, **parameters)
            assert fine, output
            return found.data

        def observe(seed, *, drift):
            records = draw(schema, rows, ROWS, seed, drift=drift)
            ids = send(shop.backend, records, connections=2)
            labels = zip(ids, truth(schema, rows, ROWS, seed), strict=True)
            written = tmp_path / "truth.csv"
            with written.open("w", encoding="utf-8", newline="") as target:
                csv.writer(target).writerows([("id", "label"), *labels])
            assert shop.backend.label(file=written) == ROWS

        try:
            trained = run("training")
            assert trained.metrics["accuracy_mean"] > accuracy
            run("deployment")
            observe(1, drift=False)
            usual = run("monitoring", samples=ROWS)
            assert usual.verdict == "pass", usual.checks
            observe(2, drift=True)
            drifted = run("monitoring", samples=ROWS)
            captured = shop.backend.load(schema, ROWS)
        finally:
            launcher.stop(shop.backend.folder)

    assert drifted.verdict == "fail"
    failed = [check["sentence"] for check in drifted.checks if check["verdict"] == "fail"]
    assert any(drifting_feature(schema) in sentence for sentence in failed), failed
    assert alarms == [f"{name}: fail (pass before)"]
    assert set(captured["target"]) <= set(schema.classes)
