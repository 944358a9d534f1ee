"""Scoring files: what is predicted, what is refused, and that the service would do the same."""

import csv
import io
import math
import resource
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from common import columns, scoring, streams
from common.dataset import read_table
from common.settings import DatasetSettings
from inference.engine import OUTPUT, OnnxEngine
from inference.errors import DatasetError, InvalidRecordsError, ModelError
from inference.predictor import Predictor
from inference.schema import MISSING_TEXTS, Schema, to_records
from inference.wire import parse

SCHEMA = Schema.model_validate(
    {
        "target": "kind",
        "classes": ["a", "b", "c"],
        "features": {
            "size": {"kind": "number", "range": [0, 10], "unit": "m"},
            "weight": {"kind": "number"},
            "colour": {"kind": "category", "categories": ["NA", "red", "größe"]},
            "shape": {"kind": "category", "categories": ["round"], "required": False},
        },
    }
)
HEADER = ["size", "weight", "colour", "shape"]
GOOD = {"size": "1", "weight": "2.5", "colour": "red", "shape": "round"}
ADDED = ["prediction", "confidence", "probability a", "probability b", "probability c"]
quick = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def predictor(make_model, tmp_path_factory):
    return Predictor.load(make_model(tmp_path_factory.mktemp("scoring") / "model", schema=SCHEMA))


@pytest.fixture(scope="module")
def narrow(make_model, tmp_path_factory):
    """A predictor of two columns."""
    content = SCHEMA.model_dump()
    content["features"] = {name: content["features"][name] for name in ("size", "colour")}
    folder = tmp_path_factory.mktemp("narrow") / "model"
    return Predictor.load(make_model(folder, schema=Schema.model_validate(content)))


class Scored:
    """A file that was scored, and what came of it."""

    def __init__(self, predictor: Predictor, path: Path, output: Path | None = None) -> None:
        self.files = scoring.open_files(path, output)
        self.summary = scoring.score(self.files, predictor)

    @property
    def rows(self) -> list[dict]:
        """The predictions as they stand in the file."""
        if self.files.output.suffix == ".parquet":
            return pq.read_table(self.files.output).to_pylist()
        return read_csv(self.files.output)

    @property
    def problems(self) -> list[dict]:
        """The rejects as they stand in the file."""
        return read_csv(self.files.rejects) if self.files.rejects.exists() else []

    @property
    def rejected(self) -> list[int]:
        """Numbers of the rows that were rejected."""
        return sorted({int(problem["row"]) for problem in self.problems})


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def as_csv(rows, header=HEADER):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue()


@pytest.fixture
def run(predictor, tmp_path):
    """Score a table: `run("a,b\\n…")`, bytes, or an Arrow table."""

    def score(content, output=None):
        path = tmp_path / ("in.parquet" if isinstance(content, pa.Table) else "in.csv")
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Scored(predictor, path, tmp_path / output if output else None)

    return score


def same(row, prediction):
    """Whether a row of the file says what the predictor says."""
    probabilities = [float(row[f"probability {name}"]) for name in SCHEMA.classes]
    return (
        row["prediction"] == prediction["prediction"]
        and float(row["confidence"]) == pytest.approx(prediction["confidence"], abs=1e-6)
        and probabilities == pytest.approx(list(prediction["probabilities"].values()), abs=1e-6)
    )


