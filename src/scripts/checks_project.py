"""What `just doctor` checks of the project: table, store, endpoint, captures, credentials."""

import json
import os
import re
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

from common import ROOT
from common.registry import make_request, without_password
from common.settings import Settings
from inference.errors import BackendError, RookeryError
from inference.local import Local
from scripts.checks_machine import Finding, is_taken, listener

ANSWER_SECONDS = 2.0
# Of a larger database, only a part is checked; of a larger table, only the header.
CHECK_SECONDS = 1.0
TABLE_BYTES = 20_000_000
AWS = re.compile(r"^(AWS_|SAGEMAKER_ROLE$|BUCKET$)")


def check_table(settings: Settings) -> Iterator[Finding]:
    """Check that the table can be read, and that its rows fit the config file."""
    from common.dataset import read_table  # noqa: PLC0415 - a second

    path = settings.dataset.path
    if path.startswith("s3://"):
        yield Finding("table", "ok", f"{path}, which is not read here")
        return
    file = ROOT / path
    if file.exists() and file.stat().st_size > TABLE_BYTES:
        yield Finding("table", "ok", f"{path}, too large to be read here")
        return
    try:
        table = read_table(settings.dataset)
    except RookeryError as error:
        mend = "`just data` makes the penguins'; else `path` in the config file"
        yield Finding("table", "fail", str(error), mend)
        return
    told = f"{len(table.rows)} rows of {path}"
    yield Finding("table", "ok", told)


def check_store(settings: Settings) -> Iterator[Finding]:
    """Check that runs and models can be read, be it from a file or from a server."""
    uri = settings.tracking_uri
    unset = "or unset MLFLOW_TRACKING_URI"
    if uri.startswith(("http://", "https://")):
        code, told = get(f"{uri.rstrip('/')}/health")
        uri = without_password(uri)
        if code == 200:  # noqa: PLR2004 - HTTP's OK
            yield Finding("store", "ok", f"MLflow answers at {uri}")
        elif code:
            told = f"something at {uri} answers {code}, so it may not be MLflow"
            yield Finding("store", "warn", told, f"check MLFLOW_TRACKING_URI, {unset}")
        else:
            told = f"MLflow at {uri} does not answer ({told})"
            yield Finding("store", "fail", told, f"`just mlflow`, {unset}")
        return
    if not uri.startswith("sqlite:///"):
        yield Finding("store", "ok", f"{uri.partition('://')[0]} database, which is not asked here")
        return
    file = Path(uri.removeprefix("sqlite:///"))
    if not file.exists():
        yield Finding("store", "ok", f"{file} is not there yet: the first run makes it")
        return
    mend = f"put a copy of it back, or `mv {file} {file}.damaged` and start anew"
    try:
        whole, counts = look_into(file, ("runs", "model_versions"))
    except sqlite3.Error as error:
        yield Finding("store", "fail", f"{file}: {error}", mend)
        return
    if not os.access(file, os.W_OK):
        yield Finding("store", "fail", f"{file} cannot be written", f"`chmod u+w {file}`")
        return
    told = f"{counts['runs']} runs and {counts['model_versions']} model versions in {file}"
    yield Finding("store", "ok", told + ("" if whole else "; too large to be checked whole"))


def look_into(file: Path, tables: tuple[str, ...]) -> tuple[bool, dict[str, int]]:
    """Check a SQLite file, and count the rows of tables.

    Returns:
        Whether there was time to check all of it, and the rows of each table.

    Raises:
        sqlite3.Error: It is damaged, no database, locked, or lacks a table.
    """
    # not opened for writing: a look changes nothing
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if missing := [table for table in tables if table not in names]:
            raise sqlite3.DatabaseError(f"it has no table {missing[0]}: another program's")
        deadline = time.monotonic() + CHECK_SECONDS
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            whole = True
        except sqlite3.OperationalError as error:
            if "interrupted" not in str(error):
                raise
            said, whole = "ok", False
        connection.set_progress_handler(None, 0)
        if said != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {' '.join(said.split())[:120]}")
        return whole, {
            table: connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 - names of ours
            for table in tables
        }


def check_endpoint(settings: Settings) -> Iterator[Finding]:
    """Check what is served here, or who holds the port that it would be served on."""
    backend = settings.create_backend()
    if not isinstance(backend, Local):
        told = f"{settings.backend['module']}, which is not asked here"
        yield Finding("endpoint", "ok", told, "`just sagemaker-status` asks")
        return
    from inference import launcher  # noqa: PLC0415 - half a second

    target = backend.settings.target
    host, port = launcher.address(target)
    try:
        pointer, process = backend.folder.pointer(), launcher.running(backend.folder)
    except BackendError as error:
        mend = "remove the file that it names, then `just deploy`"
        yield Finding("endpoint", "fail", str(error), mend)
        return
    code, body = get(f"{target}/version")
    version = served_version(body)
    if process and version:
        told = f"version {version} answers at {target} (process {process.pid})"
        if pointer and pointer.version != version:
            told += f", not version {pointer.version}, which was deployed"
            mend = f"see {backend.folder.log_file}; `just stop`, then `just serve`"
            yield Finding("endpoint", "warn", told, mend)
        else:
            yield Finding("endpoint", "ok", told)
    elif process:
        told = f"the server at {target} (process {process.pid}) answers {code or body}"
        mend = f"see {backend.folder.log_file}; `just stop`, then `just serve`"
        yield Finding("endpoint", "fail", told, mend)
    elif code or (host in ("127.0.0.1", "localhost") and is_taken(host, port)):
        who, _ = listener(port)
        other = f"another server of this kind, with version {version}, " if version else ""
        told = f"{target} is taken by {other}{who}"
        mend = "end it, or set ENDPOINT_URL in .env to another port"
        yield Finding("endpoint", "fail", told, mend)
    elif pointer:
        told = f"version {pointer.version} is deployed, but no server runs"
        yield Finding("endpoint", "warn", told, "`just serve`, or `just deploy`")
    else:
        told = f"nothing is deployed yet; {target} is free for `just deploy`"
        yield Finding("endpoint", "ok", told)


