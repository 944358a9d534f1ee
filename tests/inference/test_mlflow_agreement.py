"""The service beside MLflow's own scoring server: the same model, the same requests.

VALID: both give the same predictions. ONLY_OURS: valid too, but MLflow's server refuses it.
ONLY_THEIRS: what MLflow's server reads and ours does not, for a reason. BAD: ours says what is
wrong, and MLflow's server does something worse. AS_IN_TRAINING: both answer, and only ours reads
the cell as it was read for training.
"""

import csv
import datetime as dt
import decimal
import http.client
import io
import json
import sys
import threading
import time
import warnings
from contextlib import closing

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import ROOT
from common.settings import DatasetSettings
from inference import launcher
from inference.local import ARTIFACTS
from inference.predictor import ARTIFACT
from inference.schema import MISSING_TEXTS

pytestmark = pytest.mark.integration

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
ROW = {
    "island": "Biscoe",
    "culmen_length_mm": 48.5,
    "culmen_depth_mm": 15.0,
    "flipper_length_mm": 219.0,
    "body_mass_g": 4850.0,
    "sex": "FEMALE",
}
# what the penguins' config file leaves as it is
PLACEHOLDERS = DatasetSettings.model_fields["placeholders"].default
NAMES = list(ROW)
NUMBERS = NAMES[1:5]
PENGUINS = pd.read_csv(ROOT / "data" / "penguins.csv")
TABLE = PENGUINS[NAMES]


def row(**changes):
    return ROW | changes


def without(name):
    return {key: value for key, value in ROW.items() if key != name}


def as_json(**content):
    return JSON, json.dumps(content).encode()


def with_literal(literal, column="body_mass_g"):
    """One record whose value is not what Python would write."""
    return JSON, json.dumps({"inputs": [row(**{column: "@"})]}).replace('"@"', literal).encode()


def as_split(*rows, columns=NAMES, **more):
    data = [[each[name] for name in columns] for each in rows]
    return as_json(dataframe_split={"columns": columns, "data": data, **more})


def as_csv(*rows, columns=NAMES, **options):
    text = io.StringIO()
    writer = csv.writer(text, **{"lineterminator": "\n", **options})
    writer.writerow(columns)
    writer.writerows([[each[name] for name in columns] for each in rows])
    return CSV, text.getvalue().encode()


def with_cell(cell, column="culmen_length_mm"):
    """A CSV with one cell that is written as given."""
    content_type, body = as_csv(row(**{column: "@"}), ROW)
    return content_type, body.replace(b"@", cell.encode(), 1)


def as_parquet(table, **options):
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table)
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return PARQUET, file.getvalue()


def changed(column, values):
    """Two penguins as Parquet, one column of theirs another."""
    return as_parquet(TABLE[:2].assign(**{column: values}))


