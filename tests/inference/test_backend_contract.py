"""What every backend promises, shown of each of them over the same calls."""

import itertools
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from inference import launcher
from inference.engine import GRAPH
from inference.errors import BackendError, ModelError
from inference.local import ARTIFACTS
from inference.predictor import Predictor
from inference.sagemaker import Sagemaker, SagemakerSettings
from scripts.rehearsal.aws import LocalAws

pytestmark = pytest.mark.integration

BUCKET = "rookery-contract"


class OnThisMachine:
    """Makes Local backends."""

    def __init__(self, make_local, folders) -> None:
        self._make, self._folders, self._made = make_local, folders, []

    def make(self):
        """Make a backend with nothing in it."""
        self._made.append(self._make(self._folders.mktemp("local")))
        return self._made[-1]

    def flush(self) -> None:
        """Wait for captures: they are there before the answer is."""

    def close(self) -> None:
        for backend in self._made:
            launcher.stop(backend.folder)


class OnSagemaker:
    """Makes Sagemaker backends on a local stand-in for AWS."""

    def __init__(self, patch) -> None:
        self._aws = LocalAws().__enter__()
        for name, value in self._aws.environment.items():
            patch.setenv(name, value)
        self._aws.client("s3").create_bucket(Bucket=BUCKET)
        self._numbers = itertools.count(1)

    def make(self):
        """Make a backend with nothing in it."""
        name = f"contract-{next(self._numbers)}"
        return Sagemaker(
            SagemakerSettings(
                target=name,
                region=self._aws.region,
                execution_role="arn:aws:iam::123456789012:role/sagemaker",
                models_uri=f"s3://{BUCKET}/{name}/models",
                data_capture_uri=f"s3://{BUCKET}/{name}/captures",
                ground_truth_uri=f"s3://{BUCKET}/{name}/ground-truth",
                image="123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1",
                rollout={"watch_seconds": 0},
            )
        )

    def flush(self) -> None:
        """Let captures be written now; AWS takes minutes."""
        self._aws.flush()

    def close(self) -> None:
        self._aws.__exit__(None, None, None)


@pytest.fixture(scope="module", params=["Local", "Sagemaker"])
def place(request, make_local, tmp_path_factory):
    """Where backends are made."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "Local":
            made = OnThisMachine(make_local, tmp_path_factory)
        else:
            made = OnSagemaker(patch)
        yield made
        made.close()


@pytest.fixture(scope="module")
def serving(place, release):
    """A backend that serves version 1; tests leave it so, but not what it captured."""
    backend = place.make()
    backend.deploy(release("1"))
    return backend


def load(place, backend, schema, limit=1000, **which):
    place.flush()
    return backend.load(schema, limit, **which)


def test_nothing_is_served_yet(place, schema, record):
    backend = place.make()

    status = backend.status()
    assert (status.version, status.previous, status.running, status.instances) == (
        None,
        None,
        False,
        0,
    )
    with pytest.raises(BackendError, match=status.target):
        backend.invoke([record])
    with pytest.raises(BackendError, match="nothing to roll back to"):
        backend.rollback()
    assert backend.label(quality=1.0) == 0
    assert load(place, backend, schema).empty


def test_status_says_what_is_served(serving):
    status = serving.status()

    assert (status.version, status.previous, status.running) == ("1", None, True)
    assert status.instances == 1
    assert status.captures
    assert status.state


def test_answer_is_the_models_own(serving, release, record):
    records = [record, dict.fromkeys(record), record | {"island": "Elephant"}]
    predictor = Predictor.load(release("1").path / ARTIFACTS)

    answer = serving.invoke(records)

    assert answer.predictions == predictor.predict(predictor.check(records))
    assert answer.model_version == "1"
    assert answer.request_id


def test_refused_records_bring_the_reason_and_are_not_captured(place, serving, schema, record):
    before = len(load(place, serving, schema))

    with pytest.raises(BackendError, match=r"422.*body_mass_g.*1e\+?99"):
        serving.invoke([record | {"body_mass_g": 1e99}])
    with pytest.raises(BackendError, match=r"400.*no rows"):
        serving.invoke([])
    with pytest.raises(BackendError, match="cannot be sent as JSON"):
        serving.invoke([record | {"sex": object()}])

    assert len(load(place, serving, schema)) == before


def test_what_was_answered_is_loaded_newest_first(place, serving, schema, record):
    before = len(load(place, serving, schema))
    first = serving.invoke([record, record | {"body_mass_g": None, "island": "Elephant"}])
    # SageMaker tells whole seconds
    place.flush()
    pause()
    second = serving.invoke([record | {"sex": None}])

    rows = load(place, serving, schema)

    assert len(rows) == before + 3
    assert list(rows["id"][:3]) == [
        f"{second.request_id}-0",
        f"{first.request_id}-1",
        f"{first.request_id}-0",
    ]
    assert list(rows) == [
        *("id", "time", "model_version", *schema.features, "prediction", "confidence"),
        *(f"probability {name}" for name in schema.classes),
        "target",
    ]
    newest, unseen, plain = (rows.iloc[place] for place in range(3))
    assert plain[list(schema.features)].to_dict() == record
    assert newest["sex"] is None
    assert unseen["island"] == "Elephant"
    assert np.isnan(unseen["body_mass_g"])
    assert plain["prediction"] == first.predictions[0]["prediction"]
    assert plain["confidence"] == first.predictions[0]["confidence"]
    for name in schema.classes:
        assert plain[f"probability {name}"] == first.predictions[0]["probabilities"][name]
    assert set(rows["model_version"]) == {"1"}
    assert rows["time"].dtype == "datetime64[ns, UTC]"
    assert rows["time"].is_monotonic_decreasing
    assert all(rows[name].dtype == float for name in schema.numbers)
    assert rows["target"].isna().all()
    # a part of them
    assert list(load(place, serving, schema, 2)["id"]) == list(rows["id"][:2])
    since = rows["time"][0].to_pydatetime()
    assert list(load(place, serving, schema, since=since)["id"]) == [f"{second.request_id}-0"]
    assert load(place, serving, schema, since=since + timedelta(hours=2)).empty


def pause() -> None:
    """Wait until the clock's second has changed."""
    now = pd.Timestamp.now()
    while pd.Timestamp.now().floor("s") == now.floor("s"):
        pass