def value_or_none(value):
    """What a record holds for a value: None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def judge(predictor, records):
    """What the service does with one record: its prediction, or its problems as text."""
    try:
        checked = predictor.check(records)
        return predictor.predict(checked)[0]
    except InvalidRecordsError as error:
        return [
            (p.get("column", ""), str(p.get("value", "")), p["expected"]) for p in error.problems
        ]
    except ModelError:
        return [("", "", "the model's probabilities are no finite numbers")]


def judge_cells(predictor, rows):
    """What the service does with each row; one a request, for it refuses a request whole."""
    bodies = [as_csv([row]).encode() for row in rows]
    return [judge(predictor, parse(body, "text/csv", SCHEMA, 1)) for body in bodies]


def compare(scored, answers):
    """Hold the files of a run against what the service answered, row by row."""
    good = [answer for answer in answers if isinstance(answer, dict)]
    rows = scored.rows
    assert len(rows) == len(good) == scored.summary.scored
    assert scored.summary.rejected == len(answers) - len(good)
    assert all(map(same, rows, good))
    expected = [
        (number, *problem)
        for number, answer in enumerate(answers)
        if isinstance(answer, list)
        for problem in answer
    ]
    found = [(int(p["row"]), p["column"], p["value"], p["expected"]) for p in scored.problems]
    # the text of a row with too many or too few cells stands there as it was written
    known = [value or found[place][2] for place, (_, _, value, _) in enumerate(expected)]
    assert len(found) == len(expected)
    assert found == [(n, c, v, e) for (n, c, _, e), v in zip(expected, known, strict=True)]


ODD_CELLS = [
    *sorted(MISSING_TEXTS),
    *(
        " ",
        "\u00a0",
        " NA ",
        "\u2003red\u3000",
        " größe",
        "\u200bred",
        " " * 200 + "red",
        " " * 201,
        "-",
        "?",
        "\tnan",
        "Nan",
        "+nan",
        "nan(1)",
        "-inf",
        "Infinity",
        "1e999",
        "1e-999",
    ),
    *("1.", ".5", "+.5e1", "-0", "0010", " 7", "7\n", "\x1c7", "\u00a07", "1_0", "\uff11", "1,5"),
    *("0x1", "1d", "--1", "1e", ".", "1 2", "10", "10.000000001", "-1e-9", "3.4028234663852886e38"),
    *("3.4028234663852887e38", "-3.5e38", "9" * 400, "0." + "3" * 400, "1" + "0" * 38),
    *("red", "größe", "round", "blue", '"', 'say "x"', "a,b", "two\r\nlines", "\ufeff", "\0", "'"),
    *("x" * 200, "x" * 201, "ß" * 200, "ß" * 201, "\U0001f427" * 200, "\U0001f427" * 201),
]
CELLS = st.one_of(
    st.sampled_from(ODD_CELLS),
    st.floats(-1, 11).map(repr),
    st.floats().map(repr),
    st.integers().map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.text(st.characters(codec="utf-8"), max_size=8),
)


@pytest.mark.integration
@quick
@given(rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=12))
def test_csv_is_judged_as_by_the_service(run, predictor, rows):
    compare(run(as_csv(rows)), judge_cells(predictor, rows))


@pytest.mark.parametrize("column", HEADER)
@pytest.mark.parametrize("placeholders", [None, ["-"], ["red", "NA", "7"]], ids=str)
def test_cells_are_read_as_for_training(make_model, tmp_path, placeholders, column):
    """The file that a model was trained on: the same rows are read from it, the same refused."""
    path = tmp_path / "in.csv"
    described = {
        "path": str(path),
        **SCHEMA.model_dump(exclude={"placeholders"}),
        "max_rejected": 1,
        **({"placeholders": placeholders} if placeholders else {}),
    }
    dataset = DatasetSettings.model_validate(described)
    predictor = Predictor.load(make_model(tmp_path / "model", schema=dataset.schema))
    schema = predictor.schema
    # a line end would tell another line; what is told here is the row
    cells = [cell for cell in ODD_CELLS if not set(cell) & set("\r\n")]
    rows = [[*(GOOD | {column: cell}).values(), "a"] for cell in cells]
    path.write_bytes(as_csv(rows, [*HEADER, "kind"]).encode())

    table = read_table(dataset)
    trained = table.rows[HEADER].set_index(table.rows.index - 2)
    [piece] = streams.CsvRows(path)
    checked = columns.check(schema, piece.table, cells=piece.cells)
    good = np.flatnonzero(checked.good)
    assert good.tolist() == trained.index.tolist()
    assert {problem["row"] for problem in checked.problems} == {n - 2 for n, _ in table.rejected}
    scored = pd.DataFrame({name: checked.columns[name][good] for name in HEADER}).replace("", None)
    assert to_records(scored) == to_records(trained)
    served = [
        schema.check(parse(as_csv([rows[row][:4]]).encode(), "text/csv", schema, 1))[0]
        for row in good
    ]
    assert served == to_records(trained)


@pytest.mark.parametrize("column", ["weight", "colour"])
@pytest.mark.parametrize("cell", ODD_CELLS)
def test_odd_cell_among_good_ones(run, predictor, column, cell):
    rows = [list((GOOD | {column: value}).values()) for value in (cell, GOOD[column], cell)]
    compare(run(as_csv(rows)), judge_cells(predictor, rows))


@pytest.mark.parametrize("plain", [columns.PLAIN_NUMBER, "^never$"])
@pytest.mark.parametrize("column", HEADER)
def test_odd_cells(run, predictor, monkeypatch, column, plain):
    """The answer is the same where the columns' check doubts each number."""
    monkeypatch.setattr(columns, "PLAIN_NUMBER", plain)
    rows = [list((GOOD | {column: cell}).values()) for cell in ODD_CELLS]
    compare(run(as_csv(rows)), judge_cells(predictor, rows))