VALID = {
    "all penguins as CSV": (CSV, TABLE.to_csv(index=False).encode()),
    "all penguins as CSV with an index": (CSV, TABLE.to_csv().encode()),
    "all penguins as split": as_json(
        dataframe_split=json.loads(TABLE.to_json(orient="split")), params={}
    ),
    "all penguins as records": as_json(
        dataframe_records=json.loads(TABLE.to_json(orient="records"))
    ),
    "all penguins as columns": as_json(
        inputs={name: json.loads(TABLE[name].to_json(orient="values")) for name in NAMES}
    ),
    "all penguins as Parquet": as_parquet(TABLE),
    **{
        f"{form}: {name}": as_json(**{form: rows})
        for form in ("dataframe_records", "inputs", "instances")
        for name, rows in {
            "one": [ROW],
            "several": [ROW, row(sex="MALE"), row(island="Dream")],
            "other order": [dict(reversed(ROW.items()))],
            "mixed orders": [dict(reversed(ROW.items())), ROW],
            "all missing": [dict.fromkeys(ROW)],
            "all missing twice": [dict.fromkeys(ROW)] * 2,
            **{f"{key} missing": [row(**{key: None})] for key in NAMES},
            "each missing in one": [row(**{key: None}) for key in NAMES],
            "integers": [row(culmen_length_mm=48, body_mass_g=4850)],
            "integers and floats": [row(body_mass_g=4850), row(body_mass_g=4850.5)],
            "integers and missing": [row(body_mass_g=4850), row(body_mass_g=None)],
            "unseen categories": [row(island="Mars", sex="?")],
            "texts that CSV takes for missing": [row(island="NA", sex="null"), row(sex="nan")],
            "texts that look like something else": [
                row(island="12", sex="true"),
                row(island="2020-01-01", sex="1e3"),
            ],
            "other scripts": [row(island="größe 🐧 \u2028 \x00", sex=" FEMALE")],
        }.items()
    },
    **{
        f"{form}: {name}": as_json(**{form: columns})
        for form in ("inputs", "instances")
        for name, columns in {
            "a record without a list": ROW,
            "columns": {key: [value, value] for key, value in ROW.items()},
            "columns with missing values": {key: [value, None] for key, value in ROW.items()},
        }.items()
    },
    "params": as_json(inputs=[ROW], params={"temperature": 1}),
    "params are null": as_json(inputs=[ROW], params=None),
    "params are a list": as_json(inputs=[ROW], params=[1]),
    "split": as_split(ROW, row(sex=None)),
    "split in another order": as_split(ROW, columns=NAMES[::-1]),
    "split with an index": as_split(ROW, ROW, index=[7, 7]),
    "split with an index of texts": as_split(ROW, ROW, index=["a", "b"]),
    "split without an index": as_split(ROW, ROW, index=None),
    "split, all missing": as_split(dict.fromkeys(ROW)),
    "split, each missing in one": as_split(*(row(**{key: None}) for key in NAMES)),
    "many digits": with_literal("4850.123456789012345678901234567890"),
    "exponents": with_literal("485.0E+1"),
    "escapes": with_literal(r'"\u00e9\n\ud83d\udc27\/"', "island"),
    "a key twice, the last counts": (
        JSON,
        b'{"inputs": [], ' + json.dumps({"inputs": [ROW]})[1:].encode(),
    ),
    "a column twice, the last counts": with_literal('"Mars", "island": "Dream"', "island"),
    "white space around": (JSON, b"\n\t " + as_json(inputs=[ROW])[1] + b"\r\n"),
    "byte order mark": (JSON, b"\xef\xbb\xbf" + as_json(inputs=[ROW])[1]),
    "charset": (f"{JSON}; charset=utf-8", as_json(inputs=[ROW])[1]),
    "charset in capitals": (f"{JSON};charset=UTF-8", as_json(inputs=[ROW])[1]),
    "CSV": as_csv(ROW, row(sex="MALE")),
    "CSV: one": as_csv(ROW),
    "CSV: other order": as_csv(ROW, columns=NAMES[::-1]),
    "CSV: CRLF": as_csv(ROW, ROW, lineterminator="\r\n"),
    "CSV: CR": as_csv(ROW, ROW, lineterminator="\r"),
    "CSV: byte order mark": (CSV, b"\xef\xbb\xbf" + as_csv(ROW)[1]),
    "CSV: quotes everywhere": as_csv(ROW, ROW, quoting=csv.QUOTE_ALL),
    "CSV: no last line end": (CSV, as_csv(ROW, ROW)[1].rstrip()),
    "CSV: blank lines": (CSV, b"\n\n" + as_csv(ROW, ROW)[1].replace(b"\n", b"\n\n")),
    "CSV: charset": (f"{CSV}; charset=utf-8", as_csv(ROW)[1]),
    "CSV: all missing": as_csv(dict.fromkeys(ROW, "")),
    **{
        f"CSV: all that stands for missing in {column}": as_csv(
            *(row(**{column: text}) for text in sorted({*MISSING_TEXTS} & {*PLACEHOLDERS})), ROW
        )
        for column in ("culmen_length_mm", "island")
    },
    **{
        f"CSV: number {cell!r}": with_cell(cell)
        for cell in ("48", " 48.5", "48.5\t", "+48.5", "48.", "4.85e1", "4.85E+01", '"48.5"')
    },
    **{
        f"CSV: text {cell!r}": with_cell(cell, "island")
        for cell in (
            *(
                '"say ""x"""',
                'a"b',
                '"a,b"',
                '"two\nlines"',
                '"two\r\nlines"',
                "größe 🐧",
            ),
            *(
                "12",
                "0012",
                "1.0",
                "1e3",
                "true",
                "2020-01-01",
                "#x",
                "none",
                "+nan",
                "inf",
                "x" * 200,
            ),
        )
    },
    "Parquet: one": as_parquet(TABLE[:1]),
    "Parquet: other order": as_parquet(TABLE[NAMES[::-1]]),
    "Parquet: rows of a longer table": as_parquet(TABLE[TABLE["island"] == "Dream"]),
    "Parquet: charset": (f"{PARQUET}; charset=utf-8", as_parquet(TABLE[:2])[1]),
    "Parquet: several row groups": as_parquet(TABLE, row_group_size=7),
    "Parquet: no dictionaries": as_parquet(TABLE, use_dictionary=False),
    "Parquet: pages of version 2": as_parquet(TABLE, data_page_version="2.0"),
    "Parquet: format 1.0": as_parquet(TABLE, version="1.0"),
    "Parquet: checksums": as_parquet(TABLE, write_page_checksum=True),
    **{
        f"Parquet: {codec}": as_parquet(TABLE, compression=codec)
        for codec in ("none", "gzip", "zstd", "brotli", "lz4")
    },
    "Parquet: float32": as_parquet(TABLE.astype(dict.fromkeys(NUMBERS, "float32"))),
    "Parquet: float16": as_parquet(TABLE[:2].astype({"culmen_length_mm": "float16"})),
    "Parquet: int32": changed("body_mass_g", pd.array([3750, 4000], "int32")),
    "Parquet: strings of pandas": as_parquet(TABLE.astype({"island": "string", "sex": "string"})),
    "Parquet: large strings": as_parquet(
        pa.Table.from_pandas(TABLE).set_column(
            0, "island", pa.array(TABLE["island"], pa.large_string())
        )
    ),
    "Parquet: text that CSV takes for missing": changed("sex", ["NaN", "null"]),
    "Parquet: other scripts": changed("sex", ["größe 🐧", " "]),
    "Parquet: all missing": as_parquet(pd.DataFrame([dict.fromkeys(ROW)])),
    **{f"Parquet: {key} missing": changed(key, None) for key in NAMES},
    **{f"Parquet: {key} missing in one": changed(key, [ROW[key], None]) for key in NAMES},
    **{f"Parquet: {key} is NaN": changed(key, float("nan")) for key in NUMBERS},
}

