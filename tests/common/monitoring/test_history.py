"""Earlier runs in a real MLflow store, and the names that its metrics get."""

import math

import pytest

from common.monitoring import history

NAMES = ["a/b", "..", "/", "mass [kg]", "<b>Größe</b>", "x" * 400, "a_b", 'q"uote', "", " "]


def check(name: str, figure: float | None, column: str | None = None, interval=None) -> dict:
    return {
        "name": name,
        "figure": figure,
        "limit": 1.0,
        "verdict": "pass",
        "sentence": "fine",
        "column": column,
        "interval": interval,
    }


def outcome(verdict: str, version: str = "1", checks=()) -> dict:
    return {
        "project": "penguins",
        "verdict": verdict,
        "version": version,
        "rows": 500,
        "checks": list(checks),
        "training_run": "abc",
    }


@pytest.fixture
def client(tmp_path, monkeypatch):
    """MLflow's client on a store of its own."""
    import mlflow  # noqa: PLC0415 - 4 s that only these tests pay

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def folder(tmp_path):
    """What a run leaves behind."""
    made = tmp_path / "reports" / "7"
    made.mkdir(parents=True)
    (made / "report.html").write_text("<p>é</p>", encoding="utf-8")
    return made


def test_metrics_carry_figures_and_intervals():
    checks = [
        check("drift", 2.05, "mass [kg]"),
        check("accuracy", 0.9, interval=(0.85, 0.95)),
        check("macro F1", None),
        check("odd", math.nan),
    ]
    assert history.metrics(checks) == {
        "drift/mass _kg_": 2.05,
        "accuracy": 0.9,
        "accuracy:low": 0.85,
        "accuracy:high": 0.95,
    }


def test_figures_whose_names_mlflow_cannot_tell_apart_are_all_kept():
    checks = [check("drift", place, name) for place, name in enumerate(("a/b", "a_b", "a[b"))]
    assert history.metrics(checks) == {"drift/a_b": 0, "drift/a_b 2": 1, "drift/a_b 3": 2}


def test_a_column_keeps_its_name_where_another_has_no_figure():
    checks = [check("drift", None, "a/b"), check("drift", 1.0, "a_b")]
    assert history.metrics(checks) == {"drift/a_b 2": 1}


@pytest.mark.integration
def test_given_no_runs_then_there_is_no_past(client):
    assert history.past("penguins", 10) == []
    assert history.before([]) is None


@pytest.mark.integration
def test_given_runs_then_they_are_read_back_oldest_first(client, folder):
    hostile = [check("drift", float(place), name) for place, name in enumerate(NAMES)]
    ids = [
        history.record(str(place), "Monitoring", outcome(verdict, version, checks), folder)
        for place, (verdict, version, checks) in enumerate(
            [("pass", "1", ()), ("fail", "1", hostile), ("warn", "2", (check("accuracy", 0.5),))]
        )
    ]
    history.remember(ids[0], {"0123": "fail"})
    # the second one ended before it told anybody
    history.remember(ids[2], {"0123": "warn"})

    past = history.past("penguins", 10)

    assert [(run["verdict"], run["version"]) for run in past] == [
        ("pass", "1"),
        ("fail", "1"),
        ("warn", "2"),
    ]
    assert [run["time"] for run in past] == sorted(run["time"] for run in past)
    assert all(run["time"].endswith("+00:00") for run in past)
    assert past[1]["metrics"] == history.metrics(hostile)
    assert sorted(past[1]["metrics"].values()) == [float(place) for place in range(len(NAMES))]
    assert past[2]["metrics"] == {"accuracy": 0.5}
    assert [run["told"] for run in past] == [{"0123": "fail"}, {"0123": "fail"}, {"0123": "warn"}]
    assert history.before(past) == "warn"
    assert [run["verdict"] for run in history.past("penguins", 2)] == ["fail", "warn"]
    assert history.past("flowers", 10) == []

    kept = client.get_run(ids[1])
    assert kept.data.tags["model_version"] == "1"
    assert kept.data.tags["training_run"] == "abc"
    assert kept.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(ids[1], "reports")] == [
        "reports/report.html"
    ]


@pytest.mark.integration
def test_given_a_run_that_was_cut_short_then_it_is_no_part_of_the_past(client, folder):
    done = history.record("1", "Monitoring", outcome("pass"), folder)
    experiment = client.get_run(done).info.experiment_id
    client.create_run(experiment, tags={"verdict": "fail"})
    other = client.create_run(experiment).info.run_id
    client.set_terminated(other, "FINISHED")

    assert [run["verdict"] for run in history.past("penguins", 10)] == ["pass"]