@pytest.mark.integration
@quick
@given(
    body=st.lists(
        st.sampled_from([b'"', b'"', b",", b",", b"\n", b"\r", b"\r\n", b"x", b"1", b" ", b"red"])
        | st.sampled_from([b"\xc3\xa9", b"\xc3", b"\xff", b'",', b',"', b'""', b"\n1,red\n"]),
        max_size=40,
    ).map(b"".join),
    header=st.sampled_from(
        [b"size,colour\n", b'"size","colour"\n', b"\xef\xbb\xbfsize,colour\r\n"]
    ),
    block=st.integers(24, 64),
)
def test_bytes_are_cut_into_rows_as_by_the_service(narrow, tmp_path, header, body, block):
    """In blocks of a few bytes, so that cells, quotes and line ends lie across their borders."""
    path = tmp_path / "in.csv"
    path.write_bytes(header + body)
    try:
        text = (header + body).decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error):
        lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK", block)
        try:
            scored = Scored(narrow, path)
        except DatasetError as error:
            scored = error
    if isinstance(scored, DatasetError):
        # a row must fit into a block
        assert len(lines) < 2 or "a row longer than" in str(scored)
        return
    assert len(lines) > 1
    answers = []
    for line in lines[1:]:
        if len(line) == 2:
            body = as_csv([line], ["size", "colour"]).encode()
            answers.append(judge(narrow, parse(body, "text/csv", narrow.schema, 1)))
        else:
            expected = f"expected 2 values, one a column, not {len(line)}"
            answers.append([("", None, expected)])
    compare(scored, answers)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.float64(), [1.5, None, float("nan"), float("inf"), -float("inf"), 11, -0.0, 1e300]),
        (pa.float32(), [0.1, None, float("nan"), 10.0, float("inf")]),
        (pa.float16(), [np.float16(1.5), None, np.float16(60000)]),
        (pa.int8(), [1, None, -1, 10, 11]),
        (pa.int64(), [1, None, 2**63 - 1, 2**53 + 1, -(2**63)]),
        (pa.uint64(), [1, None, 2**64 - 1]),
        (pa.decimal128(20, 3), [Decimal("1.125"), None, Decimal("10.001")]),
        (pa.decimal256(70, 3), [Decimal("1.125"), None, Decimal("1e60")]),
        (pa.string(), ["1", None, "", "NA", "red", "x" * 200, "x" * 201, "ß" * 200]),
        (pa.large_string(), ["1", None, "", "red", "x" * 201]),
        (pa.string_view(), ["1", None, "", "red", "x" * 201]),
        (pa.bool_(), [True, None, False]),
        (pa.null(), [None, None]),
        (pa.dictionary(pa.int8(), pa.string()), ["red", None, "", "x" * 201, "red"]),
        (pa.dictionary(pa.int32(), pa.int64()), [1, None, 11, 1]),
        (pa.dictionary(pa.int32(), pa.float64()), [1.5, None, 11.0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("column", HEADER)
def test_parquet_of_any_type(run, predictor, column, kind, values):
    """As the service judges the same values in JSON, where a number is a number of any kind."""
    size = len(values)
    columns = {
        "size": pa.array([1.0] * size),
        "weight": pa.array([2] * size),
        "colour": pa.array(["red"] * size),
        "shape": pa.array(["round"] * size),
    }
    columns[column] = pa.array(values, kind)
    table = pa.table(columns)
    number = SCHEMA.features[column].kind == "number"
    answers = []
    for record in table.to_pylist():
        value = record[column]
        if (
            isinstance(value, Decimal | np.floating | int)
            and not isinstance(value, bool)
            and number
        ):
            value = float(value)
        answers.append(judge(predictor, [record | {column: value_or_none(value)}]))
    scored = run(table)
    compare(scored, answers)
    assert scored.summary.scored > 0


@pytest.mark.integration
@quick
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.floats(-1, 11) | st.floats(),
            st.none() | st.floats() | st.floats(width=32),
            st.none() | st.text(st.characters(codec="utf-8"), max_size=3) | st.just("x" * 201),
            st.none() | st.sampled_from(["round", "NA", ""]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_parquet_is_judged_as_by_the_service(run, predictor, rows):
    kinds = [pa.float64(), pa.float64(), pa.string(), pa.string()]
    columns = [pa.array(c, k) for c, k in zip(zip(*rows, strict=True), kinds, strict=True)]
    records = [{n: value_or_none(v) for n, v in zip(HEADER, row, strict=True)} for row in rows]
    answers = [judge(predictor, [record]) for record in records]
    compare(run(pa.table(columns, names=HEADER)), answers)


def test_other_columns_pass_through(run):
    rows = [
        ["7", "red", "007", "2.5", "", "1", 'say "x", then\r\nstop', "round", "a"],
        ["8", "", "1e3", "", "", "NA", " ", "", "no class"],
    ]
    header = ["id", "colour", "code", "weight", "", "size", "note", "shape", "kind"]
    scored = run(as_csv(rows, header))
    assert scored.files.output.name == "in.predictions.csv"
    assert [[row[name] for name in header] for row in scored.rows] == rows
    assert list(scored.rows[0]) == [*header, *ADDED]
    assert scored.summary == scoring.Summary(2, 0)
    assert not scored.files.rejects.exists()
    # quotes only where they are needed
    assert scored.files.output.read_text().splitlines()[-1].startswith("8,,1e3,,,NA, ,,no class,")


def test_optional_column_may_be_absent(run, predictor):
    scored = run("colour,weight,size\nred,2.5,1\n")
    [prediction] = predictor.predict([{"size": 1.0, "weight": 2.5, "colour": "red"}])
    assert same(scored.rows[0], prediction)


def test_rejects_say_what_the_service_says(run):
    scored = run("size,weight,colour\n1,2,red\n11,x,red\n\n1,2\n1,2,red,4\n1,2,red\n")
    assert scored.files.rejects.name == "in.predictions.rejected.csv"
    assert [tuple(problem.values()) for problem in scored.problems] == [
        ("1", "size", "11.0", "expected a number from 0 to 10 m, or null"),
        ("1", "weight", "x", "expected a finite number or null"),
        ("2", "", "1,2", "expected 3 values, one a column, not 2"),
        ("3", "", "1,2,red,4", "expected 3 values, one a column, not 4"),
    ]
    assert scored.summary == scoring.Summary(2, 3)


@pytest.mark.parametrize("ragged", [0, 1, 2, 999, 5000])
def test_rows_keep_their_numbers_across_blocks(run, monkeypatch, ragged):
    monkeypatch.setattr(streams, "BLOCK", 2000)
    monkeypatch.setattr(streams, "ROWS", 70)
    lines = [f"{number},1,2,red" for number in range(5000)]
    bad = {ragged, ragged + 1, 17, 4999} & set(range(5000))
    out_of_range = {69, 70, 71, 2500, ragged + 2} & set(range(5000))
    for number in bad:
        lines[number] = "1\n"
    for number in out_of_range - bad:
        lines[number] = f"{number},99,2,red"
    scored = run("id,size,weight,colour\n" + "\n".join(lines))
    assert scored.rejected == sorted(bad | out_of_range)
    assert [int(problem["row"]) for problem in scored.problems] == scored.rejected
    good = sorted(set(range(5000)) - bad - out_of_range)
    assert [int(row["id"]) for row in scored.rows] == good


def test_a_file_of_ragged_rows_only(run):
    scored = run("size,weight,colour\n" + "1,2,red,\n" * 50)
    assert scored.summary == scoring.Summary(0, 50)
    assert scored.rejected == list(range(50))
    assert scored.rows == []


def test_rows_without_finite_probabilities_are_refused(tmp_path):
    """The logarithm of the only feature, as the probability of both classes."""
    value = helper.make_tensor_value_info("size", TensorProto.FLOAT, [None, 1])
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2])
    nodes = [
        helper.make_node("Log", ["size"], ["log"]),
        helper.make_node("Concat", ["log", "log"], [OUTPUT], axis=1),
    ]
    graph = helper.make_graph(nodes, "logarithm", [value], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    content = {"target": "t", "classes": ["a", "b"], "features": {"size": {"kind": "number"}}}
    predictor = Predictor(Schema.model_validate(content), OnnxEngine(model.SerializeToString()))
    path = tmp_path / "in.csv"
    path.write_text("size\n1\n-1\nx\n0\n2.718281828\n")
    scored = Scored(predictor, path)
    assert [float(row["confidence"]) for row in scored.rows] == [0, 1]
    reason = "the model's probabilities are no finite numbers"
    assert [(problem["row"], problem["expected"]) for problem in scored.problems] == [
        ("1", reason),
        ("2", "expected a finite number or null"),
        ("3", reason),
    ]


@pytest.mark.parametrize("rows_a_group", [3, 100_000])
def test_parquet_in_pieces(run, predictor, monkeypatch, rows_a_group):
    monkeypatch.setattr(streams, "ROWS", 7)
    sizes = [float(number % 13) for number in range(50)]
    table = pa.table({"size": sizes, "weight": sizes, "colour": ["red"] * 50, "id": range(50)})
    scored = run(table.replace_schema_metadata({"made by": "hand"}))
    records = [dict(zip(HEADER, (size, size, "red"), strict=False)) for size in sizes]
    compare(scored, [judge(predictor, [record]) for record in records])
    written = pq.read_schema(scored.files.output)
    assert written.names == [*table.column_names, *ADDED]
    assert written.field("id").type == pa.int64()
    assert written.metadata[b"made by"] == b"hand"


def test_csv_to_parquet_makes_the_models_numbers_numbers(run):
    scored = run("id,size,weight,colour\n07,1,+2,NA\n,NA,,\n8,99,1,red\n", "out.parquet")
    assert scored.files.rejects.name == "out.rejected.csv"
    written = pq.read_table(scored.files.output)
    assert written.select(["id", "size", "weight", "colour"]).to_pydict() == {
        "id": ["07", None],
        "size": [1.0, None],
        "weight": [2.0, None],
        "colour": ["NA", None],
    }
    assert scored.rejected == [2]


def test_parquet_keeps_its_types(run):
    table = pa.table(
        {
            "size": pa.array(["1", None]),
            "weight": pa.array([None, None]),
            "colour": pa.array(["red", "NA"]).dictionary_encode(),
        }
    )
    scored = run(table)
    assert scored.rejected == [0]
    written = pq.read_table(scored.files.output)
    assert written.schema.types[:3] == table.schema.types
    assert written["colour"].to_pylist() == ["NA"]


def test_parquet_to_csv(run):
    table = pa.table(
        {
            "size": [1.0, None],
            "weight": pa.array([Decimal("2.50"), None]),
            "colour": pa.array(["red", None]).dictionary_encode(),
            "day": pa.array([0, None], pa.date32()),
            "note": pa.array(['a,"b"', ""], pa.string_view()),
        }
    )
    scored = run(table, "out.csv")
    wanted = ["1", "2.50", "red", "1970-01-01", 'a,"b"'], ["", "", "", "", ""]
    assert tuple(list(row.values())[:5] for row in scored.rows) == wanted


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the file holds no rows"),
        ("\n\n", "the file holds no rows"),
        ("size,weight,colour", "the file holds no rows"),
        ("size,weight,colour\n", "the file holds no rows"),
        ("size,weight,colour\n\n\n", "the file holds no rows"),
        ("size,weight\n1,2\n", "column colour is missing; the file has size, weight"),
        ("a;b\n1;2\n", "column size, weight, colour is missing; the file has a;b"),
        ("size,weight,colour,size\n1,2,red,1\n", "names size twice"),
        ("size,weight,colour,prediction\n1,2,red,a\n", "column prediction is there already"),
        ("size,weight,colour,probability b\n1,2,red,a\n", "probability b is there already"),
        (
            b"size,weight,colour\n1,2,red\n1,2,gr\xf6\xdfe\n",
            "line 3: invalid (start|continuation) byte",
        ),
        (b"size,weight,gr\xf6\xdfe\n1,2,red\n", "line 1: invalid (start|continuation) byte"),
        (
            "size,weight,colour\n1,2,red\n".encode("utf-16"),
            "line 1: invalid (start|continuation) byte",
        ),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "line 1: invalid (start|continuation) byte"),
        ('size,weight,colour\n1,2,"red"x\n', "line 2: text follows the closing quote of a cell"),
        ('\ufeff"size"x,weight,colour\n1,2,red\n', "line 1: text follows the closing quote"),
        ('size,weight,colour\n1,2,red\n1,2,"red\n1,2,red\n', "line 3: a quote is never closed, or"),
        (
            pa.table({"size": [[1.0]], "weight": [1.0], "colour": ["red"]}),
            r"column size holds list<.*>; expected a number from 0 to 10 m, or null",
        ),
        (pa.table({"size": [1.0], "weight": [1.0]}), "column colour is missing"),
        (
            pa.table({"size": [], "weight": [], "colour": pa.array([], pa.string())}),
            "the file holds no rows",
        ),
        (
            pa.table([[1.0], [1.0], ["red"], [2]], names=["size", "weight", "colour", "colour"]),
            "names colour twice",
        ),
    ],
)
def test_what_cannot_be_scored(run, tmp_path, content, problem):
    with pytest.raises(DatasetError, match=problem) as caught:
        run(content)
    assert str(caught.value).startswith(str(tmp_path / "in."))
    assert "\n" not in str(caught.value)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"size,weight\n" * 50, b"PAR1" + b"x" * 99 + b"PAR1"]
)
def test_file_that_is_no_parquet(predictor, tmp_path, content):
    path = tmp_path / "in.parquet"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"in\.parquet: cannot be read as Parquet"):
        Scored(predictor, path)