def test_empty_store_has_all_columns_in_their_types(place, serving, schema):
    empty = load(place, place.make(), schema)
    full = load(place, serving, schema)
    assert list(empty) == list(full)
    assert dict(empty.dtypes) == dict(full.dtypes)


def test_labels(place, release, schema, record, tmp_path):
    backend = place.make()
    backend.deploy(release("1"))
    first = backend.invoke([record, record, record]).request_id
    second = backend.invoke([record]).request_id
    place.flush()
    file = tmp_path / "labels.csv"

    # nothing is labelled where a label does not fit
    file.write_text(f"id,label\n{first}-0,Adelie\nnobody-0,Adelie\n")
    with pytest.raises(BackendError, match="1 of 2 ids were never captured: nobody-0"):
        backend.label(file=file)
    file.write_text(f"id,label\n{first}-0,Adelie\n{first}-1,Albatross\n")
    with pytest.raises(BackendError, match=f"no class .*'Albatross' of {first}-1"):
        backend.label(file=file)
    with pytest.raises(BackendError, match="either a quality to simulate or a file"):
        backend.label()
    assert load(place, backend, schema, labelled=True).empty

    # from a file, for some rows of a request
    file.write_text(f"id,label\n{first}-2,Gentoo\n{first}-0,Adelie\n")
    assert backend.label(file=file) == 2
    known = load(place, backend, schema).set_index("id")["target"].to_dict()
    assert known == {
        f"{first}-0": "Adelie",
        f"{first}-1": None,
        f"{first}-2": "Gentoo",
        f"{second}-0": None,
    }
    assert set(load(place, backend, schema, labelled=True)["id"]) == {f"{first}-0", f"{first}-2"}
    assert set(load(place, backend, schema, labelled=False)["id"]) == {f"{first}-1", f"{second}-0"}

    # a row that has a label gets the new one, and the others keep theirs
    file.write_text(f"id,label\n{first}-0,Chinstrap\n")
    assert backend.label(file=file) == 1
    known = load(place, backend, schema).set_index("id")["target"].to_dict()
    assert known[f"{first}-0"] == "Chinstrap"
    assert known[f"{first}-2"] == "Gentoo"

    # the rest is simulated, once
    assert backend.label(quality=1.0, seed=1) == 2
    assert backend.label(quality=0.0, seed=1) == 0
    rows = load(place, backend, schema).set_index("id")
    for name in (f"{first}-1", f"{second}-0"):
        assert rows["target"][name] == rows["prediction"][name]
    assert rows["target"][f"{first}-0"] == "Chinstrap"


def test_simulated_labels_of_no_quality_are_all_wrong(place, release, schema, record):
    backend = place.make()
    backend.deploy(release("1"))
    backend.invoke([record] * 20)
    place.flush()

    assert backend.label(quality=0.0, seed=1) == 20
    rows = load(place, backend, schema)
    assert (rows["target"] != rows["prediction"]).all()
    assert set(rows["target"]) <= set(schema.classes)


def test_versions_follow_each_other_and_go_back(place, release, schema, record):
    backend = place.make()
    backend.deploy(release("1"))
    backend.deploy(release("2"))
    status = backend.status()
    assert (status.version, status.previous, status.running) == ("2", "1", True)
    assert backend.invoke([record]).model_version == "2"

    # the same once more changes nothing
    backend.deploy(release("2"))
    assert (backend.status().version, backend.status().previous) == ("2", "1")

    assert backend.rollback() == "1"
    status = backend.status()
    assert (status.version, status.previous, status.running) == ("1", "2", True)
    assert backend.invoke([record]).model_version == "1"
    assert list(load(place, backend, schema)["model_version"]) == ["1", "2"]

    assert backend.rollback() == "2"
    assert backend.invoke([record]).model_version == "2"


def test_version_that_does_not_load_leaves_the_former_one(place, serving, release, record):
    broken = release("2")
    (broken.path / ARTIFACTS / GRAPH).write_bytes(b"no graph")

    with pytest.raises(ModelError):
        serving.deploy(broken)

    assert serving.status().version == "1"
    assert serving.invoke([record]).model_version == "1"


def test_save_keeps_its_promise(place, serving, schema, record):
    """Local stores what it is given; SageMaker has captured it already."""
    assert serving.save([]) is None
