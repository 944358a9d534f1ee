"""Put the table into the bucket, where tasks on other machines find it."""

import os
import sys

from common import ROOT, settings
from common.dataset import S3
from inference.aws import client, explained
from inference.errors import ConfigurationError, DatasetError
from scripts.command_line import one_line_errors


def upload(path: str, bucket: str | None) -> str:
    """Put a table into a bucket, and return its address there; one in S3 stays where it is.

    Args:
        path: The table, as the config file names it.
        bucket: Name of the bucket.

    Raises:
        ConfigurationError: No bucket is given.
        DatasetError: The table cannot be read.
        BackendError: The bucket does not take it.
    """
    if path.startswith(S3):
        return path
    if not bucket:
        raise ConfigurationError("BUCKET is not set; run `just aws-setup`, or set it in .env")
    file = ROOT / path
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
    address = f"{S3}{bucket}/data/{file.name}"
    s3 = client("s3", os.environ.get("AWS_REGION"), os.environ.get("AWS_ROLE"))
    with explained("s3:PutObject", address):
        s3.put_object(Bucket=bucket, Key=f"data/{file.name}", Body=content)
    return address


def main(*words: str) -> None:
    """Print the address; where words are given, become Python with them and DATASET set to it."""
    with one_line_errors():
        address = upload(settings.load().dataset.path, os.environ.get("BUCKET"))
    if not words:
        print(address)
        return
    command = [sys.executable, *words]
    os.execve(command[0], command, os.environ | {"DATASET": address})  # noqa: S606 - our own


if __name__ == "__main__":
    main(*sys.argv[1:])
