"""Who asks AWS, where; and the keys of people."""

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from inference.aws import client, explained
from inference.errors import BackendError, ConfigurationError
from scripts import aws_local
from scripts.aws_local import PROJECT

# seconds that IAM takes to make a new key known everywhere
KEY_PATIENCE = 60
KEY_PAUSE = 3


class Account(NamedTuple):
    """Who asks, where.

    Attributes:
        number: The account's, twelve digits.
        region: Such as us-east-1.
        caller: ARN of whoever asks.
    """

    number: str
    region: str
    caller: str

    @classmethod
    def open(cls, region: str | None, *, administrator: bool = True) -> "Account":
        """Find out who asks.

        Args:
            region: Where; None leaves it to the settings.
            administrator: Do not ask under the profile that `setup` wrote into .env: it may use
                what there is, and make nothing.

        Raises:
            ConfigurationError: There are no credentials.
            BackendError: They are no good.
        """
        from botocore.exceptions import NoCredentialsError  # noqa: PLC0415 - 0.4 s

        if administrator and os.environ.get("AWS_PROFILE") in aws_local.PROFILES:
            del os.environ["AWS_PROFILE"]
        region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        sts = client("sts", region)
        try:
            with explained("sts:GetCallerIdentity", "this account"):
                identity = sts.get_caller_identity()
        except BackendError as error:
            if isinstance(error.__cause__, NoCredentialsError):
                raise ConfigurationError(
                    "sts:GetCallerIdentity of this account: there are no AWS credentials; set"
                    " AWS_PROFILE to a profile that may make users and roles (`aws configure` and"
                    " `aws configure sso` write one)"
                ) from error
            raise
        return cls(identity["Account"], sts.meta.region_name, identity["Arn"])

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3's
        """Return a client of a service there."""
        return client(service, self.region)

    def __str__(self) -> str:
        """Say it for people."""
        return f"account {self.number}, region {self.region}, as {self.caller}"


def key_pair(account: Account) -> str | None:
    """Return the name of the key pair that `pem` made; None where it made none."""
    with explained("ec2:DescribeKeyPairs", f"key pair {PROJECT}"):
        pairs = account.client("ec2").describe_key_pairs(
            Filters=[
                {"Name": "key-name", "Values": [PROJECT]},
                {"Name": "tag:project", "Values": [PROJECT]},
            ]
        )["KeyPairs"]
    return PROJECT if pairs else None


def pem_path(account: Account) -> Path:
    """Return where the private key is."""
    return Path.home() / ".ssh" / f"{PROJECT}-{account.region}.pem"


def new_key(account: Account, user: str, local: aws_local.Files) -> tuple[str, str] | None:
    """Make an access key of the user, unless this machine has one that is good.

    Returns:
        Its id and its secret half; None where none was made.
    """
    iam = account.client("iam")
    with explained("iam:ListAccessKeys", f"user {user}"):
        keys = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    active = {key["AccessKeyId"] for key in keys if key["Status"] == "Active"}
    if local.key in active:
        return None
    with explained("iam:CreateAccessKey", f"user {user}"):
        key = iam.create_access_key(UserName=user)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def await_key(account: Account) -> None:
    """Wait until the profile works: IAM tells its other places of a new key in its own time.

    Raises:
        BackendError: It does not after a minute.
    """
    import boto3  # noqa: PLC0415 - 0.4 s
    from botocore.exceptions import ClientError  # noqa: PLC0415

    end = time.monotonic() + KEY_PATIENCE
    while True:
        with explained("sts:AssumeRole", f"profile {aws_local.PROFILE}"):
            try:
                session = boto3.Session(profile_name=aws_local.PROFILE, region_name=account.region)
                session.client("sts").get_caller_identity()
            except ClientError:
                if time.monotonic() > end:
                    raise
            else:
                return
        time.sleep(KEY_PAUSE)


def drop_keys(account: Account, user: str) -> None:
    """Remove a user's access keys: the stack did not make them, and fails where there are any."""
    iam = account.client("iam")
    with explained("iam:DeleteAccessKey", f"user {user}"):
        for key in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