def served_version(body: str) -> str | None:
    """Return the model version in an answer of /version; None where it is another's answer."""
    try:
        return str(json.loads(body)["model_version"])
    except (ValueError, KeyError, TypeError):
        return None


def get(url: str) -> tuple[int, str]:
    """Ask without a proxy; return (HTTP status, body), or (0, reason) where nothing answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(make_request(url), timeout=ANSWER_SECONDS) as answer:
            return answer.status, answer.read(100_000).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(getattr(error, "reason", error))
    except (HTTPException, ValueError) as error:
        # whose text may hold a password
        return 0, f"no address, or not HTTP: {type(error).__name__}"


def check_captures(settings: Settings) -> Iterator[Finding]:
    """Check the database of what was answered, and the spool beside it."""
    backend = settings.create_backend()
    if not isinstance(backend, Local):
        return
    from inference.spool import Spool  # noqa: PLC0415 - with the backend's

    file = backend.settings.database
    if file.exists():
        try:
            whole, counts = look_into(file, ("predictions",))
        except (sqlite3.Error, OSError) as error:
            told = f"{file}: {error}; what is answered goes to the spool beside it"
            mend = f"`mv {file} {file}.damaged`, then `just capture-replay`"
            yield Finding("captures", "fail", told, mend)
        else:
            told = f"{counts['predictions']} rows in {file}"
            yield Finding(
                "captures", "ok", told + ("" if whole else "; too large to be checked whole")
            )
    else:
        yield Finding("captures", "ok", f"{file} is not there yet: the first answer makes it")
    spool = Spool(file)
    if waiting := len(spool):
        told = f"{waiting} rows wait in {spool.path}, for the database refused them"
        yield Finding("captures", "warn", told, "`just capture-replay`")
    if spool.damaged_path.exists():
        told = f"{spool.damaged_path} holds lines that no replay could read"
        yield Finding("captures", "warn", told, "read it, save what is of use, and remove it")


def check_aws(settings: Settings) -> Iterator[Finding]:
    """Check that AWS knows the credentials, where the variables name anything of AWS."""
    told = {name for name, value in os.environ.items() if value and AWS.match(name)}
    ca_only = {"AWS_CA_BUNDLE", "AWS_EC2_METADATA_DISABLED", "AWS_PAGER"}
    if not told - ca_only and isinstance(settings.create_backend(), Local):
        return
    import boto3  # noqa: PLC0415 - 0.4 s
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    from inference.aws import ADVICE, code  # noqa: PLC0415 - imports boto3

    quick = Config(
        connect_timeout=ANSWER_SECONDS,
        read_timeout=ANSWER_SECONDS,
        retries={"total_max_attempts": 1},
    )
    mend = "set AWS_PROFILE in .env, or run `just aws-setup USER`"
    try:
        session = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
        if session.get_credentials() is None:
            yield Finding("aws", "fail", "there are no credentials", mend)
            return
        if session.region_name is None:
            yield Finding("aws", "warn", "no region is given", "set AWS_REGION in .env")
            return
        who = session.client("sts", config=quick).get_caller_identity()
    except ClientError as error:
        yield Finding("aws", "fail", f"AWS says {code(error)}", ADVICE.get(code(error), mend))
    except BotoCoreError as error:
        yield Finding("aws", "warn", " ".join(str(error).split()), f"check the network; {mend}")
    else:
        yield Finding("aws", "ok", f"{who['Arn']}, in {session.region_name}")


def check_agents() -> Iterator[Finding]:
    """Check that the model of the agents has a key, where it needs one."""
    name = os.environ.get("AGENT_MODEL") or "embedded/rules"
    if name == "embedded/rules":
        yield Finding("agents", "ok", "the rules answer; AGENT_MODEL names a real model")
        return
    provider = "google" if name.startswith("gemini-") else name.partition("/")[0]
    key = re.sub(r"\W", "_", provider.removesuffix("_chat")).upper() + "_API_KEY"
    if provider.startswith("ollama") or os.environ.get("AGENT_API_BASE"):
        yield Finding("agents", "ok", f"{name}, at a server of your own")
    elif "/" not in name and provider != "google":
        mend = "set AGENT_MODEL to provider/model, such as openai/gpt-5"
        yield Finding("agents", "fail", f"AGENT_MODEL: {name} names no provider", mend)
    elif os.environ.get(key):
        yield Finding("agents", "ok", f"{name}, with a key in {key}")
    else:
        told = f"{name} needs a key, and {key} is not set"
        yield Finding("agents", "warn", told, f"set {key} in .env, or unset AGENT_MODEL")
