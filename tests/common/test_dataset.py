"""Reading the table: what is used, what is rejected and why, and what stops everything."""

import hashlib
import math

import boto3
import pandas as pd
import pytest

from common import dataset, settings, tracking
from common.dataset import read_table, require_rows_per_class
from common.settings import DatasetSettings
from inference.errors import DatasetError

HEADER = "kind,size,colour"
GOOD = f"{HEADER}\na,1.5,red\nb,2,blue\n"


@pytest.fixture
def describe(tmp_path):
    """Describe a small table, and write the file: `describe(text, max_rejected=1)`."""

    def make(text, **changes):
        path = tmp_path / "table.csv"
        if text is not None:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        content = {
            "path": str(path),
            "target": "kind",
            "classes": ["a", "b"],
            "features": {
                "colour": {"kind": "category", "categories": ["red", "blue"]},
                "size": {"kind": "number", "range": [0, 10]},
            },
        }
        return DatasetSettings.model_validate(content | changes)

    return make


def values(table):
    """Rows as plain lists, with None for what is missing."""
    complete = table.rows.astype(object).where(table.rows.notna(), None)
    return complete.to_numpy().tolist()


def test_table_in_the_order_and_types_of_the_schema(describe):
    table = read_table(describe(GOOD))
    assert values(table) == [["red", 1.5, "a"], ["blue", 2.0, "b"]]
    assert list(table.rows) == ["colour", "size", "kind"]
    assert table.rows.dtypes.astype(str).to_dict() == {
        "colour": "object",
        "size": "float64",
        "kind": "object",
    }
    assert list(table.rows.index) == [2, 3]
    assert table.rejected == ()
    assert table.target == "kind"
    assert table.hash == hashlib.sha256(GOOD.encode()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.strip(),
        f"{HEADER}\n\na,1.5,red\n\n\nb,2,blue\n\n",
        'colour,note,"kind",size\n red ,x,a , 1.5\nblue,,"b","2"\n',
    ],
    ids=["byte order mark", "CRLF", "no end of line", "blank lines", "order, quotes, spaces"],
)
def test_same_table_in_other_words(describe, text):
    assert values(read_table(describe(text))) == values(read_table(describe(GOOD)))


@pytest.mark.parametrize("cell", ["", " ", ".", "NA", "N/A", "NaN", "null", "?"])
def test_placeholders_are_missing(describe, cell):
    table = read_table(describe(f"{HEADER}\na,{cell},red\nb,2,{cell}\n"))
    assert values(table) == [["red", None, "a"], [None, 2.0, "b"]]
    assert math.isnan(table.rows["size"].iloc[0])
    assert table.rows["colour"].iloc[1] is None


def test_placeholders_of_ones_own(describe):
    text = f"{HEADER}\na,-,red\nb,,\nb,2,.\n"
    table = read_table(describe(text, placeholders=["-"]))
    assert values(table) == [["red", None, "a"], [None, None, "b"], [".", 2.0, "b"]]


def test_category_that_is_called_like_a_placeholder(describe):
    """It is one; what is called so in other columns is missing all the same."""
    features = {
        "region": {"kind": "category", "categories": ["EU", "NA", "APAC", ""]},
        "colour": {"kind": "category", "categories": ["red"]},
        "size": {"kind": "number"},
    }
    text = "kind,region,colour,size\na, NA,red,1\nb,EU,NA,NA\na,,red,?\nb,?,red,2\n"
    assert values(read_table(describe(text, features=features))) == [
        ["NA", "red", 1.0, "a"],
        ["EU", None, None, "b"],
        [None, "red", None, "a"],
        [None, "red", 2.0, "b"],
    ]