def test_parquet_damaged_inside(predictor, tmp_path):
    path = tmp_path / "in.parquet"
    size = 20_000
    weights = np.random.default_rng(0).random(size)
    pq.write_table(pa.table({"size": weights, "weight": weights, "colour": ["red"] * size}), path)
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"in\.parquet: cannot be read as Parquet"):
        Scored(predictor, path)
    assert list(tmp_path.iterdir()) == [path]


def test_parquet_text_that_is_not_utf8(run):
    ends, text = np.array([0, 3, 5], np.int32), b"red\xff\xfe"
    colours = pa.StringArray.from_buffers(2, pa.py_buffer(ends), pa.py_buffer(text))
    with pytest.raises(DatasetError, match="Invalid UTF8"):
        run(pa.table({"size": [1.0, 2.0], "weight": [1.0, 2.0], "colour": colours}))


@pytest.mark.parametrize(
    "extra",
    [
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array([b"\xff"]),
        pa.array([["x"]], pa.list_(pa.string())),
    ],
    ids=lambda column: str(column.type),
)
def test_what_csv_cannot_hold_can_go_to_parquet(run, extra):
    table = pa.table({"size": [1.0], "weight": [1.0], "colour": ["red"], "extra": extra})
    with pytest.raises(DatasetError, match=r"column 'extra' holds .*; choose an --output"):
        run(table, "out.csv")
    assert run(table).rows[0]["extra"] == extra[0].as_py()


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_file_that_is_not_there(predictor, tmp_path, name):
    with pytest.raises(DatasetError, match="there is no such file"):
        Scored(predictor, tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match=r"cannot be read as .* \(.+\)"):
        Scored(predictor, tmp_path / name)


