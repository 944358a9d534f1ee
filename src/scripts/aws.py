"""The project on AWS: set it up, add an MLflow server, open a shell there, take it all down."""

import json
import os
from typing import Annotated, Any, NoReturn

import typer

from common import ROOT
from inference.aws import explained
from inference.errors import ConfigurationError
from scripts import aws_files, aws_local, aws_removal, aws_server, aws_stacks
from scripts.ask import agree
from scripts.aws_account import Account, await_key, drop_keys, key_pair, new_key, pem_path
from scripts.aws_local import MLFLOW, PROJECT
from scripts.command_line import one_line_errors

TEMPLATES = ROOT / "cloud-formation"
ENDPOINT = "penguins"

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    # what a variable holds may be secret
    pretty_exceptions_enable=False,
)

REGION_HELP = "Region; AWS_REGION, or the profile's, unless given."
RegionArgument = Annotated[str | None, typer.Argument(metavar="REGION", help=REGION_HELP)]
RegionOption = Annotated[str | None, typer.Option("--region", help=REGION_HELP)]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


@app.command()
def setup(
    user: Annotated[str, typer.Argument(help="Name of the IAM user to make.")],
    region: RegionArgument = None,
    *,
    region_option: RegionOption = None,
    yes: Yes = False,
) -> None:
    """Make user, roles, bucket and Batch queue, and write how they are reached into local files."""
    with one_line_errors():
        # before anything is made: files that cannot be read or written would be found too late
        local = aws_local.Files.open()
        account = Account.open(region or region_option)
        cloudformation = account.client("cloudformation")
        stack = aws_stacks.describe(cloudformation, PROJECT)
        require_same_user(stack, user)
        known = aws_stacks.parameters(stack or {}).get("Endpoint")
        endpoint = os.environ.get("ENDPOINT_NAME") or known or ENDPOINT
        if endpoint != known:
            aws_removal.require_no_endpoint(account, stack)
        agree(plan_of_setup(account, user, local, new=stack is None), agreed=yes)
        found = aws_stacks.deploy(
            cloudformation,
            PROJECT,
            TEMPLATES / "project-cfn.yaml",
            {"User": user, "Endpoint": endpoint},
        )
        secret = new_key(account, user, local)
        try:
            # somebody may have changed them meanwhile
            local = aws_local.Files.open()
            changed = local.write(aws_local.Access(account.region, found, endpoint), secret)
        except BaseException:
            if secret:
                # nobody would know its other half
                account.client("iam").delete_access_key(UserName=user, AccessKeyId=secret[0])
            raise
        if secret:
            await_key(account)
        for line in changed:
            print(line)
        print(f"ready: profile {aws_local.PROFILE}, bucket {found['Bucket']}")


def access(account: Account, stack: dict[str, Any] | None) -> aws_local.Access | None:
    """Return how a stack is reached; None where there is none."""
    found = aws_stacks.outputs(stack)
    if stack is None or not found:
        return None
    endpoint = aws_stacks.parameters(stack).get("Endpoint", ENDPOINT)
    return aws_local.Access(account.region, found, endpoint)


def require_same_user(stack: dict[str, Any] | None, user: str) -> None:
    """Stop before another name would put another user into the place of the one that is there.

    Raises:
        ConfigurationError: The stack is somebody else's.
    """
    if stack is None or stack["StackStatus"] in aws_stacks.LEFT_OVER:
        return
    owner = aws_stacks.parameters(stack).get("User", user)
    if owner != user:
        raise ConfigurationError(
            f"stack {PROJECT} was made for the user {owner}, who would be removed; run"
            f" `just aws-setup {owner}`, or `just aws-teardown` first"
        )


