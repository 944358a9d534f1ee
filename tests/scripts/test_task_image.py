"""The folder that the tasks' image is built from, and what its Dockerfile promises Metaflow."""

import importlib.metadata
import re
import shutil
import subprocess

import pytest

from inference.errors import ConfigurationError
from scripts import task_image

ADDRESS = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/rookery/tasks:1"
pytestmark = pytest.mark.skipif(
    shutil.which("uv") is None, reason="uv is not on PATH; `./justw test` puts it there"
)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A build context."""
    target = tmp_path_factory.mktemp("context") / "tasks"
    task_image.write_context(target)
    return target


@pytest.fixture(scope="module")
def dockerfile(context) -> str:
    """The Dockerfile without its comments, one instruction a line."""
    lines = (context / "Dockerfile").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")


def test_image_installs_what_is_installed_here_and_nothing_of_development(context):
    lines = (context / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:", line) for line in lines)
    assert not any("://" in line for line in lines)
    pinned = dict(line.split(" ")[0].split("==") for line in lines)
    wanted = {"metaflow", "mlflow", "tensorflow", "onnxruntime", "evidently", "boto3", "requests"}
    assert pinned.keys() >= wanted
    # the code of the project comes with each task; an installed copy would be used instead of it
    assert not pinned.keys() & {"rookery", "pytest", "moto", "ruff", "pyright"}
    for name in wanted:
        assert importlib.metadata.version(name) == pinned[name]


def test_metaflow_finds_its_packages_and_may_unpack_code(dockerfile):
    last = dockerfile.split("FROM ")[-1]
    variables = re.search(r"^ENV (.*)$", last, re.MULTILINE)[1].split()
    assert {"METAFLOW_SKIP_INSTALL_DEPENDENCIES=1", "PATH=/opt/venv/bin:$PATH"} < {*variables}
    user, group = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE).groups()
    workdir = re.search(r"^WORKDIR (\S+)$", last, re.MULTILINE)[1]
    assert int(user) > 0
    assert f"RUN install -d -o {user} -g {group} {workdir}" in last
    # Metaflow gives the whole command, and needs a shell for it
    assert not re.search(r"^(ENTRYPOINT|CMD)", last, re.MULTILINE)


def test_given_an_address_in_ecr_then_the_commands_push_there(context):
    lines = task_image.how_to(context, ADDRESS).splitlines()[1:]
    login = "aws ecr get-login-password --region eu-central-1"
    assert lines == [
        f"docker build --platform linux/amd64 --tag {ADDRESS} {context}",
        f"{login} | docker login --username AWS --password-stdin {ADDRESS.partition('/')[0]}",
        f"docker push {ADDRESS}",
    ]
    assert "push" not in task_image.how_to(context, task_image.IMAGE)


def test_given_a_file_in_its_place_then_the_error_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"file: cannot be written"):
        task_image.write_context(tmp_path / "file")


@pytest.mark.integration
def test_every_package_is_there_as_a_wheel(context):
    """The image has no compiler."""
    command = ["uv", "pip", "install", "--dry-run", "--quiet", "--require-hashes", "--no-build"]
    target = ["--target", str(context / "none"), "--python-platform", "x86_64-manylinux_2_28"]
    requirements = ["--requirement", str(context / "requirements.txt")]
    done = subprocess.run(
        [*command, *target, *requirements], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
