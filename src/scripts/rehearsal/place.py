"""Where a rehearsal keeps everything, and the environment in which nothing reaches beyond it."""

import configparser
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dotenv import dotenv_values

from common import ROOT, env_file
from scripts.rehearsal.aws import REGION

# What leads to somebody's own account, store or server.
PREFIXES = ("AWS_", "BOTO", "METAFLOW_", "MLFLOW_", "ROOKERY_")
NAMES = {
    "ALERT_URLS",
    "BUCKET",
    "DATASET",
    "ENDPOINT_NAME",
    "ENDPOINT_URL",
    "MODEL_BACKEND",
    "SAGEMAKER_ROLE",
    "SERVING_IMAGE",
    "TASK_IMAGE",
}
# What may stand in a .env too, and no command runs without.
NEEDED = {"HOME", "PATH"}
# The local AWS knows them no more than any others, and asks for no signature that is right.
ADMINISTRATOR = ("AKIAREHEARSAL0000000", "rehearsal-administrator-secret")


@dataclass(frozen=True)
class Place:
    """The folder of a rehearsal.

    Attributes:
        folder: Holds all that a rehearsal writes: logs, files of AWS and Metaflow, state, a home.
    """

    folder: Path

    @classmethod
    def default(cls) -> Self:
        """Return the one in $ROOKERY_STATE, or in .rookery."""
        return cls(ROOT / (os.environ.get("ROOKERY_STATE") or ".rookery") / "rehearsal")

    @property
    def env_file(self) -> Path:
        """The rehearsal's .env."""
        return self.folder / ".env"

    @property
    def credentials(self) -> Path:
        """AWS's file of access keys."""
        return self.folder / "aws" / "credentials"

    @property
    def logs(self) -> Path:
        """Folder of what servers, containers, jobs and steps print."""
        return self.folder / "logs"

    @property
    def address(self) -> Path:
        """File that says where the local AWS and MLflow of `just aws-rehearsal` listen."""
        return self.folder / "running.json"

    def prepare(self) -> None:
        """Make the folder, and the administrator's profile that `aws-setup` starts from."""
        for name in ("aws", "home", "metaflow", "state"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.env_file.touch(mode=0o600)
        if not self.credentials.exists():
            key, secret = ADMINISTRATOR
            self.credentials.touch(mode=0o600)
            self.credentials.write_text(
                f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n",
                encoding="utf-8",
            )

    def clear(self) -> None:
        """Remove all that an earlier rehearsal left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self, url: str, tracking_uri: str = "") -> dict[str, str]:
        """Return the variables of a command that is rehearsed.

        Args:
            url: Of the local AWS.
            tracking_uri: MLflow's store; by default a file of the rehearsal's.
        """
        home = Path.home()
        personal = NAMES | dotenv_values(env_file()).keys()
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in NEEDED or not (name.startswith(PREFIXES) or name in personal)
        }
        # tools of the set-up find their own things in the true home
        tools = {
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "UV_CACHE_DIR": str(home / ".cache" / "uv"),
        }
        return (
            tools
            | kept
            | {
                "HOME": str(self.folder / "home"),
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_CONFIG_FILE": str(self.folder / "aws" / "config"),
                "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials),
                "METAFLOW_HOME": str(self.folder / "metaflow"),
                "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.folder / "state"),
                # any value: it sends the cards where the rest of a run goes
                "METAFLOW_CARD_LOCALROOT": str(self.folder / "state"),
                "MLFLOW_TRACKING_URI": tracking_uri
                or f"sqlite:///{self.folder / 'state' / 'mlflow.db'}",
                "ROOKERY_ENV_FILE": str(self.env_file),
                "ROOKERY_STATE": str(self.folder / "state"),
            }
        )

    def recipe(self, *words: str) -> list[str]:
        """Return the command that runs a recipe with the rehearsal's .env."""
        just = shutil.which("just") or str(ROOT / "justw")
        files = ["--justfile", str(ROOT / "justfile"), "--dotenv-path", str(self.env_file)]
        return [just, *files, *words]

    def variables(self) -> dict[str, str]:
        """Read the rehearsal's .env."""
        return {name: value or "" for name, value in dotenv_values(self.env_file).items()}

    def secrets(self) -> set[str]:
        """Return all that nobody may see: secret halves of access keys, and passwords."""
        keys = configparser.ConfigParser()
        keys.read(self.credentials, encoding="utf-8")
        known = {
            value
            for section in keys.sections()
            for name, value in keys[section].items()
            if "secret" in name or "token" in name
        }
        known |= {value for name, value in self.variables().items() if "PASSWORD" in name}
        return known - {""}