def plan_of_setup(account: Account, user: str, local: aws_local.Files, *, new: bool) -> str:
    """Say what `setup` will do."""
    paths = ", ".join(str(path) for path in local.paths)
    return "\n".join(
        [
            str(account),
            f"{'creates' if new else 'updates'} the stack {PROJECT}:",
            f"  IAM user {user}, who may work under one role; roles of SageMaker, tasks and flows",
            f"  bucket {PROJECT}-{account.number}-{account.region}, image repositories, a network",
            "  AWS Batch on Fargate with 16 vCPUs at most, Step Functions' roles and table",
            "costs: nothing by the hour. What is stored (about 0.02 USD a GB and month in S3, 0.10",
            "  for images), jobs (about 0.05 USD a vCPU and hour), later the endpoint's instances",
            f"writes {paths}",
        ]
    )


@app.command()
def teardown(
    region: RegionArgument = None, *, region_option: RegionOption = None, yes: Yes = False
) -> None:
    """Remove what `setup`, `mlflow` and `pem` made, with all that the bucket holds."""
    with one_line_errors():
        local = aws_local.Files.open()
        account = Account.open(region or region_option)
        cloudformation = account.client("cloudformation")
        stacks = {name: aws_stacks.describe(cloudformation, name) for name in (MLFLOW, PROJECT)}
        found = aws_stacks.outputs(stacks[PROJECT])
        aws_removal.require_no_endpoint(account, stacks[PROJECT])
        pair, bucket = key_pair(account), found.get("Bucket")
        pem = pem_path(account) if pair else None
        things = [f"  stack {name}" for name, stack in stacks.items() if stack]
        if stacks[MLFLOW]:
            things[0] += ", but for a snapshot of its volume, which costs by the GB"
        if bucket:
            things.append(
                f"  bucket {bucket} with {aws_removal.count(account, bucket)} objects and versions"
            )
        if pair:
            things.append(f"  key pair {pair}, and {pem}")
        written = access(account, stacks[PROJECT])
        place = (account.number, account.region)
        edits = local.without(written, *place)
        things += [f"  what was written into {edit.path}" for edit in edits]
        things += what_stays(account, local, alone=not things)
        if not things:
            print(f"{account}\nthere is nothing to remove")
            return
        agree("\n".join([str(account), "removes for good:", *things]), agreed=yes)
        aws_stacks.delete(cloudformation, MLFLOW)
        if bucket:
            aws_removal.empty(account, bucket)
        if user := found.get("User"):
            drop_keys(account, user)
        aws_stacks.delete(cloudformation, PROJECT)
        if pair and pem:
            with explained("ec2:DeleteKeyPair", f"key pair {pair}"):
                account.client("ec2").delete_key_pair(KeyName=pair)
            pem.unlink(missing_ok=True)
        # somebody may have changed them meanwhile
        edits = aws_local.Files.open().without(written, *place)
        for path in aws_files.commit(edits):
            print(f"{path}: what setup wrote is gone")
        aws_files.forget(edits)
        print("all removed")


def what_stays(account: Account, local: aws_local.Files, *, alone: bool) -> list[str]:
    """Say that the files stay, where they lead to another account or region.

    Raises:
        ConfigurationError: There is nothing else either: another place was meant.
    """
    others = " and ".join(local.others(account.number, account.region))
    if others and alone:
        raise ConfigurationError(
            f"account {account.number}, region {account.region}: there is nothing to remove;"
            f" profile {aws_local.PROFILE} and .env lead to {others}: give that region, and in"
            " AWS_PROFILE an administrator of that account"
        )
    return [f"leaves profiles and variables as they are: they lead to {others}"] if others else []