def test_class_that_is_called_like_a_placeholder(describe):
    table = read_table(describe(f"{HEADER}\nNA,1,red\n b ,2,blue\n", classes=["NA", "b"]))
    assert table.rows["kind"].tolist() == ["NA", "b"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,eleven,red", "size: expected a number from 0 to 10, or null, not 'eleven'"),
        ("a,11,red", "size: expected a number from 0 to 10, or null, not 11.0"),
        ("a,inf,red", "size: expected a number from 0 to 10, or null, not 'inf'"),
        ("a,1_0,red", "size: expected a number from 0 to 10, or null, not '1_0'"),
        ('a,"1,5",red', "size: expected a number from 0 to 10, or null, not '1,5'"),
        (f"a,1,{'x' * 201}", "colour: expected text of 1 to 200 characters, or null, not 'xxx"),
        ("c,1,red", "kind 'c' is not a known class"),
        ("A,1,red", "kind 'A' is not a known class"),
        (",1,red", "kind is missing"),
        ("NA,1,red", "kind is missing"),
        ("a,1", "2 values instead of 3"),
        ("a,1,red,2", "4 values instead of 3"),
    ],
)
def test_rejected_row(describe, line, reason):
    table = read_table(describe(f"{GOOD}{line}\na,3,red\n", max_rejected=0.25))
    assert [position for position, _ in table.rejected] == [4]
    assert table.rejected[0][1].startswith(reason)
    assert list(table.rows.index) == [2, 3, 5]
    assert table.rows.loc[5].tolist() == ["red", 3.0, "a"]


def test_unseen_category_is_no_reason_to_reject(describe):
    table = read_table(describe(f"{HEADER}\na,1,green\n"))
    assert values(table) == [["green", 1.0, "a"]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{HEADER}\n\na,1,red\n\nX,1,red\n", 5),
        (f'{HEADER}\na,1,"two\nlines"\nX,1,red\n', 4),
        (f'{HEADER}\na,1,red\nX,1,"two\nlines"\n', 3),
        (f"{HEADER}\r\na,1,red\r\nX,1,red\r\n", 3),
        (f"{HEADER}\na,1,next\u2028line\nX,1,red\n", 3),
        (f"{HEADER}\na,1,next\x0cpage\nX,1,red\n", 3),
    ],
    ids=["blank lines", "cell of two lines", "rejected row of two lines", "CRLF", "2028", "page"],
)
def test_rejected_row_is_found_in_the_file(describe, text, line):
    table = read_table(describe(text, max_rejected=0.5))
    assert table.rejected == ((line, "kind 'X' is not a known class"),)
    assert len(table.rows) == 1


def test_rejected_rows_come_in_the_order_of_the_file(describe):
    table = read_table(describe(f"{HEADER}\na,x,red\nc,1,red\na,1\na,99,red\n", max_rejected=1))
    assert [position for position, _ in table.rejected] == [2, 3, 4, 5]
    assert len(table.rows) == 0


@pytest.mark.parametrize(("bad", "stops"), [(0, False), (1, False), (2, True)])
def test_too_many_rejected_rows(describe, bad, stops):
    text = f"{HEADER}\n" + "a,1,red\n" * (20 - bad) + "c,1,red\n" * bad
    described = describe(text)
    if not stops:
        assert len(read_table(described).rejected) == bad
        return
    with pytest.raises(DatasetError, match="2 of 20 rows cannot be used") as caught:
        read_table(described)
    assert str(described.path) in str(caught.value)
    assert r"line 20: kind 'c' is not a known class; line 21: " in str(caught.value)
    assert "0.05 that dataset.max_rejected allows" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "there is no such file"),
        ("", "holds no rows"),
        ("\n \n", "holds no rows"),
        (f"{HEADER}\n", "holds no rows"),
        (GOOD.replace("kind", "species"), "column kind is missing; the file has species, size"),
        ("kind\na\n", "one column only"),
        ("kind,weight\na,1\n", "column colour, size is missing; the file has kind, weight"),
        (GOOD.replace(",", ";"), "one column only, .* as if ';' separates"),
        (GOOD.replace(",", "\t"), r"one column only, .* as if '\\t' separates"),
        (f"{HEADER},size\na,1,red,2\n", "the header names size twice"),
        (f'{HEADER}\na,1,"red\n', "cannot be read as CSV in UTF-8"),
        (GOOD.encode("utf-16"), "cannot be read as CSV in UTF-8"),
        (f"{HEADER}\na,1,größer\n".encode("latin-1"), "cannot be read as CSV in UTF-8"),
    ],
)
def test_file_that_is_no_such_table(describe, text, problem):
    described = describe(text)
    with pytest.raises(DatasetError, match=problem) as caught:
        read_table(described)
    assert str(caught.value).startswith(f"{described.path}: ")
    assert "\n" not in str(caught.value)


