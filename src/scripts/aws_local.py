"""What `aws-setup` and `aws-mlflow` write on this machine: profiles, variables, settings."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from common import env_file
from scripts import aws_files
from scripts.aws_files import Edit

# Names of the stacks; the first is the beginning of all names in it.
PROJECT, MLFLOW = "rookery", "rookery-mlflow"
# Who works with the project: the role, taken by the user whose key is in the other profile.
PROFILE, USER_PROFILE = PROJECT, f"{PROJECT}-user"
PROFILES = (PROFILE, USER_PROFILE)
ROLE = re.compile(r"arn:[^:]*:iam::(\d+):role/")
KEY_NAMES: tuple[str, str] = ("aws_access_key_id", "aws_secret_access_key")
TAG = "latest"
# of .env, written by `aws-mlflow`
MLFLOW_NAMES = (
    "MLFLOW_SECRET",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME",
)


@dataclass(frozen=True)
class Access:
    """How the stack is reached, in the words of each file.

    Attributes:
        region: Where it is.
        found: What it puts out.
        endpoint: Name of the endpoint.
    """

    region: str
    found: Mapping[str, str]
    endpoint: str

    @property
    def variables(self) -> dict[str, str]:
        """For .env."""
        return {
            "AWS_PROFILE": PROFILE,
            "AWS_REGION": self.region,
            "BUCKET": self.found["Bucket"],
            "ENDPOINT_NAME": self.endpoint,
            "SAGEMAKER_ROLE": self.found["SagemakerRole"],
            "SERVING_IMAGE": f"{self.found['ServingRepository']}:{TAG}",
            "TASK_IMAGE": f"{self.found['TaskRepository']}:{TAG}",
        }

    @property
    def profile(self) -> dict[str, str]:
        """For AWS's config."""
        return {
            "role_arn": self.found["PeopleRole"],
            "source_profile": USER_PROFILE,
            "region": self.region,
        }

    @property
    def metaflow(self) -> dict[str, str]:
        """For Metaflow's profile `production`."""
        root = f"s3://{self.found['Bucket']}/metaflow"
        return {
            "METAFLOW_DEFAULT_DATASTORE": "s3",
            "METAFLOW_DATASTORE_SYSROOT_S3": root,
            "METAFLOW_DATATOOLS_S3ROOT": f"{root}/data",
            "METAFLOW_BATCH_JOB_QUEUE": self.found["JobQueue"],
            "METAFLOW_BATCH_CONTAINER_IMAGE": f"{self.found['TaskRepository']}:{TAG}",
            "METAFLOW_ECS_S3_ACCESS_IAM_ROLE": self.found["TaskRole"],
            "METAFLOW_ECS_FARGATE_EXECUTION_ROLE": self.found["TaskExecutionRole"],
            "METAFLOW_SFN_IAM_ROLE": self.found["StepFunctionsRole"],
            "METAFLOW_EVENTS_SFN_ACCESS_IAM_ROLE": self.found["EventsRole"],
            "METAFLOW_SFN_DYNAMO_DB_TABLE": self.found["Table"],
            # the roles allow names that begin so
            "METAFLOW_SFN_STATE_MACHINE_PREFIX": PROJECT,
            "METAFLOW_DEFAULT_SECRETS_BACKEND_TYPE": "aws-secrets-manager",
            "METAFLOW_AWS_SECRETS_MANAGER_DEFAULT_REGION": self.region,
        }


