"""Input of every kind: never a 5xx, never a hang, never a 200 for a row that was not predicted."""

import csv
import functools
import gzip
import http.client
import io
import json
import math
import re
import resource
import socket
import sqlite3
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from inference import launcher
from inference.schema import MAX_TEXT
from inference.store import Store
from inference.wire import CSV, FORMATS, JSON, PARQUET

pytestmark = pytest.mark.integration

SECONDS = 10
CODES = ("malformed", "too_large", "unsupported_format", "invalid_records")
# Examples of each test; together 5,000.
EXAMPLES = {
    "valid": 1_500,
    "invalid": 1_300,
    "damaged": 1_200,
    "anything": 550,
    "described": 250,
    "not as described": 200,
}


def run(name, strategy, check):
    """Check so many examples of a strategy, the same ones each time."""
    ran = 0

    @settings(
        max_examples=EXAMPLES[name],
        derandomize=True,
        database=None,
        deadline=None,
        # how long it takes to make an example says nothing of the service
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(strategy)
    def example(drawn):
        nonlocal ran
        ran += 1
        check(drawn)

    example()
    assert ran >= EXAMPLES[name]


def test_examples_are_enough():
    assert sum(EXAMPLES.values()) >= 5_000


@dataclass
class Reply:
    """An answer, and the rows that the store has since the request began."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    stored: list

    def check(self, classes):
        """Check all that must hold of any answer."""
        assert self.headers["x-request-id"]
        assert self.headers["content-type"] == JSON
        content = json.loads(self.body)
        if self.status == 200:
            assert len(content["predictions"]) == len(self.stored) > 0
            for place, (prediction, stored) in enumerate(
                zip(content["predictions"], self.stored, strict=True)
            ):
                probabilities = prediction["probabilities"]
                assert list(probabilities) == list(classes)
                assert math.isclose(sum(probabilities.values()), 1, abs_tol=1e-5)
                assert prediction["confidence"] == max(probabilities.values())
                assert probabilities[prediction["prediction"]] == prediction["confidence"]
                request_id, row, _, predicted = stored
                assert request_id == self.headers["x-request-id"]
                assert (row, predicted) == (place, prediction["prediction"])
        else:
            assert 400 <= self.status < 500
            error = content["error"]
            assert error["code"] in CODES
            assert error["message"]
            assert "Traceback" not in error["message"]
            assert len(self.body) < 20_000
            assert self.stored == []

    @property
    def rows(self):
        """The features of the stored rows."""
        return [json.loads(features) for _, _, features, _ in self.stored]


class Service:
    """A server, a connection to it that is kept open, and its store."""

    def __init__(self, backend):
        self.backend = backend
        self.port = launcher.address(backend.settings.target)[1]
        self.workers = {report.pid for report in backend.folder.reports()}
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        self.database = sqlite3.connect(backend.settings.database)
        self.key = b""

    def ask(self, content_type, body, **headers):
        """Send one request for predictions."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if content_type is not None:
            headers["content-type"] = content_type
        self.connection.request("POST", "/invocations", body, headers)
        response = self.connection.getresponse()
        return Reply(response.status, response.headers, response.read(), self.stored())

    def stored(self):
        """Return the rows that were stored since this was last asked."""
        rows = self.database.execute(
            "SELECT key, request_id, row, features, prediction FROM predictions"
            " WHERE key > ? ORDER BY key",
            [self.key],
        ).fetchall()
        if rows:
            self.key = rows[-1][0]
        return [row[1:] for row in rows]

    def exchange(self, *parts, half_close=False):
        """Send bytes over a connection of their own, each part after an answer to the last.

        Returns:
            All that comes until the server closes the connection.
        """
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            for part in parts:
                if part is not parts[0]:
                    received += connection.recv(65536)
                connection.sendall(part)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while chunk := receive(connection):
                received += chunk
        return received


def receive(connection):
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        # the server closed before it had read all that was sent
        return b""


@pytest.fixture(scope="module")
def service(make_local, release, tmp_path_factory):
    backend = make_local(tmp_path_factory.mktemp("fuzz"), workers=2)
    # with a table in it, whichever test comes first
    Store(backend.settings.database).close()
    backend.deploy(release("1"))
    # the first worker that answers is enough for a deploy
    deadline = time.monotonic() + SECONDS
    while len(backend.folder.reports()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    service = Service(backend)
    with closing(service.connection), closing(service.database):
        yield service
    launcher.stop(backend.folder)


@pytest.fixture
def check(service, schema):
    """Send a request and check all that must hold of any answer."""

    def ask(content_type, body, **headers):
        reply = service.ask(content_type, body, **headers)
        reply.check(schema.classes)
        return reply

    return ask


# Rows that fit, and the ways to write them. Each returns content type and body.


def fitting(schema):
    """Lists of rows that fit the schema."""
    texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
    fields = {}
    for name, feature in schema.features.items():
        if feature.kind == "number":
            low, high = feature.range
            # a whole number is a float too
            numbers = st.floats(low, high) | st.integers(int(low), int(high))
            fields[name] = st.none() | numbers
        else:
            usual = st.sampled_from(
                [None, *feature.categories, "Mars", "NA", "größe 🐧", ' "a",b ']
            )
            fields[name] = usual | texts
    return st.lists(st.fixed_dictionaries(fields), min_size=1, max_size=3)


def as_records(name, rows, columns):
    body = {name: [{column: row[column] for column in columns} for row in rows]}
    return JSON, json.dumps(body).encode()


def as_split(rows, columns):
    data = [[row[column] for column in columns] for row in rows]
    body = {"dataframe_split": {"columns": columns, "data": data}, "params": {}}
    return JSON, json.dumps(body, ensure_ascii=False).encode()


def as_columns(rows, columns):
    body = {"inputs": {column: [row[column] for row in rows] for column in columns}}
    return JSON, b"\xef\xbb\xbf" + json.dumps(body).encode()


def as_csv(rows, columns, **options):
    text = io.StringIO()
    writer = csv.writer(text, **options)
    writer.writerow(columns)
    writer.writerows([[row[column] for column in columns] for row in rows])
    return CSV, text.getvalue().encode()


def as_parquet(rows, columns, **options):
    table = pa.table({column: [row[column] for row in rows] for column in columns})
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return PARQUET, file.getvalue()


WRITERS = {
    **{name: functools.partial(as_records, name) for name in FORMATS if name != "dataframe_split"},
    "dataframe_split": as_split,
    "columns": as_columns,
    "csv": as_csv,
    "quoted csv": functools.partial(as_csv, quoting=csv.QUOTE_ALL, lineterminator="\n"),
    "parquet": as_parquet,
    "plain parquet": functools.partial(as_parquet, use_dictionary=False, compression="none"),
}


def requests_for(schema):
    """Rows that fit, an order of their columns, and a way to write them."""
    return st.tuples(
        fitting(schema),
        st.permutations(list(schema.features)),
        st.sampled_from(sorted(WRITERS)),
    )


def read_back(row, writer, schema):
    """Return what the service must have read: in CSV some texts stand for missing."""
    if "csv" not in writer:
        return row
    cells = {n: value.strip() if isinstance(value, str) else value for n, value in row.items()}
    return {n: None if cell in schema.placeholders else cell for n, cell in cells.items()}


def test_rows_that_fit(check, schema):
    def each(drawn):
        rows, columns, writer = drawn
        reply = check(*WRITERS[writer](rows, columns))
        assert reply.status == 200, reply.body
        assert reply.rows == [read_back(row, writer, schema) for row in rows]

    run("valid", requests_for(schema), each)


# Rows that do not fit, for a reason that is known.

WRONG = {
    "number": [
        *(1e39, -1e39, 1e300, -1.7e308, 1e-300, -1, 0),
        *("heavy", "1_0", "٤", "0x10", "1e999", "-inf"),
    ],
    "category": ["x" * (MAX_TEXT + 1), "é" * 5000],
}
# in JSON a value can be of any type
WRONG_IN_JSON = {
    "number": [*WRONG["number"], True, "", "40", [], [1], {}, {"a": 1}, 10**30],
    "category": [*WRONG["category"], True, "", 3, 1.5, [], ["Dream"], {}, {"a": None}],
}
# in pandas' tables some names with underscores stand for the labels of the rows
UNKNOWN = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00_"), min_size=1)
# takes much less time than a strategy for each choice
NUMBERS = st.integers(0, 999)


@st.composite
def wrong(draw, fine, schema):
    """A request with a row that does not fit, and where."""
    rows, columns, writer = draw(fine)
    column = columns[draw(NUMBERS) % len(columns)]
    of_json = "csv" not in writer and "parquet" not in writer
    choice = (WRONG_IN_JSON if of_json else WRONG)[schema.features[column].kind]
    bad = choice[draw(NUMBERS) % len(choice)]
    place = draw(NUMBERS) % len(rows)
    if "parquet" in writer:
        # a column is of one type
        rows, place = [row | {column: bad} for row in rows], 0
    else:
        rows = [*rows[:place], rows[place] | {column: bad}, *rows[place + 1 :]]
    return WRITERS[writer](rows, columns), place, column


@st.composite
def wrong_columns(draw, fine):
    """A request whose columns are not those of the table, and which it is."""
    rows, columns, writer = draw(fine)
    if draw(st.booleans()):
        left_out = columns[draw(NUMBERS) % len(columns)]
        return WRITERS[writer](rows, [name for name in columns if name != left_out]), 0, left_out
    added = draw(UNKNOWN)
    rows = [row | {added: "x"} for row in rows]
    return WRITERS[writer](rows, [*columns, added]), 0, added[:MAX_TEXT]


def test_rows_that_do_not_fit(check, schema):
    def each(drawn):
        request, row, column = drawn
        reply = check(*request)
        assert reply.status == 422, reply.body
        problems = json.loads(reply.body)["error"]["problems"]
        assert (row, column) in [(each["row"], each["column"]) for each in problems]

    fine = requests_for(schema)
    run("invalid", wrong(fine, schema) | wrong_columns(fine), each)


# Bodies that were whole once.

DAMAGES = st.lists(
    st.sampled_from(["cut", "drop", "replace", "repeat", "insert"]), min_size=1, max_size=3
)
BYTES = st.binary(max_size=8)
TOKENS = [
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"true", b'"', b"'", b",", b"[", b"]", b"{", b"}"),
    *(b"\n", b"\r", b"\x00", b"\xff", b"\xed\xa0\x80", b"\\u0000", b"\\ud800", b"\xef\xbb\xbf"),
    *(b"[" * 2000, b"9" * 5000, b'{"a":' * 2000, b'"' * 1000, b"0" * 1000, b"." * 100, b"PAR1"),
    *(b"inputs", b'"instances":[],', b'"columns":', b"-", b"e", b"\xe2\x80\xa8", b"/**/"),
]


@st.composite
def damaged(draw, fine):
    """A request whose body is no longer what was written."""
    rows, columns, writer = draw(fine)
    content_type, body = WRITERS[writer](rows, columns)
    body = bytearray(body)
    for how in draw(DAMAGES):
        start = draw(NUMBERS) * (len(body) + 1) // 1000
        length = draw(NUMBERS) % 9
        if how == "cut":
            del body[start:]
        elif how == "drop":
            del body[start : start + length]
        elif how == "replace":
            body[start : start + length] = draw(BYTES)
        elif how == "repeat":
            body[start:start] = body[start : start + 10 * length]
        else:
            body[start:start] = TOKENS[draw(NUMBERS) % len(TOKENS)]
    return content_type, bytes(body)


def rows_in_json(body):
    """Count the rows of a JSON body with another reader than the service's."""
    [(name, content)] = [
        (key, value)
        for key, value in json.loads(body.decode("utf-8-sig")).items()
        if key in FORMATS
    ]
    if name == "dataframe_split":
        return len(content["data"])
    if isinstance(content, list):
        return len(content)
    values = list(content.values())
    return len(values[0]) if isinstance(values[0], list) else 1


def test_damaged_bodies(check, schema):
    def each(request):
        content_type, body = request
        reply = check(content_type, body)
        if reply.status == 200 and content_type == JSON:
            assert len(reply.stored) == rows_in_json(body)
        if reply.status == 200:
            # what was stored fits, whatever was sent
            assert schema.check(reply.rows) == reply.rows

    run("damaged", damaged(requests_for(schema)), each)


# Anything at all.

HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
CONTENT_TYPES = st.sampled_from(
    [JSON, CSV, PARQUET, f"{JSON}; charset=latin-1", f"{JSON};charset", "text/plain", "", None]
)
NAMES = st.sampled_from([*FORMATS, "columns", "data", "index", "params", "island", "sex", ""])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([*FORMATS, "columns", "data", "index", "params"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
BODIES = (
    st.binary(max_size=60)
    | st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(NAMES, VALUES, max_size=2).map(lambda value: json.dumps(value).encode())
    | st.lists(st.sampled_from(TOKENS), max_size=8).map(b"".join)
    | st.binary(max_size=20).map(gzip.compress)
)


def test_anything(check):
    def each(drawn):
        content_type, body, request_id, encoding = drawn
        reply = check(content_type, body, x_request_id=request_id, content_encoding=encoding)
        # none of this is a table of penguins
        assert reply.status in (400, 413, 415, 422)

    encodings = st.sampled_from(["identity", "identity", "identity", "gzip", "br", "x, y"])
    run("anything", st.tuples(CONTENT_TYPES | HEADERS, BODIES, HEADERS, encodings), each)


# What the service says of itself.


@pytest.fixture(scope="module")
def described(service):
    """Schemathesis' view of the service, and a way to send what it makes up."""
    service.connection.request("GET", "/openapi.json")
    content = json.loads(service.connection.getresponse().read())
    loaded = schemathesis.openapi.from_dict(content)
    loaded.config.update(base_url=service.backend.settings.target)
    with requests.Session() as session:
        session.trust_env = False
        yield loaded, functools.partial(send, session)


ALWAYS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def send(session, case, *more):
    response = case.call(session=session, timeout=SECONDS)
    case.validate_response(response, checks=[*ALWAYS, *more])
    return response


def test_what_is_described_is_answered(service, described):
    loaded, ask = described

    def each(case):
        service.stored()
        answer = ask(case, checks.positive_data_acceptance).json()
        assert len(answer["predictions"]) == len(service.stored()) > 0

    # that of CSV says no more than that it is text
    strategy = loaded["/invocations"]["POST"].as_strategy()
    run("described", strategy.filter(lambda case: case.media_type == JSON), each)


def test_what_is_not_described_is_refused(service, described):
    loaded, ask = described

    def each(case):
        service.stored()
        response = ask(case, checks.negative_data_rejection)
        assert response.status_code in (400, 415, 422)
        assert service.stored() == []

    strategy = loaded["/invocations"]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE)
    run("not as described", strategy, each)


@pytest.mark.parametrize("path", ["/ping", "/health", "/version", "/metrics", "/openapi.json"])
def test_other_endpoints_are_as_described(described, path):
    loaded, ask = described
    assert ask(loaded[path]["GET"].Case()).status_code == 200
    # and answer nothing but GET
    response = requests.post(f"{loaded.config.base_url}{path}", timeout=SECONDS)
    assert response.status_code == 405


# What is known to have broken others.

ROW = b'{"island": "Dream", "culmen_length_mm": null, "culmen_depth_mm": null, \
"flipper_length_mm": null, "body_mass_g": null, "sex": null}'


def one(name, value):
    return b'{"inputs": [' + ROW.replace(b'"%s": null' % name, b'"%s": %s' % (name, value)) + b"]}"


NESTED = b"[" * 100_000 + b"]" * 100_000
DIGITS = b"9" * 10_000
KNOWN = {
    "nothing": (JSON, b"", 400),
    "deep nesting": (JSON, b'{"inputs": ' + NESTED + b"}", 400),
    "deep nesting that is not closed": (JSON, b'{"inputs": ' + b"[" * 2_000_000, 400),
    "deep objects": (JSON, b'{"inputs": ' * 100_000, 400),
    "deep value": (JSON, one(b"sex", b"[" * 1000 + b"]" * 1000), 422),
    # the last counts, as for Python's reader, browsers, and MLflow's server
    "equal keys in a record": (JSON, one(b"sex", b'3, "sex": "MALE"'), 200),
    "equal keys, the last is wrong": (JSON, one(b"sex", b'"MALE", "sex": 3'), 422),
    "equal keys around records": (JSON, b'{"inputs": 3, "inputs": [%s]}' % ROW, 200),
    "many equal keys": (JSON, b'{"inputs": [{' + b'"sex": 1,' * 100_000 + b'"sex": 1}]}', 422),
    "integer of 10,000 digits": (JSON, one(b"body_mass_g", DIGITS), 400),
    "fraction of 10,000 digits": (JSON, one(b"body_mass_g", b"4850." + DIGITS), 200),
    "exponent of 10,000 digits": (JSON, one(b"body_mass_g", b"1e" + DIGITS), 400),
    "negative exponent of 10,000 digits": (JSON, one(b"body_mass_g", b"1e-" + DIGITS), 422),
    "digits in CSV": (CSV, b"body_mass_g\n" + DIGITS, 422),
    "NaN": (JSON, one(b"body_mass_g", b"NaN"), 400),
    "Infinity": (JSON, one(b"body_mass_g", b"Infinity"), 400),
    "-Infinity": (JSON, one(b"body_mass_g", b"-Infinity"), 400),
    "infinite": (JSON, one(b"body_mass_g", b"1e400"), 400),
    "UTF-16": (JSON, (b'{"inputs": [%s]}' % ROW).decode().encode("utf-16"), 400),
    "latin-1": (JSON, one(b"sex", '"ö"'.encode("latin-1")), 400),
    "charset latin-1": (f"{JSON}; charset=latin-1", one(b"sex", b'"o"'), 415),
    "UTF-7": (f"{JSON}; charset=utf-7", one(b"sex", b'"+AGE-"'), 415),
    "gzip that is not announced": (JSON, gzip.compress(one(b"sex", b"null")), 400),
    "400,000 columns": (
        JSON,
        b'{"inputs": [{' + b",".join(b'"%d": 1' % number for number in range(400_000)) + b"}]}",
        422,
    ),
    "300 columns in 9,000 rows": (
        CSV,
        b",".join(b"%d" % number for number in range(300)) + (b"\n" + b"," * 299) * 9_000,
        422,
    ),
    "9,000 empty records": (JSON, b'{"inputs": [' + b"{}," * 8_999 + b"{}]}", 422),
    "a million rows": (CSV, b"sex\n" + b"x\n" * 1_000_000, 413),
    "a million numbers": (JSON, b'{"inputs": [' + b"1," * 1_000_000 + b"1]}", 413),
    "a cell of 4 MB": (CSV, b"sex\n" + b"x" * 4_000_000, 400),
    "6 MB": (JSON, b'{"inputs": "' + b"x" * 6_000_000 + b'"}', 413),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_troubles(check, name):
    content_type, body, status = KNOWN[name]
    assert check(content_type, body).status == status


def test_gzip_is_refused(check):
    body = gzip.compress(one(b"sex", b"null"))
    assert check(JSON, body, content_encoding="gzip").status == 415


def test_text_that_a_small_file_repeats(check, record):
    text = "x" * 1_000_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 9_000), [text])
    table = pa.Table.from_pylist([record] * 9_000).set_column(5, "sex", column)
    file = io.BytesIO()
    pq.write_table(table, file)
    # unpacked it would be 9 GB
    assert len(file.getvalue()) < 100_000
    assert check(PARQUET, file.getvalue()).status == 422


# HTTP itself, byte by byte.

BODY = b'{"inputs": [%s]}' % ROW
POST = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
GET = b"GET /ping HTTP/1.1\r\nHost: a\r\n"
# Shows that the connection goes on, at the right place, and ends it.
LAST = GET + b"Connection: close\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: %s\r\n"

# Name: what is sent, and the statuses of all answers. LAST is sent with it, and answered 200 unless
# the connection is closed before.
RAW = {
    "as it should be": (POST + LENGTH + b"\r\n" + BODY, [200, 200]),
    "chunks": (POST + CHUNKED + b"\r\n" + CHUNKS, [200, 200]),
    "chunks with extensions and trailers": (
        POST + CHUNKED + b"\r\n" + CHUNKS.replace(b"\r\n", b";a=b\r\n", 1)[:-2] + b"A: b\r\n\r\n",
        [200, 200],
    ),
    # two lengths would let a proxy and this server see different requests
    "two equal lengths": (POST + LENGTH * 2 + b"\r\n" + BODY, [400]),
    "two lengths": (POST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY, [400]),
    "list of lengths": (POST + LENGTH[:-2] + b", 3\r\n\r\n" + BODY, [400]),
    "length and chunks": (POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS, [400]),
    "chunks and length": (POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + GET, [400]),
    "space before the colon": (POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, [400]),
    "unknown coding": (POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS, [400]),
    "chunked is not last": (
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
        [400],
    ),
    "negative length": (POST + b"Content-Length: -5\r\n\r\n" + BODY, [400]),
    "length with a sign": (POST + b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY, [400]),
    "length in words": (POST + b"Content-Length: ten\r\n\r\n" + BODY, [400]),
    "no digits in the length": (POST + b"Content-Length: \r\n\r\n" + BODY, [400]),
    "length beyond 64 bits": (POST + b"Content-Length: %s\r\n\r\n" % (b"9" * 30) + BODY, [400]),
    "no length": (POST + b"\r\n" + BODY, [400]),
    "body longer than its length": (POST + LENGTH + b"\r\n" + BODY + b"more", [400]),
    "size of a chunk in words": (POST + CHUNKED + b"\r\nten\r\n" + BODY, [400]),
    "negative size of a chunk": (POST + CHUNKED + b"\r\n-5\r\n" + BODY, [400]),
    "size of a chunk beyond 64 bits": (POST + CHUNKED + b"\r\n" + b"f" * 18 + b"\r\n", [400]),
    "folded header": (POST + b"A: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY, [400]),
    "line feeds alone": ((POST + LENGTH + b"\r\n").replace(b"\r", b"") + BODY, [400]),
    "null byte in a header": (POST + b"A: b\x00\r\n" + LENGTH + b"\r\n" + BODY, [400]),
    "name of a header beyond ASCII": (POST + b"\xff: b\r\n" + LENGTH + b"\r\n" + BODY, [400]),
    "header without a colon": (POST + b"A\r\n" + LENGTH + b"\r\n" + BODY, [400]),
    "value of a header beyond ASCII": (
        POST + b"X-Request-Id: \xff\r\n" + LENGTH + b"\r\n" + BODY,
        [200, 200],
    ),
    "headers of 40 KB": (POST + b"A: b\r\n" * 6_500 + LENGTH + b"\r\n" + BODY, [200, 200]),
    "headers of 600 KB": (POST + b"A: b\r\n" * 100_000 + LENGTH + b"\r\n" + BODY, [400]),
    "pipelined": ((POST + LENGTH + b"\r\n" + BODY) * 3, [200, 200, 200, 200]),
    "pipelined, one is wrong": (
        (POST + b"Content-Length: 2\r\n\r\n{}" + POST + LENGTH + b"\r\n" + BODY),
        [400, 200, 200],
    ),
    "blank lines before": (b"\r\n\r\n" + POST + LENGTH + b"\r\n" + BODY, [200, 200]),
    "GET with a body": (GET + b"Content-Length: 3\r\n\r\nabc", [200, 200]),
    "HTTP/1.0": (POST.replace(b"1.1", b"1.0") + LENGTH + b"\r\n" + BODY, [200]),
    "HTTP/0.9": (b"GET /ping\r\n\r\n", [200]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
    "absolute form": (POST.replace(b"/i", b"http://b/i", 1) + LENGTH + b"\r\n" + BODY, [200, 200]),
    "path beyond ASCII": (GET.replace(b"ping", "größe".encode()) + b"\r\n", [400]),
    "path beyond ASCII, encoded": (GET.replace(b"ping", b"%FF%00%0D%0A") + b"\r\n", [404, 200]),
    "path of 70 KB": (GET.replace(b"ping", b"a" * 70_000) + b"\r\n", [400]),
    "path to somewhere else": (GET.replace(b"ping", b"../etc/passwd") + b"\r\n", [404, 200]),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
    "OPTIONS of all": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [404, 200]),
    "OPTIONS": (b"OPTIONS /invocations HTTP/1.1\r\nHost: a\r\n\r\n", [405, 200]),
    "HEAD": (b"HEAD /ping HTTP/1.1\r\nHost: a\r\n\r\n", [200, 200]),
    "HEAD of predictions": (b"HEAD /invocations HTTP/1.1\r\nHost: a\r\n\r\n", [405, 200]),
    "TRACE": (b"TRACE /ping HTTP/1.1\r\nHost: a\r\n\r\n", [405, 200]),
    "method that there is not": (b"BREW /ping HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
}


def statuses(received):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


@pytest.mark.parametrize("name", RAW)
def test_raw_http(service, name):
    sent, expected = RAW[name]
    received = service.exchange(sent + LAST)
    assert statuses(received) == expected
    if 400 in expected:
        assert b'{"error":{"code":"malformed","message":"' in received
    # a request whose connection fails after it may be stored, but none is stored twice
    assert len(service.stored()) <= sent.count(BODY)


def test_client_that_waits_until_it_may_send(service):
    head = POST + LENGTH + b"Expect: 100-continue\r\n\r\n"
    assert statuses(service.exchange(head, BODY + LAST)) == [100, 200, 200]
    assert len(service.stored()) == 1
    # and one that may not
    refused = POST + b"Content-Length: 9000000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    assert statuses(service.exchange(refused)) == [413]


@pytest.mark.parametrize(
    "sent",
    [
        POST,
        POST + LENGTH + b"\r\n" + BODY[:-1],
        POST + b"Content-Length: 1000\r\n\r\n" + BODY,
        POST + CHUNKED + b"\r\n" + CHUNKS[:20],
        POST + CHUNKED + b"\r\n" + CHUNKS[:-2],
    ],
    ids=["headers", "body", "length", "chunk", "last chunk"],
)
def test_client_that_leaves_before_it_has_sent_all(service, sent):
    assert service.exchange(sent, half_close=True) == b""
    assert service.stored() == []


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_upgrade(service, protocol):
    """There is none; who asks for one waits for the answer, and goes on in HTTP/1.1."""
    upgrade = GET + UPGRADE % protocol + b"Sec-WebSocket-Version: 13\r\n\r\n"
    assert statuses(service.exchange(upgrade, LAST)) == [200, 200]


@pytest.mark.parametrize("length", [LENGTH, CHUNKED], ids=["length", "chunks"])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_body_of_an_upgrade_is_not_taken_for_a_request(service, protocol, length):
    """The parser does not read such a body, so it is refused before it comes."""
    received = service.exchange(POST + UPGRADE % protocol + length + b"\r\n", GET + LAST)
    assert statuses(received) == [400]
    assert b"without Upgrade" in received


def test_a_thousand_idle_connections(check, service, record):
    body = json.dumps({"inputs": [record]}).encode()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as held:
        # here too: a process may usually hold a thousand
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for number in range(1_000):
            idle = held.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            if number % 4 == 0:
                # and some that have begun a request
                idle.sendall(POST + LENGTH)
        for _ in range(20):
            assert check(JSON, body).status == 200
            assert statuses(service.exchange(LAST)) == [200]


def test_nothing_broke(check, service, record):
    """The last test: the workers are those of the beginning, answer, and have no complaints."""
    alive = {report.pid for report in service.backend.folder.reports()}
    assert alive == service.workers
    assert all(psutil.Process(pid).is_running() for pid in alive)
    assert check(*as_records("inputs", [record], list(record))).status == 200
    log = service.backend.folder.log_file.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert " ERROR " not in log