@pytest.mark.parametrize(
    ("path", "output"),
    [("in.txt", None), ("in.csv.gz", None), ("in", None), ("in.csv", "out.json"), ("in.csv", "o")],
)
def test_other_kinds_of_files(path, output):
    with pytest.raises(DatasetError, match=r"must end in \.csv or \.parquet"):
        scoring.open_files(Path(path), Path(output) if output else None)


def test_names_in_capitals(predictor, tmp_path):
    path = tmp_path / "IN.CSV"
    path.write_text("size,weight,colour\n1,2,red\n")
    assert Scored(predictor, path, tmp_path / "OUT.CSV").summary.scored == 1


def test_input_is_not_overwritten(tmp_path):
    path = tmp_path / "a.rejected.csv"
    path.write_text("size,weight,colour\n1,2,red\n")
    (tmp_path / "link.csv").symlink_to(path)
    for output in (path, tmp_path / "link.csv", tmp_path / "a.csv", tmp_path / "a.parquet"):
        with pytest.raises(DatasetError, match="this is the input"):
            scoring.open_files(path, output)


def test_files_of_an_earlier_run_are_replaced(run):
    first = run("size,weight,colour\n1,2,red\n99,2,red\n")
    assert first.rejected == [1]
    second = run("size,weight,colour\n2,2,red\n")
    assert [row["size"] for row in second.rows] == ["2"]
    assert not second.files.rejects.exists()


