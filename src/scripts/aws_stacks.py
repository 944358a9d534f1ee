"""CloudFormation stacks: made, changed and removed, with what happens told line by line."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.aws import explained, told
from inference.errors import BackendError, ConfigurationError

# seconds
PAUSE = 3
PATIENCE = 3600

# A first creation that failed leaves a stack in which nothing is; it can only be removed.
LEFT_OVER = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS"}
GOOD = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"}
# an update that failed and was undone: the stack is as it was, and takes the next one
USABLE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
# What happened to a resource that only stopped since another one had failed.
CANCELLED = "cancelled"


def describe(cloudformation: Any, name: str) -> dict[str, Any] | None:  # noqa: ANN401 - boto3's
    """Return a stack, by its name or id; None if there is no such stack."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.4 s

    with explained("cloudformation:DescribeStacks", f"stack {name}"):
        try:
            return cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in told(error):
                return None
            raise


def outputs(stack: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what a stack puts out; nothing where there is none."""
    found = (stack or {}).get("Outputs") or []
    return {output["OutputKey"]: output["OutputValue"] for output in found}


def parameters(stack: Mapping[str, Any]) -> dict[str, str]:
    """Return what a stack was made with."""
    found = stack.get("Parameters") or []
    return {one["ParameterKey"]: one["ParameterValue"] for one in found}


def deploy(
    cloudformation: Any,  # noqa: ANN401 - boto3's
    name: str,
    template: Path,
    values: Mapping[str, str],
) -> dict[str, str]:
    """Create a stack, or bring it up to date, and wait for it.

    Args:
        cloudformation: Client of CloudFormation.
        name: Name of the stack.
        template: Its template.
        values: Its parameters; those that are not given take their defaults.

    Returns:
        What it puts out.

    Raises:
        BackendError: A resource could not be made; AWS has put everything back.
        ConfigurationError: Somebody else is at it, or it needs a hand.
    """
    stack = describe(cloudformation, name)
    if stack and stack["StackStatus"] in LEFT_OVER:
        print(f"stack {name}: removing what a failed attempt has left")
        delete(cloudformation, name)
        stack = None
    if stack:
        require_usable(name, stack["StackStatus"])
    change = prepare(cloudformation, name, template, values, update=stack is not None)
    if change is None:
        print(f"stack {name}: nothing to change")
        return outputs(stack)
    seen = {event["EventId"] for event in events(cloudformation, change["StackId"])}
    with explained("cloudformation:ExecuteChangeSet", f"stack {name}"):
        cloudformation.execute_change_set(
            ChangeSetName=change["ChangeSetName"], StackName=change["StackId"]
        )
    return outputs(follow(cloudformation, name, change["StackId"], seen))


def require_usable(name: str, status: str) -> None:
    """Stop where a stack cannot be changed now.

    Raises:
        ConfigurationError: It cannot.
    """
    if status in USABLE:
        return
    advice = "wait until that has ended"
    if status.endswith("FAILED"):
        advice = "run `just aws-teardown`, or continue it in the console of CloudFormation"
    raise ConfigurationError(f"stack {name} is in state {status}; {advice}")


def prepare(
    cloudformation: Any,  # noqa: ANN401 - boto3's
    name: str,
    template: Path,
    values: Mapping[str, str],
    *,
    update: bool,
) -> dict[str, Any] | None:
    """Make a change set; None where nothing would change."""
    from botocore.exceptions import ClientError, WaiterError  # noqa: PLC0415 - 0.4 s

    with explained("cloudformation:CreateChangeSet", f"stack {name}"):
        try:
            made = cloudformation.create_change_set(
                StackName=name,
                ChangeSetName=f"{name}-{time.time_ns()}",
                ChangeSetType="UPDATE" if update else "CREATE",
                TemplateBody=template.read_text(encoding="utf-8"),
                Parameters=[
                    {"ParameterKey": key, "ParameterValue": value} for key, value in values.items()
                ],
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Tags=[{"Key": "project", "Value": name}],
            )
        except ClientError as error:
            if any(reason in told(error) for reason in NO_CHANGES):
                return None
            raise
        place = {"ChangeSetName": made["Id"], "StackName": made["StackId"]}
        waiter = cloudformation.get_waiter("change_set_create_complete")
        try:
            waiter.wait(**place, WaiterConfig={"Delay": PAUSE, "MaxAttempts": PATIENCE // PAUSE})
        except WaiterError as error:
            reason = " ".join(str(error.last_response.get("StatusReason", error)).split())
            cloudformation.delete_change_set(**place)
            if any(known in reason for known in NO_CHANGES):
                return None
            raise BackendError(f"stack {name}: AWS does not take its changes: {reason}") from error
    return {"ChangeSetName": made["Id"], "StackId": made["StackId"]}


def delete(cloudformation: Any, name: str) -> None:  # noqa: ANN401 - boto3's
    """Remove a stack, and wait until it is gone.

    Raises:
        BackendError: A resource could not be removed.
    """
    stack = describe(cloudformation, name)
    if stack is None:
        return
    seen = {event["EventId"] for event in events(cloudformation, stack["StackId"])}
    with explained("cloudformation:DeleteStack", f"stack {name}"):
        cloudformation.delete_stack(StackName=stack["StackId"])
    follow(cloudformation, name, stack["StackId"], seen)


def follow(cloudformation: Any, name: str, number: str, seen: set[str]) -> dict[str, Any]:  # noqa: ANN401 - boto3's
    """Tell what happens to a stack until it has ended.

    Args:
        cloudformation: Client of CloudFormation.
        name: Name of the stack.
        number: Its id, by which it is found after it is gone too.
        seen: Ids of events from before.

    Raises:
        BackendError: It did not end well: names the resource that failed first, and the reason.
    """
    failed, end = [], time.monotonic() + PATIENCE
    while True:
        stack = describe(cloudformation, number)
        if stack is None:
            raise BackendError(f"stack {name}: somebody else removed it meanwhile")
        for event in news(cloudformation, number, seen):
            seen.add(event["EventId"])
            if event["ResourceStatus"].endswith("FAILED"):
                failed.append(event)
            if (line := headline(event)) is not None:
                print(line, flush=True)
        status = stack["StackStatus"]
        if status in GOOD:
            return stack
        if not status.endswith("IN_PROGRESS"):
            raise BackendError(f"stack {name}: {cause(failed, status)}")
        if time.monotonic() > end:
            raise BackendError(f"stack {name}: still {status} after {PATIENCE // 60} minutes")
        time.sleep(PAUSE)


def events(cloudformation: Any, number: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - boto3's
    """Yield what happened to a stack, the last first."""
    with explained("cloudformation:DescribeStackEvents", "the stack"):
        for page in cloudformation.get_paginator("describe_stack_events").paginate(
            StackName=number
        ):
            yield from page["StackEvents"]


def news(cloudformation: Any, number: str, seen: set[str]) -> list[dict[str, Any]]:  # noqa: ANN401 - boto3's
    """Return what happened to a stack since, the first first."""
    fresh = []
    for event in events(cloudformation, number):
        if event["EventId"] in seen:
            break
        fresh.append(event)
    return fresh[::-1]


def headline(event: Mapping[str, Any]) -> str | None:
    """Say what an event means; None for those that are no news."""
    status, _, state = event["ResourceStatus"].rpartition("_")
    if event["ResourceType"] == "AWS::CloudFormation::Stack" or state not in {"COMPLETE", "FAILED"}:
        return None
    return f"  {event['LogicalResourceId']}: {status.lower()} {state.lower()}"


def cause(failed: list[dict[str, Any]], status: str) -> str:
    """Say which resource failed first, and why."""
    own = [
        event
        for event in failed
        if event["ResourceType"] != "AWS::CloudFormation::Stack"
        and CANCELLED not in event.get("ResourceStatusReason", "").lower()
    ]
    if not (own or failed):
        return f"it ended in state {status}; its events in the console of CloudFormation say why"
    first = (own or failed)[0]
    reason = " ".join(first.get("ResourceStatusReason", "no reason given").split())
    return (
        f"{first['LogicalResourceId']} ({first['ResourceType']}) failed: {reason.rstrip('.')};"
        f" the stack is in state {status}; put that right and run the same command again"
    )
