"""The folder that an image is built from; and, without Docker, what its Dockerfile makes of it."""

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil
import pytest
import requests
import typer
from typer.testing import CliRunner

from common import ROOT
from inference.backend import Release
from inference.container import ContainerRelease
from inference.engine import GRAPH
from inference.errors import ConfigurationError, ModelError
from inference.local import ARTIFACTS
from inference.predictor import SCHEMA
from scripts import image

UV = shutil.which("uv")
needs_uv = pytest.mark.skipif(UV is None, reason="uv is not on PATH; `./justw test` puts it there")
SECONDS = 60.0


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in found}


@pytest.fixture
def write(tmp_path, release, make_local):
    """Write the context of a version, or of a release: `write("2")`."""

    def write(version: str | Release, target: Path = tmp_path / "out" / "image") -> Path:
        made = release(version) if isinstance(version, str) else version
        settings = make_local(tmp_path, max_rows=7).server_settings()
        image.write_context(target, "penguins", made, settings)
        return target

    return write


@needs_uv
def test_a_context_holds_what_serving_needs(write, schema):
    context = write("2")
    assert {path.name for path in context.iterdir()} == {
        "Dockerfile",
        "inference",
        "model",
        "requirements.txt",
    }
    assert {path.name for path in (context / "model").iterdir()} == {GRAPH, SCHEMA, image.RELEASE}
    assert "__pycache__" not in {path.name for path in (context / "inference").iterdir()}
    told = ContainerRelease.read(context / "model" / image.RELEASE)
    assert (told.version, told.run_id, told.settings.max_rows) == ("2", "run-2", 7)
    labels = (context / "Dockerfile").read_text().splitlines()[-3:]
    assert labels == [
        'LABEL org.opencontainers.image.title="penguins"',
        'LABEL org.opencontainers.image.version="2"',
        'LABEL org.opencontainers.image.revision="run-2"',
    ]