@app.command()
def mlflow(
    region: RegionArgument = None,
    *,
    cidr: Annotated[
        str, typer.Option(help="From where it may be reached, such as 203.0.113.7/32.")
    ],
    region_option: RegionOption = None,
    yes: Yes = False,
) -> None:
    """Start an MLflow server on EC2, or bring it up to date, and use it from now on."""
    with one_line_errors():
        local = aws_local.Files.open()
        reach = aws_server.narrow(cidr)
        account = Account.open(region or region_option)
        cloudformation = account.client("cloudformation")
        found = aws_stacks.outputs(aws_stacks.describe(cloudformation, PROJECT))
        if not found:
            raise ConfigurationError(f"there is no stack {PROJECT}; run `just aws-setup` first")
        pair = key_pair(account)
        agree(aws_server.plan_of_mlflow(account, reach, pair), agreed=yes)
        with explained("ec2:DescribeSubnets", f"subnet {found['Subnet']}"):
            subnets = account.client("ec2").describe_subnets(SubnetIds=[found["Subnet"]])
        values = {
            "Cidr": reach,
            "Bucket": found["Bucket"],
            "Vpc": found["Vpc"],
            "Subnet": found["Subnet"],
            "Zone": subnets["Subnets"][0]["AvailabilityZone"],
            "ClientSecurityGroup": found["TaskSecurityGroup"],
            "KeyName": pair or "",
        }
        server = aws_stacks.deploy(cloudformation, MLFLOW, TEMPLATES / "mlflow-cfn.yaml", values)
        with explained("secretsmanager:GetSecretValue", f"secret {server['Secret']}"):
            answer = account.client("secretsmanager").get_secret_value(SecretId=server["Secret"])
        # somebody may have changed it meanwhile
        local = aws_local.Files.open()
        for line in local.write_mlflow(server, json.loads(answer["SecretString"])):
            print(line)
        print(f"ready: {server['TrackingUri']}, from {reach}; user and password are in .env")


@app.command()
def pem(
    region: RegionArgument = None, *, region_option: RegionOption = None, yes: Yes = False
) -> None:
    """Make the key with which `ssh --key` opens the MLflow server; `mlflow` then opens port 22."""
    with one_line_errors():
        account = Account.open(region or region_option)
        path, pair = pem_path(account), key_pair(account)
        if pair and path.exists():
            print(f"{path} is there already")
            return
        if pair:
            raise ConfigurationError(
                f"{path} is missing, and AWS keeps no private keys; copy it from the machine where"
                f" it was made, or run `aws ec2 delete-key-pair --key-name {PROJECT}` and then this"
            )
        if path.exists():
            raise ConfigurationError(f"{path} opens nothing there; move it, and run this again")
        agree(f"{account}\nmakes the key pair {PROJECT}, and writes {path}", agreed=yes)
        with explained("ec2:CreateKeyPair", f"key pair {PROJECT}"):
            made = account.client("ec2").create_key_pair(
                KeyName=PROJECT,
                KeyType="ed25519",
                TagSpecifications=[
                    {"ResourceType": "key-pair", "Tags": [{"Key": "project", "Value": PROJECT}]}
                ],
            )
        text = made["KeyMaterial"].rstrip("\n") + "\n"
        aws_files.commit([aws_files.Edit.open(path).to(text)])
        print(f"{path} is written; `just aws-mlflow` lets it in")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(
    context: typer.Context,
    *,
    region: RegionOption = None,
    key: Annotated[
        bool, typer.Option("--key", help="With ssh and the key that `pem` made.")
    ] = False,
) -> NoReturn:
    """Open a shell on the MLflow server: by Session Manager, or with --key by SSH.

    What else is given goes to `aws ssm start-session` or to `ssh`.
    """
    with one_line_errors():
        account = Account.open(region, administrator=False)
        server = aws_stacks.describe(account.client("cloudformation"), MLFLOW)
        if server is None:
            raise ConfigurationError(f"there is no stack {MLFLOW}; run `just aws-mlflow` first")
        if key:
            command = aws_server.ssh_command(account, aws_stacks.outputs(server))
        else:
            target = aws_server.instance(account)
            command = ["aws", "ssm", "start-session", "--region", account.region]
            command += ["--target", target]
        aws_server.become([*command, *context.args])


if __name__ == "__main__":
    app()