# Name: a request that MLflow's server refuses, and with which status.
ONLY_OURS = {
    # types and charsets are not case-sensitive, and may be quoted (RFC 9110, 5.6.6 and 8.3.1)
    "JSON in capitals": ("Application/JSON", as_json(inputs=[ROW])[1], 415),
    "CSV in capitals": ("TEXT/CSV", as_csv(ROW)[1], 415),
    "quoted charset": (f'{JSON}; charset="utf-8"', as_json(inputs=[ROW])[1], 415),
    "charset with a capital": (f"{JSON}; Charset=utf-8", as_json(inputs=[ROW])[1], 415),
    "charset without a hyphen": (f"{JSON}; charset=utf8", as_json(inputs=[ROW])[1], 415),
    "nothing after the semicolon": (f"{JSON};", as_json(inputs=[ROW])[1], 415),
    # what pandas writes for whole numbers; in JSON and CSV MLflow's server takes them too
    "Parquet: int64": (*changed("body_mass_g", [4850, 4850]), 400),
    "Parquet: uint64": (*changed("body_mass_g", pd.array([4850] * 2, "uint64")), 400),
    "Parquet: nullable Int64": (*changed("body_mass_g", pd.array([4850] * 2, "Int64")), 400),
    # what pandas writes for categories
    "Parquet: categories": (*changed("island", pd.Categorical(["Biscoe"] * 2)), 400),
    # what pandas writes for a category that is missing in every row
    "Parquet: NaN for text": (*changed("island", float("nan")), 400),
    # the labels of the rows are a column of the file
    "Parquet: a feature as index": (*as_parquet(TABLE[:2].set_index("island")), 400),
    # spaces around a number do no harm in either, and in ours none where it is missing
    "CSV: NaN after a space": (*with_cell(" NaN"), 400),
    "CSV: a space for a number": (*with_cell(" "), 400),
    "CSV: a placeholder that is none for pandas": (*with_cell("?"), 400),
}

