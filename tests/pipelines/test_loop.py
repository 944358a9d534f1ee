"""Deployment, traffic and labels, one after the other, against a real server."""

import pytest
import requests

from inference import launcher
from inference.errors import BackendError

pytestmark = pytest.mark.integration


def get(workshop, path: str) -> requests.Response:
    return requests.get(f"{workshop.backend.settings.target}/{path}", timeout=10)


def test_given_a_challenger_then_it_is_deployed_and_becomes_champion(
    workshop, deployed, mlflow_client
):
    champion = mlflow_client.get_model_version_by_alias("penguins", "champion")
    live = get(workshop, "version").json()

    assert live["model_version"] == str(champion.version) == deployed.data.version
    assert live["engine"] == "onnx"
    assert live["run_id"] == champion.run_id
    assert any(tag.startswith("history.") for tag in champion.tags)
    with pytest.raises(Exception, match="challenger"):
        mlflow_client.get_model_version_by_alias("penguins", "challenger")


def test_given_traffic_then_every_row_is_answered_and_captured_once(workshop, deployed, schema):
    before = sum(rows for _, rows, _ in workshop.backend.counts())

    fine, run, output = workshop.run("traffic", samples=120, seed=3)

    assert fine, output
    assert run.data.count == 120
    captured = workshop.backend.load(schema, limit=1000)
    assert len(captured) == before + 120
    assert captured["id"].is_unique


def test_given_captured_rows_then_labels_reach_them_all_once(workshop, deployed, schema):
    workshop.run("traffic", samples=50, seed=4)
    unlabelled = len(workshop.backend.load(schema, limit=5000, labelled=False))

    fine, run, output = workshop.run("traffic", mode="labels", ground_truth_quality=0.9)

    assert fine, output
    assert run.data.count == unlabelled >= 50
    assert workshop.backend.load(schema, limit=5000, labelled=False).empty
    assert workshop.backend.label(quality=0.9) == 0


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"mode": "nonsense"}, "--mode: expected traffic or labels, not 'nonsense'"),
        ({"mode": "labels", "labels": ""}, "--labels: expected a CSV file, not nothing"),
        ({"backend": "backend.Moon"}, "backend 'backend.Moon': there is no such class"),
    ],
)
def test_given_bad_parameters_then_traffic_says_so(workshop, deployed, parameters, complaint):
    fine, _, output = workshop.run("traffic", **parameters)

    assert not fine
    assert complaint in output


def test_given_no_server_then_traffic_fails_and_says_how_to_start_one(workshop, deployed):
    launcher.stop(workshop.backend.folder)

    fine, _, output = workshop.run("traffic", samples=10)

    assert not fine
    assert "does not answer" in output
    assert "just deploy" in output
    # deploying again, with nothing new to deploy, brings the champion back
    fine, _, output = workshop.run("deployment")
    assert fine, output
    assert get(workshop, "ping").status_code == 200


def test_given_a_version_that_does_not_load_then_the_old_one_goes_on_serving(
    workshop, deployed, mlflow_client, tmp_path
):
    import mlflow  # noqa: PLC0415 - 4 s that only this test pays

    champion = mlflow_client.get_model_version_by_alias("penguins", "champion")
    experiment = mlflow_client.get_experiment_by_name("penguins").experiment_id
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / "graph.onnx").write_bytes(b"no graph")
    (broken / "schema.json").write_text("{}")
    (tmp_path / "code.py").write_text(
        "import mlflow.pyfunc, mlflow.models\n"
        "class Broken(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input\n"
        "mlflow.models.set_model(Broken())\n"
    )
    with mlflow.start_run(experiment_id=experiment):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(tmp_path / "code.py"),
            artifacts={"model": str(broken)},
            pip_requirements=["mlflow"],
            registered_model_name="penguins",
        )
    mlflow_client.set_registered_model_alias(
        "penguins", "challenger", str(info.registered_model_version)
    )

    fine, _, output = workshop.run("deployment")

    assert not fine
    assert "schema.json: not a readable schema" in output
    assert "Traceback" not in output
    assert get(workshop, "version").json()["model_version"] == str(champion.version)
    still = mlflow_client.get_model_version_by_alias("penguins", "champion")
    assert still.version == champion.version
    mlflow_client.delete_registered_model_alias("penguins", "challenger")


def test_given_the_pyfunc_then_it_answers_as_the_endpoint_does(workshop, deployed, record):
    import mlflow  # noqa: PLC0415 - 4 s that only this test pays
    import pandas as pd  # noqa: PLC0415

    mlflow.set_tracking_uri(workshop.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/penguins@champion")
    records = [record, {**record, "sex": None}, {**record, "island": "Somewhere else"}]

    expected = workshop.backend.invoke(records).predictions

    assert model.predict(pd.DataFrame(records)) == expected
    assert model.unwrap_python_model().predict(None, records) == expected


def test_given_an_empty_registry_then_deployment_says_what_to_run(workshop, tmp_path):
    fine, _, output = workshop.run(
        "deployment", mlflow_tracking_uri=f"sqlite:///{tmp_path / 'empty.db'}"
    )

    assert not fine
    assert "holds no version of the model 'penguins' to deploy; run `just train`" in output


def test_given_a_wrong_label_file_then_nothing_is_labelled(workshop, deployed, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("id,label\nnobody-0,Adelie\n")
    before = workshop.backend.counts()

    with pytest.raises(BackendError, match="1 of 1 ids were never captured: nobody-0"):
        workshop.backend.label(file=file)

    known = workshop.backend.load(workshop.settings.dataset.schema, limit=1)["id"][0]
    file.write_text(f"id,label\n{known},Adelei\n")
    with pytest.raises(BackendError, match=f"'Adelei' of {known}; nothing was labelled"):
        workshop.backend.label(file=file)

    assert workshop.backend.counts() == before
