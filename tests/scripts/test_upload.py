"""The table's way into the bucket."""

import os
import subprocess
import sys

import boto3
import pytest

from common import ROOT
from inference.errors import BackendError, ConfigurationError, DatasetError
from scripts.upload import upload

pytestmark = pytest.mark.integration


@pytest.fixture
def s3(moto):
    """Client of an S3 with one bucket."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="nest")
    return client


def test_a_table_is_put_into_the_bucket_and_replaces_the_one_of_before(s3, tmp_path):
    file = tmp_path / "table.csv"
    for content in (b"a,b\n1,2\n", b"a,b\n1,3\n"):
        file.write_bytes(content)
        assert upload(str(file), "nest") == "s3://nest/data/table.csv"
        assert s3.get_object(Bucket="nest", Key="data/table.csv")["Body"].read() == content


def test_a_table_in_s3_stays_where_it_is(s3):
    assert upload("s3://other/table.csv", None) == "s3://other/table.csv"


@pytest.mark.parametrize(
    ("path", "bucket", "kind", "problem"),
    [
        ("data/penguins.csv", "", ConfigurationError, "BUCKET is not set; run `just aws-setup`"),
        ("data/none.csv", "nest", DatasetError, r"data/none\.csv: cannot be read"),
        ("data/penguins.csv", "nobodys", BackendError, "s3:PutObject of s3://nobodys/data/pengu"),
    ],
)
def test_what_goes_wrong_is_one_line(s3, path, bucket, kind, problem):
    with pytest.raises(kind, match=problem) as caught:
        upload(path, bucket)
    assert "\n" not in str(caught.value)


def test_command_prints_the_address_or_hands_it_to_another(s3):
    command = [sys.executable, str(ROOT / "src" / "scripts" / "upload.py")]
    environment = os.environ | {"BUCKET": "nest"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [*command, *words], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run() == "s3://nest/data/penguins.csv"
    script = "import os, sys; print(os.environ['DATASET'], sys.argv[1])"
    assert run("-c", script, "more") == "s3://nest/data/penguins.csv more"
