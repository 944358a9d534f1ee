"""The training journey, on the real penguins: folds, gate, registry."""

import base64
import pickletools
import re
import zipfile
from pathlib import Path

import pytest
import yaml

from common import ROOT
from pipelines.training import refusal

pytestmark = pytest.mark.integration


def test_given_the_penguins_then_cross_validation_is_as_good_as_promised(trained):
    metrics = trained.data.metrics

    assert metrics["accuracy_mean"] >= 0.985
    assert metrics["accuracy_std"] <= 0.015
    assert metrics["f1_macro_mean"] >= 0.98
    assert {"recall_Adelie_mean", "recall_Chinstrap_mean", "recall_Gentoo_mean"} <= metrics.keys()


def test_given_a_finished_run_then_every_row_has_an_out_of_fold_prediction(trained):
    reference = trained.data.reference

    assert len(reference) == 344
    assert reference["confidence"].between(1 / 3, 1).all()
    # out-of-fold predictions are not the labels, and not those of a model that saw them
    agreement = (reference["prediction"] == reference["target"]).mean()
    assert agreement == pytest.approx(trained.data.metrics["accuracy_mean"], abs=0.001)
    assert agreement < 1


def test_given_a_finished_run_then_mlflow_holds_a_parent_and_a_run_for_each_fold(
    trained, mlflow_client
):
    run = mlflow_client.get_run(trained.data.mlflow_run_id)
    folds = mlflow_client.search_runs(
        [run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
    )

    assert run.info.run_name == trained.id
    assert run.info.status == "FINISHED"
    assert run.data.params["folds"] == "5"
    assert run.data.tags["git_commit"]
    assert run.inputs.dataset_inputs[0].dataset.name == "penguins"
    assert run.data.tags["dataset.sha256"] == trained.data.data.hash
    assert sorted(fold.info.run_name for fold in folds) == [f"fold-{n}" for n in range(5)]
    for fold in folds:
        assert fold.info.status == "FINISHED"
        curve = mlflow_client.get_metric_history(fold.info.run_id, "val_loss")
        assert len(curve) == 50
        assert fold.data.metrics["accuracy"] >= 0.9


def test_given_a_finished_run_then_a_challenger_is_registered_with_all_it_needs(
    workshop, trained, mlflow_client, tmp_path
):
    assert str(workshop.challenger.version) == trained.data.version

    import mlflow  # noqa: PLC0415 - 4 s that only this test pays

    folder = Path(
        mlflow.artifacts.download_artifacts(
            f"models:/penguins/{trained.data.version}", dst_path=tmp_path
        )
    )
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert {
        f"artifacts/model/{name}"
        for name in (
            "graph.onnx",
            "network.keras",
            "transformers.skops",
            "schema.json",
            "reference.parquet",
        )
    } <= names
    required = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in required)
    assert not {line.split("==")[0] for line in required} & {
        "tensorflow",
        "keras",
        "scikit-learn",
        "metaflow",
        "evidently",
        "pytest",
    }


def test_given_a_registered_model_then_no_file_of_it_is_a_pickle(trained, mlflow_client, tmp_path):
    import mlflow  # noqa: PLC0415 - 4 s that only this test pays

    folder = Path(
        mlflow.artifacts.download_artifacts(
            f"models:/penguins/{trained.data.version}", dst_path=tmp_path
        )
    )
    contents = []
    for file in folder.rglob("*"):
        if file.is_file():
            contents.append((str(file), file.read_bytes()))
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    contents += [(f"{file}/{n}", archive.read(n)) for n in archive.namelist()]

    assert len(contents) > 10
    assert [name for name, content in contents if is_pickle(content)] == []


def is_pickle(content: bytes) -> bool:
    """Whether these bytes are a pickle of protocol 2 or later, which starts with PROTO."""
    if not content.startswith(b"\x80"):
        return False
    try:
        return any(code.name == "STOP" for code, _, _ in pickletools.genops(content))
    except ValueError:
        return False


def test_given_the_card_then_it_shows_scores_confusion_and_curves(workshop, trained):
    files = [f for f in workshop.folder.rglob("*.html") if {"Training", trained.id} <= set(f.parts)]
    (file,) = files
    # a card keeps its content in base64; tests/browser looks at what a person sees
    parts = re.findall(r"[A-Za-z0-9+/=]{1000,}", file.read_text())
    html = "".join(base64.b64decode(part).decode(errors="replace") for part in parts)

    for text in ("Accuracy 0.9", "Confusion matrix", "Learning curves", "recall_Gentoo"):
        assert text in html


def test_given_a_threshold_out_of_reach_then_nothing_is_registered_and_the_run_is_tagged(
    workshop, trained, mlflow_client
):
    before = len(mlflow_client.search_model_versions("name='penguins'"))

    fine, run, output = workshop.run("training", training_epochs=1, accuracy_threshold=1.0)

    assert fine, output
    assert "not registered" in output
    assert run.data.version is None
    tags = mlflow_client.get_run(run.data.mlflow_run_id).data.tags
    assert tags["registered"] == "no: below the threshold of 1"
    assert len(mlflow_client.search_model_versions("name='penguins'")) == before


@pytest.mark.parametrize(
    ("accuracy", "threshold", "said"),
    [
        (0.9, 0.9, ""),
        (0.89, 0.9, "below the threshold of 0.9"),
        (0.6, 0.0, "no better than naming the most common class, 0.600"),
        (0.61, 0.0, ""),
    ],
)
def test_a_model_must_reach_the_threshold_and_know_more_than_the_most_common_class(
    accuracy, threshold, said
):
    assert refusal(accuracy, threshold, baseline=0.6) == said


def test_given_a_run_that_stopped_then_resume_goes_on_from_there(workshop, trained):
    with workshop.runner("training").resume(origin_run_id=trained.id, step_to_rerun="end") as again:
        assert again.status == "successful", again.stdout
        assert again.run.data.version == trained.data.version
        assert {step.id for step in again.run} == {step.id for step in trained}


def test_given_config_values_on_the_command_line_then_they_replace_the_file(workshop, tmp_path):
    config = yaml.safe_load((ROOT / "config" / "local.yml").read_text())
    config["surprise"] = 1
    file = tmp_path / "other.yml"
    file.write_text(yaml.safe_dump(config))

    for option in ({"config": [("project", str(file))]}, {"config_value": [("project", config)]}):
        with pytest.raises(Exception, match="surprise: unknown key"):
            workshop.run("training", options=option)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"accuracy_threshold": 1.5}, "--accuracy-threshold: expected 0 to 1, not 1.5"),
        ({"folds": 70}, "class 'Chinstrap' has 68 rows, too few for 70 folds"),
        ({"dataset": "data/nowhere.csv"}, "nowhere.csv: there is no such file"),
    ],
)
def test_given_bad_parameters_then_one_line_says_so(workshop, parameters, complaint):
    fine, _, output = workshop.run("training", **parameters)

    assert not fine
    assert complaint in output
    assert "Traceback" not in output


def test_given_no_mlflow_server_then_the_flow_says_how_to_start_it(workshop):
    uri = "http://127.0.0.1:9"
    fine, _, output = workshop.run("training", mlflow_tracking_uri=uri)

    assert not fine
    assert f"MLflow at {uri} does not answer" in output
    assert "just mlflow" in output
