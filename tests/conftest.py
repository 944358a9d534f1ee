"""What the tests of several rooms share: the penguins' schema, small real models, a backend."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from xdist.scheduler import LoadScopeScheduling

from common import ROOT, settings
from inference import launcher
from inference.backend import Release
from inference.engine import GRAPH, OUTPUT
from inference.local import ARTIFACTS, Local, LocalSettings
from inference.predictor import SCHEMA
from inference.schema import Schema

# Set to nothing, not removed: what a test starts would find them in .env again.
PERSONAL = (
    *("AGENT_API_BASE", "AGENT_MODEL", "ALERT_URLS", "DATASET"),
    *("EMBEDDING_API_BASE", "EMBEDDING_MODEL", "ENDPOINT_URL"),
    *("METAFLOW_PROFILE", "MLFLOW_SECRET", "MLFLOW_TRACKING_URI", "MODEL_BACKEND"),
    *(
        "PLAYER_O",
        "PLAYER_X",
        "ROOKERY_CONFIG",
        "ROOKERY_ENGINE",
        "ROOKERY_STATE",
        "STYLE_O",
        "STYLE_X",
    ),
)
# How Metaflow is given `--folds 2 --parallel 1`, which halve the work of a training: tests run side
# by side already, and tests/pipelines/test_training.py sees to the usual five folds.
QUICK = {"METAFLOW_RUN_FOLDS": "2", "METAFLOW_RUN_PARALLEL": "1"}
# Files whose tests share a workshop, which takes a training to make.
WORKSHOP = ("test_training", "test_loop", "test_monitoring", "test_package", "test_repair")
# What takes minutes, the longest first.
LONGEST = (
    *("guide", "workshop", "test_rehearse", "test_scale_out", "test_interrupt"),
    *("parcels", "wine", "breast_cancer", "test_deployment"),
)
# How much more the favourite class of a small model weighs than the others, before the softmax.
FAVOUR = 5.0


class Groups(LoadScopeScheduling):
    """Lets a process of its own run what belongs together.

    pytest-xdist's marks for this have no effect with pytest 9.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    """Let `just test` run groups of tests side by side."""
    return Groups(config, log)


def group(nodeid: str) -> str:
    """Return what a test runs together with: its file, or those that share something costly."""
    file, _, name = nodeid.partition("::")
    stem = Path(file).stem
    if file.startswith("tests/pipelines/") and stem in WORKSHOP:
        return "workshop"
    if stem == "test_blocks" and name.startswith("test_commands_do"):
        return "guide"
    if stem == "test_tables":
        # each has a workshop of its own
        return name.partition("[")[2].partition("-")[0]
    return stem if stem in LONGEST else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that no process waits at the end; the quick ones come last."""
    place = {name: position for position, name in enumerate(LONGEST)}
    quick = len(LONGEST) + 1

    def order(item: pytest.Item) -> int:
        slow = item.get_closest_marker("integration") is not None
        return place.get(group(item.nodeid), len(LONGEST) if slow else quick)

    items.sort(key=order)


@pytest.fixture(scope="session", autouse=True)
def _nobodys_environment() -> Iterator[None]:
    """Keep the settings of whoever runs the tests away from them, and trainings short."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (dict.fromkeys(PERSONAL, "") | QUICK).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def schema(_nobodys_environment) -> Schema:
    """The penguins' schema."""
    return settings.load(ROOT / "config" / "local.yml").dataset.schema


@pytest.fixture(scope="session")
def record() -> dict:
    """A penguin."""
    return {
        "island": "Biscoe",
        "culmen_length_mm": 48.5,
        "culmen_depth_mm": 15.0,
        "flipper_length_mm": 219.0,
        "body_mass_g": 4850.0,
        "sex": "FEMALE",
    }


@pytest.fixture(scope="session")
def make_model(schema) -> Callable[..., Path]:
    """Write a model's folder: `make_model(folder, favourite=1)` and it prefers the second class.

    Where every value is missing, the favourite's logit is FAVOUR and the others' are 0.
    """
    penguins = schema

    def make(folder: Path, favourite: int = 0, schema: Schema = penguins) -> Path:
        bias = FAVOUR * np.eye(len(schema.classes), dtype=np.float32)[favourite]
        folder.mkdir(parents=True)
        (folder / GRAPH).write_bytes(make_graph(schema, bias))
        schema.write(folder / SCHEMA)
        return folder

    return make