# Name: a request that MLflow's server answers, and the status of ours.
ONLY_THEIRS = {
    # a small file that repeats parts of texts could become gigabytes
    "Parquet: texts made of parts": (
        *as_parquet(TABLE, use_dictionary=False, column_encoding={"sex": "DELTA_BYTE_ARRAY"}),
        400,
    ),
    "Parquet: lengths before texts": (
        *as_parquet(
            TABLE, use_dictionary=False, column_encoding={"sex": "DELTA_LENGTH_BYTE_ARRAY"}
        ),
        400,
    ),
}

# Cells of the island, and what ours reads.
AS_IN_TRAINING = {" Biscoe": "Biscoe", "Dream \t": "Dream", '" Torgersen\n"': "Torgersen"}

# What MLflow's server does with bad input:
ANSWERS = "answers 200, with predictions of what was not sent, or none"
FAILS = "answers 500 without a reason"
TRACES = "refuses with a stack trace, which holds paths"
REFUSES = "refuses, with an error meant for its developers, and often the whole body in it"

# Name: a request, our status, and what MLflow's server does.
BAD = {
    # what is not in the format
    "not JSON": (JSON, b"x", 400, REFUSES),
    "empty": (JSON, b"", 400, REFUSES),
    "truncated": (JSON, as_json(inputs=[ROW])[1][:-5], 400, REFUSES),
    "more after the end": (JSON, as_json(inputs=[ROW])[1] + b"x", 400, REFUSES),
    "Python's quotes": (JSON, str({"inputs": [ROW]}).encode(), 400, REFUSES),
    "not UTF-8": (JSON, with_literal('"ö"', "sex")[1].decode().encode("latin-1"), 400, REFUSES),
    "UTF-16": (JSON, as_json(inputs=[ROW])[1].decode().encode("utf-16"), 400, ANSWERS),
    "half a character": (*with_literal(r'"\ud800"', "sex"), 400, TRACES),
    "deep nesting": (JSON, b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, FAILS),
    "NaN": (*with_literal("NaN"), 400, ANSWERS),
    "Infinity": (*with_literal("Infinity"), 400, TRACES),
    "number beyond all floats": (*with_literal("1e999"), 400, TRACES),
    "number of 400 digits": (*with_literal("9" * 400), 400, REFUSES),
    "number of 10,000 digits": (*with_literal("9" * 10_000), 400, FAILS),
    "list": (JSON, b"[]", 400, REFUSES),
    "null": (JSON, b"null", 400, REFUSES),
    "empty object": (*as_json(), 400, REFUSES),
    "two forms": (*as_json(inputs=[ROW], instances=[ROW]), 400, REFUSES),
    "misspelt key": (*as_json(inputs=[ROW], parms={}), 400, ANSWERS),
    "messages to a chat": (*as_json(messages=[{"role": "user", "content": "hi"}]), 400, REFUSES),
    "inputs are a number": (*as_json(inputs=3), 400, REFUSES),
    "inputs are null": (*as_json(inputs=None), 400, REFUSES),
    "columns of different lengths": (
        *as_json(inputs={key: [ROW[key]] * (1 + (key == "sex")) for key in NAMES}),
        400,
        REFUSES,
    ),
    "columns and values mixed": (
        *as_json(inputs={key: [ROW[key]] if key == "sex" else ROW[key] for key in NAMES}),
        422,
        ANSWERS,
    ),
    "records that are an object": (*as_json(dataframe_records=ROW), 400, REFUSES),
    "split without columns": (*as_json(dataframe_split={"data": [[1]]}), 400, REFUSES),
    "split with a short row": (
        *as_json(dataframe_split={"columns": NAMES, "data": [[1]]}),
        400,
        REFUSES,
    ),
    "split with a long row": (
        *as_json(dataframe_split={"columns": NAMES, "data": [[*ROW.values(), 1]]}),
        400,
        REFUSES,
    ),
    "split with records": (
        *as_json(dataframe_split={"columns": NAMES, "data": [ROW]}),
        400,
        ANSWERS,
    ),
    "split with a column twice": (*as_split(ROW, columns=[*NAMES[:5], "island"]), 400, REFUSES),
    "split with a short index": (*as_split(ROW, ROW, index=[1]), 400, REFUSES),
    "split with a number as index": (*as_split(ROW, index=3), 400, REFUSES),
    "CSV: empty": (CSV, b"", 400, TRACES),
    "CSV: not UTF-8": (CSV, with_cell("größe", "sex")[1].decode().encode("latin-1"), 400, REFUSES),
    "CSV: UTF-16": (CSV, as_csv(ROW)[1].decode().encode("utf-16"), 400, REFUSES),
    "CSV: open quote": (CSV, as_csv(ROW)[1] + b'"Dream', 400, TRACES),
    "CSV: text after a quote": (*with_cell('"x"y', "island"), 400, ANSWERS),
    "CSV: short row": (CSV, as_csv(ROW)[1] + b"Dream,40\n", 400, ANSWERS),
    "CSV: long row": (CSV, as_csv(ROW)[1] + as_csv(ROW)[1].split(b"\n")[1] + b",1\n", 400, TRACES),
    "CSV: row of spaces": (CSV, as_csv(ROW)[1] + b"   \n", 400, ANSWERS),
    "CSV: a column twice": (*as_csv(ROW, columns=[*NAMES[:5], "island"]), 400, REFUSES),
    "Parquet: empty": (PARQUET, b"", 400, TRACES),
    "Parquet: CSV": (PARQUET, as_csv(ROW)[1], 400, TRACES),
    "Parquet: truncated": (PARQUET, as_parquet(TABLE)[1][:-10], 400, TRACES),
    "Parquet: without its beginning": (PARQUET, as_parquet(TABLE)[1][100:], 400, TRACES),
    "Parquet: a column twice": (
        *as_parquet(pa.Table.from_pandas(TABLE).append_column("sex", pa.nulls(len(TABLE)))),
        400,
        TRACES,
    ),
    # no rows, so no predictions
    "no records": (*as_json(dataframe_records=[]), 400, REFUSES),
    "no inputs": (*as_json(inputs=[]), 400, REFUSES),
    "columns without rows": (*as_json(inputs={key: [] for key in NAMES}), 400, ANSWERS),
    "split without rows": (*as_json(dataframe_split={"columns": NAMES, "data": []}), 400, ANSWERS),
    "CSV: header only": (CSV, ",".join(NAMES).encode(), 400, ANSWERS),
    "Parquet: no rows": (*as_parquet(TABLE[:0]), 400, ANSWERS),
    # what does not fit the table
    "unknown column": (*as_json(inputs=[row(wing=1)]), 422, ANSWERS),
    "missing column": (*as_json(inputs=[without("sex")]), 422, REFUSES),
    "column missing in one record": (*as_json(inputs=[ROW, without("sex")]), 422, ANSWERS),
    "empty record": (*as_json(inputs=[{}]), 422, REFUSES),
    "record that is a number": (*as_json(inputs=[3]), 422, REFUSES),
    "record that is null": (*as_json(inputs=[ROW, None]), 422, REFUSES),
    "records that are lists": (*as_json(instances=[list(ROW.values())]), 422, REFUSES),
    "number as text": (*with_literal('"4850"'), 422, ANSWERS),
    "text for a number": (*with_literal('"heavy"'), 422, REFUSES),
    "true for a number": (*with_literal("true"), 422, TRACES),
    "list for a number": (*with_literal("[4850]"), 422, REFUSES),
    "number out of range": (*with_literal("1"), 422, TRACES),
    "number for text": (*with_literal("1", "sex"), 422, ANSWERS),
    "true for text": (*with_literal("true", "sex"), 422, ANSWERS),
    "object for text": (*with_literal('{"a": 1}', "sex"), 422, ANSWERS),
    "list for text": (*with_literal('["MALE"]', "sex"), 422, TRACES),
    "deep list for text": (*with_literal("[" * 900 + "]" * 900, "sex"), 422, REFUSES),
    "empty text": (*with_literal('""', "sex"), 422, TRACES),
    "text of 201 characters": (*with_literal(f'"{"x" * 201}"', "sex"), 422, TRACES),
    "CSV: unknown column": (CSV, PENGUINS.to_csv(index=False).encode(), 422, ANSWERS),
    "CSV: missing column": (*as_csv(ROW, columns=NAMES[:5]), 422, REFUSES),
    "CSV: semicolons": (CSV, as_csv(ROW)[1].replace(b",", b";"), 422, REFUSES),
    "CSV: commas at the ends": (CSV, as_csv(ROW)[1].replace(b"\n", b",\n"), 422, ANSWERS),
    "CSV: text for a number": (*with_cell("long"), 422, TRACES),
    "CSV: decimal comma": (*with_cell('"48,5"'), 422, TRACES),
    "CSV: digits of another script": (*with_cell("٤٨"), 422, TRACES),
    "CSV: underscore": (*with_cell("4_8"), 422, TRACES),
    "CSV: unusual NaN": (*with_cell("NAN"), 422, TRACES),
    "CSV: what training does not take for missing": (*with_cell("<NA>"), 422, ANSWERS),
    "CSV: infinity": (*with_cell("inf"), 422, TRACES),
    "CSV: out of range": (*with_cell("480"), 422, TRACES),
    "CSV: null byte": (*with_cell("48.5\x00"), 422, ANSWERS),
    "Parquet: unknown column": (*as_parquet(PENGUINS), 422, ANSWERS),
    "Parquet: missing column": (*as_parquet(TABLE[NAMES[:5]]), 422, REFUSES),
    "Parquet: number as text": (*changed("body_mass_g", "4850"), 422, ANSWERS),
    "Parquet: decimal for a number": (*changed("body_mass_g", decimal.Decimal(4850)), 422, ANSWERS),
    "Parquet: true for a number": (*changed("body_mass_g", [True, False]), 422, REFUSES),
    "Parquet: date for a number": (
        *changed("body_mass_g", dt.date(2020, 1, 1)),
        422,
        REFUSES,
    ),
    "Parquet: infinity": (*changed("body_mass_g", np.inf), 422, TRACES),
    "Parquet: out of range": (*changed("body_mass_g", 1.0), 422, TRACES),
    "Parquet: number for text": (*changed("sex", 3), 422, REFUSES),
    "Parquet: bytes for text": (*changed("sex", b"MALE"), 422, TRACES),
    "Parquet: list for text": (*changed("sex", [["MALE"], []]), 422, TRACES),
    "Parquet: empty text": (*changed("sex", ""), 422, TRACES),
    # what is not read
    "no content type": (None, as_json(inputs=[ROW])[1], 415, FAILS),
    "unknown content type": ("text/plain", as_json(inputs=[ROW])[1], 415, REFUSES),
    "other charset": (f"{JSON}; charset=latin-1", as_json(inputs=[ROW])[1], 415, REFUSES),
    "unknown parameter": (f"{JSON}; version=1", as_json(inputs=[ROW])[1], 415, REFUSES),
}


