"""The MLflow server on EC2: who may reach it, and how a shell on it is opened."""

import ipaddress
import os
import shutil
from typing import NoReturn

from inference.aws import explained
from inference.errors import BackendError, ConfigurationError
from scripts.aws_account import Account, pem_path
from scripts.aws_local import MLFLOW

# no wider than the template allows
WIDEST = 8


def narrow(cidr: str) -> str:
    """Check a range of addresses.

    Raises:
        ConfigurationError: It is none, or holds half the internet.
    """
    example = "give the range that may reach the server, such as --cidr 203.0.113.7/32"
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        raise ConfigurationError(f"--cidr: {error}; {example}") from error
    if network.prefixlen < WIDEST:
        raise ConfigurationError(f"--cidr: {cidr} is open to strangers; {example}")
    return str(network)


def plan_of_mlflow(account: Account, cidr: str, pair: str | None) -> str:
    """Say what `mlflow` will do."""
    ports = "ports 5000 and 22" if pair else "port 5000"
    return "\n".join(
        [
            str(account),
            f"creates or updates the stack {MLFLOW}:",
            f"  an MLflow server on EC2 with {ports} open to {cidr} and to Batch's tasks",
            "  a volume for its database, an address, a secret with its password",
            "costs: about 22 USD a month (instance 15, address 4, volume 2, secret 0.4)",
            "  until `just aws-teardown`",
        ]
    )


def instance(account: Account) -> str:
    """Return the id of the running server.

    Raises:
        BackendError: None runs.
    """
    with explained("ec2:DescribeInstances", "the MLflow server"):
        found = account.client("ec2").describe_instances(
            Filters=[
                {"Name": "tag:project", "Values": [MLFLOW]},
                {"Name": "instance-state-name", "Values": ["running"]},
            ]
        )["Reservations"]
    running = [one["InstanceId"] for group in found for one in group["Instances"]]
    if not running:
        raise BackendError("no MLflow server runs; the next one starts within some minutes")
    return running[0]


def ssh_command(account: Account, server: dict[str, str]) -> list[str]:
    """Make the command that opens a shell with the key.

    Raises:
        ConfigurationError: There is no key, or the server does not know it.
    """
    path = pem_path(account)
    if not path.exists():
        raise ConfigurationError(f"{path} is missing; run `just aws-pem`, then `just aws-mlflow`")
    if not server.get("KeyName"):
        raise ConfigurationError("the server knows no key; run `just aws-mlflow` again")
    return ["ssh", "-i", str(path), f"ec2-user@{server['Address']}"]


def become(command: list[str]) -> NoReturn:
    """Become another program.

    Raises:
        ConfigurationError: It is not installed.
    """
    if shutil.which(command[0]) is None:
        extra = " with its Session Manager plugin" if command[0] == "aws" else ""
        raise ConfigurationError(f"{command[0]}{extra} is not installed; install it")
    os.execvp(command[0], command)  # noqa: S606 - whichever one the user has