def test_folder_instead_of_a_file(describe, tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        read_table(describe(None), tmp_path)


def test_file_that_a_task_on_another_machine_misses(describe, monkeypatch):
    monkeypatch.setenv("METAFLOW_RUNTIME_ENVIRONMENT", "aws-batch")
    described = describe(None)
    with pytest.raises(DatasetError, match=r"another machine .* set DATASET to .*s3://") as caught:
        read_table(described)
    assert str(caught.value).startswith(f"{described.path}: ")


def test_another_file_of_the_same_kind(describe, tmp_path):
    described = describe(GOOD)
    other = tmp_path / "other.csv"
    other.write_text(f"{HEADER}\nb,7,red\n")
    table = read_table(described, other)
    assert values(table) == [["red", 7.0, "b"]]
    assert table.path == str(other)


@pytest.fixture
def s3(moto):
    """Client of an S3 with one bucket, which the environment names."""
    client = boto3.client("s3")
    client.create_bucket(Bucket="tables")
    return client


@pytest.mark.integration
def test_table_in_s3_is_the_same_as_in_a_file(describe, s3):
    s3.put_object(Bucket="tables", Key="a b/table.csv", Body=GOOD.encode())
    table = read_table(describe(None, path="s3://tables/a b/table.csv"))
    assert values(table) == values(read_table(describe(GOOD)))
    assert table.hash == hashlib.sha256(GOOD.encode()).hexdigest()
    assert tracking.source(table) == table.path == "s3://tables/a b/table.csv"


@pytest.mark.integration
def test_another_table_in_s3(describe, s3):
    s3.put_object(Bucket="tables", Key="other.csv", Body=GOOD.encode())
    assert len(read_table(describe(None), "s3://tables/other.csv").rows) == 2


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("s3://tables/none.csv", "there is no such object; set dataset.path"),
        ("s3://nobodys/table.csv", "NoSuchBucket: "),
        ("s3://tables", "expected s3://bucket/key"),
        ("s3:///table.csv", "expected s3://bucket/key"),
        ("s3://Not A Bucket/table.csv", "Invalid bucket name"),
        ("s3://tables/empty.csv", "the file holds no rows"),
    ],
)
@pytest.mark.integration
def test_table_that_s3_does_not_have(describe, s3, path, problem):
    s3.put_object(Bucket="tables", Key="empty.csv", Body=b"")
    with pytest.raises(DatasetError, match=problem) as caught:
        read_table(describe(None, path=path))
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.integration
def test_table_in_s3_without_credentials(describe, s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DatasetError, match=r"s3:GetObject of s3://tables/x: .* no AWS cred"):
        read_table(describe(None, path="s3://tables/x"))


def test_table_that_ships():
    table = read_table(settings.load().dataset)
    assert len(table.rows) == 344
    assert table.rejected == ()


def test_hash_is_of_the_file(describe):
    first = read_table(describe(GOOD)).hash
    assert read_table(describe(GOOD)).hash == first
    assert read_table(describe(GOOD + "\n")).hash != first


def test_shuffled(describe):
    text = f"{HEADER}\n" + "".join(f"a,{number / 100},red\n" for number in range(50))
    table = read_table(describe(text))
    shuffled = table.shuffled(1)
    assert list(shuffled.rows.index) != list(table.rows.index)
    pd.testing.assert_frame_equal(shuffled.rows.sort_index(), table.rows)
    pd.testing.assert_frame_equal(table.shuffled(1).rows, shuffled.rows)
    assert list(table.shuffled(2).rows.index) != list(shuffled.rows.index)


@pytest.mark.parametrize(("profile", "same"), [("", True), ("test", True), ("production", False)])
def test_seed_is_fresh_in_production_only(monkeypatch, profile, same):
    monkeypatch.setenv("METAFLOW_PROFILE", profile)
    seeds = {dataset.shuffle_seed() for _ in range(5)}
    assert (seeds == {42}) is same


def test_rows_for_every_fold(describe):
    described = describe(f"{HEADER}\n" + "a,1,red\n" * 5 + "b,1,red\n" * 3)
    rows = read_table(described).rows
    require_rows_per_class(described, rows, 3)
    with pytest.raises(DatasetError, match="class 'b' has 3 rows, too few for 4 folds"):
        require_rows_per_class(described, rows, 4)
    with pytest.raises(DatasetError, match="class 'a' has 0 rows"):
        require_rows_per_class(described, rows[rows["kind"] == "b"], 2)