@pytest.fixture(scope="module")
def model(release):
    return release("1")


@pytest.fixture(scope="module")
def ours(make_local, model, tmp_path_factory):
    """Ask the service: `ours(content_type, body)`."""
    backend = make_local(tmp_path_factory.mktemp("ours"))
    backend.deploy(model)
    _, port = launcher.address(backend.settings.target)
    yield lambda content_type, body: ask(port, content_type, body)
    launcher.stop(backend.folder)


@pytest.fixture(scope="module")
def theirs(model, schema, free_port, tmp_path_factory):
    """Ask MLflow's scoring server about the same model, saved as a registered one is."""
    import mlflow  # noqa: PLC0415 - some seconds
    import uvicorn  # noqa: PLC0415
    from mlflow.pyfunc import scoring_server  # noqa: PLC0415

    from common.registration import SOURCE, signature  # noqa: PLC0415 - imports MLflow

    saved = tmp_path_factory.mktemp("theirs") / "model"
    with pytest.MonkeyPatch.context() as patch:
        # loading a model makes its code importable, and its server notes that it serves
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
        # it would like type hints and an example, whatever filters say
        with warnings.catch_warnings(record=True):
            mlflow.pyfunc.save_model(
                saved,
                python_model=str(SOURCE / "model.py"),
                artifacts={ARTIFACT: str(model.path / ARTIFACTS)},
                code_paths=[str(SOURCE)],
                pip_requirements=["mlflow"],
                signature=signature(schema),
            )
            loaded = mlflow.pyfunc.load_model(str(saved))
        app = scoring_server.init(loaded)
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        yield lambda content_type, body: ask(port, content_type, body)
        server.should_exit = True
        thread.join()


