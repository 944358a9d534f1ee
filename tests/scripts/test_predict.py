"""The command that scores a file, with a registry of its own."""

import csv
import os
import pty
import signal
import subprocess
import sys
import time

import mlflow
import pytest
import typer
from typer.testing import CliRunner

from common import ROOT
from inference.local import ARTIFACTS
from inference.predictor import Predictor
from scripts import predict as command

pytestmark = pytest.mark.integration

HEADER = "id,island,culmen_length_mm,culmen_depth_mm,flipper_length_mm,body_mass_g,sex\n"
GOOD = "7,Biscoe,48.5,15,219,4850,FEMALE\n"
BAD = "8,Biscoe,485,15,219,4850,FEMALE\n"


@pytest.fixture(scope="module")
def environment(make_model, tmp_path_factory):
    """A registry of two versions; the first, which favours another class, is the champion."""
    folder = tmp_path_factory.mktemp("registry")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("penguins")
    for favourite in (1, 2):
        model = folder / f"model-{favourite}"
        make_model(model / ARTIFACTS, favourite)
        client.create_model_version("penguins", str(model))
    client.set_registered_model_alias("penguins", "champion", "1")
    return {"MLFLOW_TRACKING_URI": uri, "ROOKERY_STATE": str(folder)}


@pytest.fixture
def predict(environment, monkeypatch):
    """Run the command in this process; `predict(path, "--output", …)`."""
    # what another test has set would win over the environment
    mlflow.set_tracking_uri(None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    app = typer.Typer()
    app.command()(command.predict)
    return lambda *words: CliRunner().invoke(app, list(map(str, words)))


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_champion_scores_a_file(predict, make_model, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(HEADER + GOOD + BAD + GOOD)
    done = predict(path)
    assert (done.exit_code, done.stderr) == (0, "")
    output, rejects = tmp_path / "in.predictions.csv", tmp_path / "in.predictions.rejected.csv"
    summary = f"version 1 scored 2 rows, rejected 1 ({rejects}): {output}, "
    assert done.stdout.startswith(summary)
    assert done.stdout.endswith(" rows/s\n")
    assert [row["row"] for row in rows_of(rejects)] == ["1"]

    predictor = Predictor.load(make_model(tmp_path / "model", 1))
    record = dict(zip(HEADER.strip().split(",")[1:], ("Biscoe", 48.5, 15.0, 219.0), strict=False))
    [expected] = predictor.predict([record | {"body_mass_g": 4850.0, "sex": "FEMALE"}])
    assert len(rows_of(output)) == 2
    for row in rows_of(output):
        assert row["id"] == "7"
        assert row["prediction"] == expected["prediction"]
        assert float(row["confidence"]) == pytest.approx(expected["confidence"], abs=1e-6)


def test_a_version_by_number(predict, tmp_path):
    path, output = tmp_path / "in.csv", tmp_path / "out.parquet"
    path.write_text(HEADER + GOOD)
    done = predict(path, "--model-version", "2", "--output", output)
    assert done.exit_code == 0
    assert done.stdout.startswith(f"version 2 scored 1 rows: {output}, ")
    assert sorted(tmp_path.iterdir()) == [path, output]
    done = predict(path, "--model-version", "9")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: MLflow refused penguins, version 9")


def test_no_row_could_be_scored(predict, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(HEADER + BAD)
    done = predict(path)
    assert done.exit_code == 1
    rejects = tmp_path / "in.predictions.rejected.csv"
    assert done.stderr == f"error: {path}: no row could be scored; {rejects} says why\n"
    assert len(rows_of(rejects)) == 1
    assert rows_of(tmp_path / "in.predictions.csv") == []


def test_errors_are_one_line(predict, tmp_path):
    done = predict(tmp_path / "nothing.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"error: {tmp_path / 'nothing.csv'}: there is no such file\n"
    done = predict(tmp_path / "in.csv.gz")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {tmp_path / 'in.csv.gz'}: the name must end in .csv or")


def test_engine_by_environment(predict, tmp_path, monkeypatch):
    monkeypatch.setenv("ROOKERY_ENGINE", "torch")
    path = tmp_path / "in.csv"
    path.write_text(HEADER + GOOD)
    done = predict(path)
    assert done.exit_code == 1
    assert "ROOKERY_ENGINE: expected onnx or keras, not 'torch'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_on_the_way(environment, tmp_path, number):
    """A bar is shown on a terminal, and neither SIGTERM nor Ctrl-C leaves anything behind."""
    path = tmp_path / "in.csv"
    path.write_text(HEADER + GOOD * 2_000_000)
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "src/scripts/predict.py", str(path)],
        cwd=ROOT,
        env=os.environ | environment | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=end,
    ) as process:
        os.close(end)
        deadline, shown = time.monotonic() + 120, b""
        while b"%" not in shown or len(list(tmp_path.iterdir())) == 1:
            assert time.monotonic() < deadline, shown
            shown += os.read(terminal, 10_000)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    os.close(terminal)
    assert list(tmp_path.iterdir()) == [path]
