"""The whole circle on a local AWS, from `aws-setup` to `aws-teardown`."""

import json
import time
from pathlib import Path

import psutil

from inference.errors import BackendError
from scripts.rehearsal.place import Place
from scripts.rehearsal.stage import USER, Stage
from scripts.steps import console, run_step

ENDPOINT = "penguins"
# what is rehearsed is the way, not the model; each further task would import TensorFlow anew
SMALL = ("--folds", "2", "--parallel", "1")
# files in which a secret is at home
AT_HOME = {"credentials", ".env"}


def run_circle(place: Place) -> int:
    """Go round once, each step with its log, and check that nothing is left.

    Raises:
        BackendError: A step failed, or something is left.
    """
    began = time.monotonic()
    place.clear()
    console.print(f"The whole circle on a local stand-in for AWS, in [bold]{place.folder}[/]\n")
    with Stage(place) as stage:
        Circle(stage).run()
        children = psutil.Process(stage.aws.pid).children(recursive=True)
    left = [child for child in children if child.is_running()]
    if left:
        raise BackendError(f"processes are left: {left}")
    console.print("[green]✓[/] no process is left")
    console.print(f"took {time.monotonic() - began:.0f} s")
    return 0


class Circle:
    """One round."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._place = stage, stage.place
        self._secrets: set[str] = set()

    def run(self) -> None:
        """Do all steps."""
        self._step("aws-setup", USER, "--yes")
        self._step("aws-mlflow", "--cidr", "127.0.0.1/32", "--yes")
        # while they are there: `aws-teardown` removes them
        self._secrets = self._place.secrets()
        self._stage.start_mlflow()
        self._step("train", *SMALL)
        self._step("sagemaker-deploy", "--yes")
        self._step("sagemaker-sample")
        self._step("sagemaker-traffic")
        self._stage.aws.flush()
        self._step("sagemaker-labels")
        self._step("sagemaker-monitor")
        self._step("aws-train", "--yes", *SMALL)
        self._step("sagemaker-deploy", "--yes", title="sagemaker-deploy of version 2")
        self._expect_version("2")
        self._step("sagemaker-rollback")
        self._expect_version("1")
        self._step("sagemaker-delete", "--yes")
        self._step("aws-teardown", "--yes")
        self._expect_nothing()
        self._expect_silence()

    def _step(self, *words: str, title: str = "") -> None:
        self._run(title or words[0], self._place.recipe(*words))

    def _run(self, title: str, command: list[str]) -> str:
        return run_step(title, command, self._stage.environment, self._place.logs / "steps")

    def _expect_version(self, version: str) -> None:
        """Check what the endpoint serves.

        Raises:
            BackendError: It is another version.
        """
        sagemaker = self._stage.aws.client("sagemaker")
        config = sagemaker.describe_endpoint(EndpointName=ENDPOINT)["EndpointConfigName"]
        if not config.startswith(f"{ENDPOINT}-v{version}-"):
            raise BackendError(f"the endpoint serves {config}, not version {version}")

    def _expect_nothing(self) -> None:
        """Check that AWS is as empty as before.

        Raises:
            BackendError: Something is left.
        """
        aws = self._stage.aws
        sagemaker = aws.client("sagemaker")
        stacks = aws.client("cloudformation").describe_stacks()["Stacks"]
        left = {
            "endpoints": sagemaker.list_endpoints()["Endpoints"],
            "endpoint configurations": sagemaker.list_endpoint_configs()["EndpointConfigs"],
            "models": sagemaker.list_models()["Models"],
            "alarms": aws.client("cloudwatch").describe_alarms()["MetricAlarms"],
            "buckets": aws.client("s3").list_buckets()["Buckets"],
            "stacks": [one for one in stacks if one["StackStatus"] != "DELETE_COMPLETE"],
            "users": aws.client("iam").list_users()["Users"],
        }
        if found := {kind: things for kind, things in left.items() if things}:
            raise BackendError(f"left in AWS: {json.dumps(found, default=str)}")
        console.print(f"[green]✓[/] nothing is left in AWS: no {', '.join(left)}")

    def _expect_silence(self) -> None:
        """Check that no file holds a secret that is not at home there.

        Raises:
            BackendError: One does.
        """
        files = [path for path in self._place.folder.rglob("*") if path.is_file()]
        told = [path for path in files if not at_home(path) and self._tells(path)]
        if told:
            raise BackendError(f"a secret is in {', '.join(map(str, told))}")
        console.print(f"[green]✓[/] none of {len(self._secrets)} secrets is in {len(files)} files")

    def _tells(self, path: Path) -> bool:
        content = path.read_bytes()
        return any(secret.encode() in content for secret in self._secrets)


def at_home(path: Path) -> bool:
    """Whether a file is one that secrets are kept in, or the copy of one."""
    return any(path.name.startswith(name) for name in AT_HOME)