@dataclass(frozen=True)
class Files:
    """The files that are written, as they were when the command began.

    Attributes:
        env: Variables of the project.
        credentials: AWS's: the user's key.
        config: AWS's: the role.
        metaflow: Metaflow's profile `production`.
    """

    env: Edit
    credentials: Edit
    config: Edit
    metaflow: Edit

    @classmethod
    def open(cls) -> Self:
        """Read them all.

        Raises:
            ConfigurationError: One cannot be read, could not be written, or is damaged.
        """
        aws = Path("~/.aws")
        metaflow = Path(os.environ.get("METAFLOW_HOME") or "~/.metaflowconfig")
        env, credentials, config, flows = (
            Edit.open(path)
            for path in (
                env_file(),
                Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or aws / "credentials"),
                Path(os.environ.get("AWS_CONFIG_FILE") or aws / "config"),
                metaflow / "config_production.json",
            )
        )
        current = aws_files.variables(env.text)
        ours = current.get("AWS_PROFILE") == PROFILE or current.get("MLFLOW_SECRET") == MLFLOW
        key = aws_files.section(credentials.text, USER_PROFILE)
        role = aws_files.section(config.text, f"profile {PROFILE}")
        root = aws_files.read_json(flows).get("METAFLOW_DATASTORE_SYSROOT_S3") or ""
        return cls(
            replace(env, touched=ours),
            replace(credentials, touched=bool(key)),
            replace(config, touched=role.get("source_profile") == USER_PROFILE),
            replace(flows, touched=str(root).startswith(f"s3://{PROJECT}-")),
        )

    @property
    def paths(self) -> list[Path]:
        """Where they are."""
        return [edit.path for edit in (self.env, self.credentials, self.config, self.metaflow)]

    @property
    def key(self) -> str | None:
        """Id of the user's access key that this machine has."""
        return aws_files.section(self.credentials.text, USER_PROFILE).get(KEY_NAMES[0])

    def write(self, access: Access, secret: tuple[str, str] | None) -> list[str]:
        """Write how the stack is reached; return what changed, in lines for people.

        Args:
            access: What to write.
            secret: A new access key; None leaves the one that is there.

        Raises:
            ConfigurationError: A file cannot be written; none was changed.
        """
        credentials = self.credentials
        if secret:
            pairs = dict(zip(KEY_NAMES, secret, strict=True))
            credentials = credentials.to(
                aws_files.set_section(credentials.text, USER_PROFILE, pairs)
            )
        config = aws_files.set_section(self.config.text, f"profile {PROFILE}", access.profile)
        return self._commit(
            self.env.to(aws_files.set_variables(self.env.text, access.variables)),
            credentials,
            self.config.to(config),
            aws_files.set_keys(self.metaflow, access.metaflow),
        )

    def write_mlflow(self, server: Mapping[str, str], account: Mapping[str, str]) -> list[str]:
        """Write how the MLflow server is reached; return what changed, in lines for people.

        Args:
            server: What its stack puts out.
            account: Its secret: variables with user and password.
        """
        values = {"MLFLOW_SECRET": server["Secret"], "MLFLOW_TRACKING_URI": server["TrackingUri"]}
        values |= {name: account[name] for name in MLFLOW_NAMES if name not in values}
        return self._commit(self.env.to(aws_files.set_variables(self.env.text, values)))

    def others(self, number: str, region: str) -> list[str]:
        """Name the accounts and regions but this one that profile and variables lead to."""
        role, current = aws_files.section(self.config.text, f"profile {PROFILE}"), self._variables
        found = []
        if self.config.touched:
            found.append((role.get("role_arn"), role.get("region")))
        if current.get("AWS_PROFILE") == PROFILE:
            found.append((current.get("SAGEMAKER_ROLE"), current.get("AWS_REGION")))
        # what is not known is no other place
        places = {(owner(arn or "") or number, where or region) for arn, where in found}
        return [f"account {a}, region {r}" for a, r in sorted(places - {(number, region)})]

    def without(self, access: Access | None, number: str, region: str) -> list[Edit]:
        """Return what takes out again what was written, where it still says the same.

        Args:
            access: What was written; None where the stack is gone, and names have to do.
            number: The account of that stack; where the files lead to another one, they stay.
            region: Its region; likewise.
        """
        if self.others(number, region):
            return []
        current, values = self._variables, dict[str, str | None]()
        if current.get("MLFLOW_SECRET") == MLFLOW:
            values |= dict.fromkeys(MLFLOW_NAMES)
        anything = Access("", defaultdict(str), "")
        keys: dict[str, str | None] = {}
        if access:
            values |= access.variables
            keys |= access.metaflow
        elif current.get("AWS_PROFILE") == PROFILE:
            values |= dict.fromkeys(anything.variables)
            keys |= dict.fromkeys(anything.metaflow)
        # a line that said the same before is not ours
        before = aws_files.variables(self.env.original())
        values = {
            name: value
            for name, value in values.items()
            if name not in before or before[name] != current.get(name)
        }
        config = self.config
        if config.touched:
            section = f"profile {PROFILE}"
            config = config.to(aws_files.drop_section(config.text, section, [*anything.profile]))
        credentials = aws_files.drop_section(self.credentials.text, USER_PROFILE, KEY_NAMES)
        edits = [
            self.env.to(aws_files.drop_variables(self.env.text, values)),
            self.credentials.to(credentials),
            config,
            aws_files.drop_keys(self.metaflow, keys),
        ]
        return [edit for edit in edits if edit.before != edit.after]

    @property
    def _variables(self) -> dict[str, str]:
        return aws_files.variables(self.env.text)

    def _commit(self, *edits: Edit) -> list[str]:
        new = aws_files.variables(edits[0].text)
        replaced = [
            name for name, value in self._variables.items() if value and new.get(name) != value
        ]
        note = f"; it had other values of {', '.join(sorted(replaced))}" if replaced else ""
        return [
            f"{path} is written{note if path == self.env.path else ''}"
            for path in aws_files.commit(edits)
        ]


def owner(arn: str) -> str | None:
    """Return the account of a role."""
    found = ROLE.match(arn)
    return found[1] if found else None