def make_graph(schema: Schema, bias: np.ndarray) -> bytes:
    """Build impute, scale, encode and a softmax layer over all features as an ONNX graph."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - one second

    nodes, inputs, constants, prepared = [], [], [], []

    def constant(name: str, value: object) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    for place, (name, feature) in enumerate(schema.features.items()):
        prepared.append(f"prepared {place}")
        if feature.kind == "category":
            inputs.append(helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]))
            codes = np.linspace(0.5, 1, len(feature.categories))
            nodes.append(
                helper.make_node(
                    "LabelEncoder",
                    [name],
                    prepared[-1:],
                    domain="ai.onnx.ml",
                    keys_strings=list(feature.categories),
                    values_floats=codes.tolist(),
                    default_float=0.0,
                )
            )
            continue
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]))
        low, high = feature.range or (-1, 1)
        middle = constant(f"middle {place}", (low + high) / 2)
        span = constant(f"span {place}", high - low)
        nodes += [
            helper.make_node("IsNaN", [name], [f"missing {place}"]),
            helper.make_node("Where", [f"missing {place}", middle, name], [f"full {place}"]),
            helper.make_node("Sub", [f"full {place}", middle], [f"centred {place}"]),
            helper.make_node("Div", [f"centred {place}", span], prepared[-1:]),
        ]
    shape = (len(prepared), len(schema.classes))
    weights = constant("weights", np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape))
    nodes += [
        helper.make_node("Concat", prepared, ["joined"], axis=1),
        helper.make_node("MatMul", ["joined", weights], ["weighed"]),
        helper.make_node("Add", ["weighed", constant("bias", bias)], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT], axis=1),
    ]
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, shape[1]])
    model = helper.make_model(
        helper.make_graph(nodes, "small", inputs, [output], constants),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=10,
    )
    return model.SerializeToString()


@pytest.fixture(scope="session")
def release(make_model, tmp_path_factory) -> Callable[..., Release]:
    """Make a version as the registry hands it over: `release("2")` favours the third class."""

    def make(version: str) -> Release:
        path = tmp_path_factory.mktemp(f"release-{version}-")
        model = make_model(path / ARTIFACTS, favourite=int(version) % 3)
        assert model.is_relative_to(path)
        return Release(version, f"run-{version}", path)

    return make


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Find a port of this machine on which nothing listens."""

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as server:
            return server.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def make_local(free_port) -> Callable[..., Local]:
    """Make a Local backend below a folder, on a free port; whoever starts its server stops it."""

    def make(folder: Path, **settings: object) -> Local:
        target = f"http://127.0.0.1:{free_port()}"
        place = {"database": folder / "captured.db", "serving": folder / "serving"}
        return Local(LocalSettings(**{"target": target, "workers": 1, **place, **settings}))

    return make


@pytest.fixture
def local(make_local, tmp_path) -> Iterator[Local]:
    """A Local backend with nothing in it; its server, if a test starts one, is stopped."""
    backend = make_local(tmp_path)
    yield backend
    launcher.stop(backend.folder)


@pytest.fixture(scope="session")
def _empty_store(tmp_path_factory) -> Path:
    """An MLflow store in SQLite with nothing in it: to make one takes seconds, to copy it none."""
    import mlflow  # noqa: PLC0415 - 4 s that only tests of the registry pay

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def mlflow_store(_empty_store, tmp_path, monkeypatch) -> Path:
    """An MLflow store of its own, in SQLite, that MLflow uses during this test."""
    import mlflow  # noqa: PLC0415 - see _empty_store

    path = tmp_path / "mlflow.db"
    shutil.copy(_empty_store, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    yield path
    mlflow.set_tracking_uri(None)


@pytest.fixture
def make_version(mlflow_store, release):
    """Register a small model: `make_version()` is the first version, the challenger."""
    import mlflow  # noqa: PLC0415 - see _empty_store

    client = mlflow.MlflowClient()

    def make(name: str = "penguins", reference=None):
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        number = len(client.search_model_versions(f"name='{name}'")) + 1
        folder = release(str(number)).path
        if reference is not None:
            reference.to_parquet(folder / ARTIFACTS / "reference.parquet")
        version = client.create_model_version(name, folder.as_uri(), tags={"accuracy": "0.97"})
        client.set_registered_model_alias(name, "challenger", version.version)
        return client.get_model_version(name, version.version)

    return make


@pytest.fixture(scope="session")
def _moto_url(tmp_path_factory) -> Iterator[str]:
    """Where moto answers in place of AWS."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - 3 s

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto(_moto_url, tmp_path, monkeypatch) -> str:
    """URL of an empty AWS over HTTP; boto3 and what a test starts find it by the environment."""
    import requests  # noqa: PLC0415 - few tests need it

    requests.post(f"{_moto_url}/moto-api/reset", timeout=10).raise_for_status()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": _moto_url,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # nobody's own profiles
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_REGION": "us-east-1",
        # nor anybody's .env, which what a test starts would read
        "ROOKERY_ENV_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    return _moto_url