def ask(port, content_type, body):
    """Send one request: status, text of the answer."""
    headers = {"content-type": content_type} if content_type else {}
    # a connection each: MLflow's server may close one without a word after it has failed
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/invocations", body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.mark.parametrize("name", VALID)
def test_valid_input_is_answered_alike(ours, theirs, name):
    status, answer = ours(*VALID[name])
    assert status == 200, answer
    their_status, their_answer = theirs(*VALID[name])
    assert their_status == 200, their_answer
    assert json.loads(answer) == json.loads(their_answer)


def test_answers_tell_rows_apart(ours):
    """Else two servers could agree without reading anything."""
    predictions = json.loads(ours(*VALID["all penguins as CSV"])[1])["predictions"]
    assert len(predictions) == len(TABLE)
    assert len({json.dumps(each) for each in predictions}) > 300


@pytest.mark.parametrize("name", ONLY_OURS)
def test_valid_input_that_only_ours_answers(ours, theirs, name):
    content_type, body, their_status = ONLY_OURS[name]
    status, answer = ours(content_type, body)
    assert status == 200, answer
    assert theirs(content_type, body)[0] == their_status


@pytest.mark.parametrize("name", ONLY_THEIRS)
def test_valid_input_that_only_theirs_answers(ours, theirs, name):
    content_type, body, our_status = ONLY_THEIRS[name]
    status, answer = ours(content_type, body)
    assert (status, json.loads(answer)["error"]["code"]) == (our_status, "malformed")
    assert theirs(content_type, body)[0] == 200


@pytest.mark.parametrize("cell", AS_IN_TRAINING)
def test_cells_that_are_read_as_for_training(ours, theirs, cell):
    request = with_cell(cell, "island")
    status, answer = ours(*request)
    assert status == 200, answer
    meant = as_json(inputs=[row(island=AS_IN_TRAINING[cell]), ROW])
    assert json.loads(answer) == json.loads(ours(*meant)[1])
    their_status, their_answer = theirs(*request)
    assert their_status == 200
    assert json.loads(their_answer) != json.loads(answer)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_better(ours, theirs, name):
    content_type, body, expected, what_they_do = BAD[name]
    status, answer = ours(content_type, body)
    assert status == expected, answer
    error = json.loads(answer)["error"]
    # one line that says what is wrong, and nothing of how the service is made
    assert error["message"]
    assert "\n" not in error["message"]
    assert len(answer) < 10_000
    assert not any(trace in answer for trace in ("Traceback", ".py", "site-packages", str(ROOT)))
    their_status, their_answer = theirs(content_type, body)
    assert judged(their_status, their_answer) == what_they_do


def judged(status, answer):
    if status == 200:
        return ANSWERS
    if status >= 500:
        return FAILS
    return TRACES if "Traceback (most recent call last)" in answer else REFUSES
