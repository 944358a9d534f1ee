"""What `aws-teardown` looks at and empties before the stacks can go."""

from collections.abc import Iterator, Mapping
from typing import Any

from inference.aws import explained
from inference.errors import BackendError, ConfigurationError
from scripts import aws_stacks
from scripts.aws_account import Account


def require_no_endpoint(account: Account, stack: Mapping[str, Any] | None) -> None:
    """Stop where the endpoint is still there: it would go on, billed, with nobody to manage it.

    Raises:
        ConfigurationError: It is.
    """
    name = aws_stacks.parameters(stack or {}).get("Endpoint")
    if not name:
        return
    with explained("sagemaker:ListEndpoints", "this account"):
        pages = (
            account.client("sagemaker").get_paginator("list_endpoints").paginate(NameContains=name)
        )
        names = {one["EndpointName"] for page in pages for one in page["Endpoints"]}
    if name in names:
        raise ConfigurationError(
            f"endpoint {name} is still there, and billed; run"
            f" `ENDPOINT_NAME={name} just sagemaker-delete` first"
        )


def versions(account: Account, bucket: str) -> Iterator[list[dict[str, str]]]:
    """Yield what a bucket holds, in pages: keys and versions of objects and of their removals."""
    with explained("s3:ListBucketVersions", f"bucket {bucket}"):
        paginator = account.client("s3").get_paginator("list_object_versions")
        for page in paginator.paginate(Bucket=bucket):
            both = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in both]


def count(account: Account, bucket: str) -> int:
    """Count what a bucket holds."""
    return sum(len(page) for page in versions(account, bucket))


def empty(account: Account, bucket: str) -> None:
    """Remove all that a bucket holds.

    Raises:
        BackendError: Something cannot be removed.
    """
    s3 = account.client("s3")
    for page in versions(account, bucket):
        if not page:
            continue
        with explained("s3:DeleteObjectVersion", f"bucket {bucket}"):
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": page, "Quiet": True})
        if errors := answer.get("Errors"):
            first = errors[0]
            raise BackendError(
                f"s3:DeleteObjectVersion of {first['Key']} in bucket {bucket}: {first['Code']}:"
                f" {first['Message']}; {len(errors)} objects are left, run the same command again"
            )
        print(f"  bucket {bucket}: {len(page)} objects and versions removed", flush=True)