@needs_uv
def test_a_context_installs_the_same_anywhere(write):
    lines = (write("1") / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    assert all(re.match(r"[\w-]+==\S+ .*--hash=sha256:", line) for line in lines)
    assert {"gunicorn", "onnxruntime"} < {line.split("==")[0] for line in lines}
    assert not any("://" in line for line in lines)


@needs_uv
def test_a_context_tells_nothing_of_the_machine_that_wrote_it(write, tmp_path, monkeypatch):
    monkeypatch.setenv("SERVING_TOKEN", "open sesame")
    context = write("1")
    text = b"".join(path.read_bytes() for path in context.rglob("*") if path.is_file())
    for private in ("open sesame", str(tmp_path), str(ROOT)):
        assert private.encode() not in text


@needs_uv
def test_a_context_can_be_read_by_the_user_of_the_image(write):
    before = os.umask(0o077)
    try:
        context = write("1")
    finally:
        os.umask(before)
    for path in (context, *context.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@needs_uv
def test_given_a_context_then_it_is_replaced_as_a_whole(write):
    context = write("1")
    (context / "added").touch()
    write("2")
    assert not (context / "added").exists()
    assert ContainerRelease.read(context / "model" / image.RELEASE).version == "2"
    assert list(context.parent.iterdir()) == [context]


@needs_uv
def test_given_an_empty_folder_then_it_is_filled(write, tmp_path):
    target = tmp_path / "empty"
    target.mkdir()
    assert (write("1", target) / "Dockerfile").is_file()


@needs_uv
def test_given_a_model_that_does_not_load_then_the_context_of_before_stays(write, release):
    context = write("1")
    before = files(context)
    broken = release("2")
    (broken.path / ARTIFACTS / GRAPH).write_bytes(b"no graph")
    with pytest.raises(ModelError, match="not a graph"):
        write(broken)
    assert files(context) == before
    assert list(context.parent.iterdir()) == [context]


def test_given_no_model_then_nothing_is_written(write, tmp_path):
    with pytest.raises(ModelError, match=r"schema\.json: not a readable schema"):
        write(Release("1", "run", tmp_path / "none"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["a file", "a folder with a file"])
def test_given_something_else_then_it_is_left_alone(write, tmp_path, other):
    target = kept = tmp_path / "image"
    if other != "a file":
        target.mkdir()
        kept = target / "Dockerfile"
    kept.write_text("mine")
    with pytest.raises(ConfigurationError, match=r"is not what this command writes; .*--output"):
        write("1", target)
    assert kept.read_text() == "mine"


def test_given_a_place_that_cannot_be_written_then_the_error_names_it(write, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file/image: cannot be written"):
        write("1", tmp_path / "file" / "image")


def test_given_no_uv_then_the_error_says_what_to_run(write, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"no uv on PATH.*justw image"):
        write("1")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("project", "name"),
    [("penguins", "penguins"), ("My_Model-2", "my-model-2"), ("a__b-", "a-b"), ("Größe", "gr-e")],
)
def test_image_names_are_ones_that_docker_takes(project, name):
    assert image.image_name(project) == name


@pytest.mark.integration
@needs_uv
def test_command(release, tmp_path, monkeypatch, request):
    import mlflow  # noqa: PLC0415 - 4 s

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    # counts more than the variable, and other tests of this process may have set another
    mlflow.set_tracking_uri(uri)
    request.addfinalizer(partial(mlflow.set_tracking_uri, None))
    monkeypatch.setenv("ROOKERY_STATE", str(tmp_path))
    app = typer.Typer()
    app.command()(image.image)

    def run(*options: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, options)
        return result.exit_code, result.stdout, result.stderr

    reason = "error: the registry holds no model 'penguins'; run `just train`\n"
    assert run() == (1, "", reason)
    assert not (tmp_path / "image").exists()

    client = mlflow.MlflowClient(uri, uri)
    client.create_registered_model("penguins")
    for version in ("1", "2", "3"):
        client.create_model_version("penguins", str(release(version).path))
    client.set_registered_model_alias("penguins", "champion", "2")
    lines = (
        "version 2 is ready to be built and run:\n"
        f"docker build --tag penguins:2 {tmp_path / 'image'}\n"
        "docker run --rm --read-only --publish 127.0.0.1:8080:8080"
        " --volume penguins-captures:/captures --stop-timeout 35 penguins:2\n"
    )
    assert run() == (0, lines, "")
    other = tmp_path / "other"
    code, output, _ = run("--model-version", "1", "--output", str(other))
    assert (code, output.splitlines()[1]) == (0, f"docker build --tag penguins:1 {other}")
    for folder, version in ((tmp_path / "image", "2"), (other, "1")):
        assert ContainerRelease.read(folder / "model" / image.RELEASE).version == version


# What follows reads the Dockerfile as Docker would, for the instructions that it uses. Absolute
# paths lie below a folder, and the Python of the base image is the one that runs the tests.

BASE_PATH = "/usr/bin:/bin"
# given to what runs while an image is built: where uv finds its index and what it has downloaded
MACHINE = re.compile(r"UV_|PIP_|SSL_|.*_PROXY$|HOME$|XDG_", re.IGNORECASE)


@dataclass(frozen=True)
class Stage:
    """A stage of an image, and what its instructions have said up to now."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    told: dict[str, str] = field(default_factory=dict)

    def place(self, text: str) -> str:
        """Put an absolute path below the root; other text stays as it is."""
        return f"{self.root}{text}" if text.startswith("/") else text

    def words(self, instruction: str) -> list[str]:
        """Return the words of an instruction in exec form."""
        return json.loads(self.told[instruction][self.told[instruction].index("[") :])

    def command(self, *words: str) -> list[str]:
        """Return a command, ready to be run."""
        program = shutil.which(words[0], path=self.environment["PATH"])
        assert program is not None
        return [program, *map(self.place, words[1:])]

    @property
    def workdir(self) -> str:
        return self.place(self.told["WORKDIR"])


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", "")
    return [
        (word, rest) for word, _, rest in (ln.partition(" ") for ln in text.split("\n")) if word
    ]


def build(context: Path, folder: Path) -> Stage:
    """Do what a Dockerfile says, and return its last stage."""
    stages: dict[str, Stage] = {}
    arguments = {}
    stage = None
    for instruction, rest in instructions(context / "Dockerfile"):
        match instruction:
            case "ARG":
                name, _, default = rest.partition("=")
                arguments[name] = default
            case "FROM":
                image_argument, _, name = rest.partition(" AS ")
                base = arguments[image_argument.removeprefix("${").removesuffix("}")]
                assert re.fullmatch(r"python:3\.1[1-3]-slim", base)
                stage = stages[name] = Stage(folder / (name or "final"))
                # as every container has it
                (stage.root / "dev" / "shm").mkdir(parents=True)
            case "COPY":
                copy(stages, stage, context, shlex.split(rest))
            case "RUN":
                run(stage, shlex.split(rest))
            case "ENV":
                for word in shlex.split(rest):
                    name, _, value = word.partition("=")
                    parts = ":".join(map(stage.place, value.split(":")))
                    stage.environment[name] = parts.replace("$PATH", BASE_PATH)
            case (
                "CMD"
                | "ENTRYPOINT"
                | "EXPOSE"
                | "HEALTHCHECK"
                | "STOPSIGNAL"
                | "USER"
                | "VOLUME"
                | "WORKDIR"
            ):
                stage.told[instruction] = rest
            case "LABEL":
                pass
            case _:
                pytest.fail(f"this test does not know the instruction {instruction}")
    return stage


def copy(stages: dict[str, Stage], stage: Stage, context: Path, words: list[str]) -> None:
    *options, origin, target = words
    source, target = context / origin, Path(stage.place(target))
    if options:
        [option] = options
        source = Path(stages[option.removeprefix("--from=")].place(origin))
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def run(stage: Stage, words: list[str]) -> None:
    # it is on PATH here
    if words == ["pip", "install", "--no-cache-dir", "uv"]:
        return
    # only root gives folders away
    if words[0] == "install" and os.geteuid():
        words = [word for word in words if word not in ("-o", "-g", "10001")]
    machine = {name: value for name, value in os.environ.items() if MACHINE.match(name)}
    subprocess.run(
        [UV if words[0] == "uv" else words[0], *map(stage.place, words[1:])],
        env={**machine, **stage.environment, "UV_PYTHON": sys.executable},
        cwd=stage.root,
        check=True,
    )


@pytest.fixture(scope="module")
def built(release, make_local, tmp_path_factory) -> Stage:
    folder = tmp_path_factory.mktemp("image")
    settings = make_local(folder, max_rows=7).server_settings()
    image.write_context(folder / "context", "penguins", release("2"), settings)
    return build(folder / "context", folder)


@pytest.mark.integration
@needs_uv
def test_image_is_not_larger_than_the_dockerfile_says(built):
    limit = re.search(r"a test holds it below (\d+)\.", image.DOCKERFILE.read_text())
    size = sum(path.lstat().st_size for path in built.root.rglob("*"))
    assert size < int(limit[1]) * 1e6


@pytest.mark.integration
@needs_uv
def test_user_of_the_image_can_read_all_of_it_and_write_captures_alone(built):
    user, group = map(int, built.told["USER"].split(":"))
    assert user > 0 < group
    captures = built.root / "captures"
    if os.geteuid() == 0:
        assert (captures.stat().st_uid, captures.stat().st_gid) == (user, group)
    for path in built.root.rglob("*"):
        # every container has its own /dev; uv leaves an empty file behind
        mine = path.relative_to(built.root).parts[0] in ("captures", "dev")
        if mine or path.is_symlink() or path.name == ".lock":
            continue
        mode = path.stat().st_mode & 0o007
        assert mode == 0o005 if path.is_dir() else mode in (0o004, 0o005), path


@pytest.mark.integration
@needs_uv
def test_image_holds_no_library_of_training(built):
    heavy = ["tensorflow", "keras", "sklearn", "mlflow", "pandas", "onnx", "skops", "metaflow"]
    script = (
        "import importlib.util as u, json, sys;"
        "print(json.dumps([n for n in [*sys.argv[1:], 'onnxruntime'] if u.find_spec(n)]))"
    )
    answer = subprocess.run(
        [shutil.which("python", path=built.environment["PATH"]), "-c", script, *heavy],
        env=built.environment,
        cwd=built.workdir,
        check=True,
        capture_output=True,
    )
    assert json.loads(answer.stdout) == ["onnxruntime"]


@pytest.mark.integration
@needs_uv
def test_image_serves(built, free_port, record):
    assert built.environment["HOST"] == "0.0.0.0"  # noqa: S104 - see the Dockerfile
    assert built.environment["PORT"] == built.told["EXPOSE"]
    own = {
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        # a second one could still be starting when the first is healthy
        "WORKERS": "1",
        # /ping, and with it the health check, needs none
        "SERVING_TOKEN": "open sesame",
    }
    stage = replace(built, environment={**built.environment, **own})
    url = f"http://127.0.0.1:{own['PORT']}"

    def healthy() -> bool:
        check = subprocess.run(
            stage.command(*stage.words("HEALTHCHECK")),
            env=stage.environment,
            cwd=stage.workdir,
            capture_output=True,
            check=False,
        )
        return check.returncode == 0

    assert not healthy()
    before = files(stage.root)
    words = [*stage.words("ENTRYPOINT"), *stage.words("CMD")]
    server = psutil.Popen(stage.command(*words), env=stage.environment, cwd=stage.workdir)
    family = [server]
    try:
        deadline = time.monotonic() + SECONDS
        while not healthy():
            assert server.poll() is None
            assert time.monotonic() < deadline
        workers = server.children()
        family += workers
        assert len(workers) == 1
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(f"{url}/ping").status_code == 200
            version = session.get(f"{url}/version").json()
            assert [version[k] for k in ("model_version", "run_id", "engine")] == [
                "2",
                "run-2",
                "onnx",
            ]
            body = {"dataframe_records": [record]}
            assert session.post(f"{url}/invocations", json=body).status_code == 401
            session.headers["authorization"] = "Bearer open sesame"
            named = {"x-request-id": "nest-17"}
            answer = session.post(f"{url}/invocations", json=body, headers=named)
            assert answer.status_code == 200
            too_many = session.post(f"{url}/invocations", json={"dataframe_records": [record] * 8})
            assert too_many.status_code == 413
        with sqlite3.connect(stage.root / "captures" / "captured.db") as database:
            captured = database.execute("SELECT request_id, prediction FROM predictions").fetchall()
        assert captured == [("nest-17", answer.json()["predictions"][0]["prediction"])]

        server.send_signal(signal.Signals[stage.told["STOPSIGNAL"]])
        assert server.wait(SECONDS) == 0
        assert psutil.wait_procs(workers, timeout=5)[1] == []
    finally:
        for process in family:
            if process.is_running():
                process.kill()
        psutil.wait_procs(family, timeout=5)
    assert not healthy()
    changed = {name for name, state in files(stage.root).items() if before.get(name) != state}
    assert {Path(name).parts[0] for name in changed} == {"captures", "dev"}


@pytest.mark.integration
@needs_uv
def test_image_serves_what_sagemaker_gives_it(built, make_model, free_port, tmp_path, record):
    make_model(tmp_path / "model" / "artifacts" / "model")
    own = {"HOST": "127.0.0.1", "PORT": str(free_port()), "WORKERS": "1"}
    own |= {"MODEL_FOLDER": str(tmp_path / "model"), "MODEL_VERSION": "7", "MODEL_RUN_ID": "run-7"}
    words = built.command(*built.words("ENTRYPOINT"), "serve")
    # of the other test's server
    before = set(built.root.rglob("captured.db*"))
    server = psutil.Popen(words, env=built.environment | own, cwd=built.workdir)
    url = f"http://127.0.0.1:{own['PORT']}"
    try:
        with requests.Session() as session:
            session.trust_env = False
            deadline = time.monotonic() + SECONDS
            while not pings(session, url):
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            answer = session.post(f"{url}/invocations", json={"dataframe_records": [record]})
            counts = session.get(f"{url}/metrics").text
    finally:
        server.terminate()
        server.wait(SECONDS)
    assert answer.status_code == 200
    assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "model_version=7"
    # SageMaker captures; a database would fill the disk of the instance
    assert "rookery_captured_rows_total 0.0" in counts
    assert set(built.root.rglob("captured.db*")) == before


def pings(session: requests.Session, url: str) -> bool:
    try:
        return session.get(f"{url}/ping").status_code == 200
    except requests.ConnectionError:
        return False