def test_a_run_that_ends_early_leaves_the_files_of_the_one_before(run, predictor, tmp_path):
    before = run("size,weight,colour\n1,2,red\n99,2,red\n")
    content = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupt(done):
        parts = [path.name for path in tmp_path.iterdir() if path not in content]
        assert len(parts) == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scoring.score(before.files, predictor, interrupt)
    with pytest.raises(DatasetError, match="line 102: invalid start byte"):
        run(b"size,weight,colour\n" + b"2,2,red\n" * 100 + b"\xff\n")
    content[before.files.path] = before.files.path.read_bytes()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == content


def test_output_that_cannot_be_written(run, tmp_path):
    good = "size,weight,colour\n1,2,red\n"
    with pytest.raises(DatasetError, match=r"out\.csv: cannot be written \(No such file"):
        run(good, "nowhere/out.csv")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(DatasetError, match=r"out\.csv: cannot be written \(Is a directory"):
        run(good, "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.parametrize("output", ["out.csv", "out.parquet"])
def test_disk_that_is_full(run, predictor, tmp_path, output):
    """No file may grow beyond a limit, as on a disk with that much room."""
    scored = run("size,weight,colour\n" + "1,2,red\n" * 50_000, output)
    before = scored.files.output.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(DatasetError, match=r"out\..*: cannot be written \(File too large\)"):
            scoring.score(scored.files, predictor)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert scored.files.output.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", output]


def test_progress(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "ROWS", 10)
    monkeypatch.setattr(streams, "BLOCK", 100)
    path = tmp_path / "in.csv"
    path.write_text("size,weight,colour\n" + "1,2,red\n" * 1000)
    shares = []
    scoring.score(scoring.open_files(path), predictor, shares.append)
    assert len(shares) >= 50
    assert shares == sorted(shares)
    assert 0 < shares[0] < 1
    assert shares[-1] == 1


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("size", [1, 99])
def test_memory_does_not_grow_with_the_file(predictor, tmp_path, monkeypatch, name, size):
    """Neither by good rows nor by bad ones; all at once would take 1.8 MB and more."""
    monkeypatch.setattr(streams, "BLOCK", 1 << 14)
    monkeypatch.setattr(streams, "ROWS", 1 << 10)
    count = 100_000
    path = tmp_path / name
    table = pa.table(
        {"size": np.full(count, size), "weight": np.full(count, 2.0), "colour": ["red"] * count}
    )
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=count // 20)
    del table
    before, most = pa.total_allocated_bytes(), 0

    def look(done):
        nonlocal most
        most = max(most, pa.total_allocated_bytes() - before)

    summary = scoring.score(scoring.open_files(path), predictor, look)
    assert summary.scored + summary.rejected == count
    assert 0 < most < 500_000
