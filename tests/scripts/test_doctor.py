"""What the doctor says of each thing that can be broken, and that nothing breaks the doctor."""

import json
import os
import pty
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from common import ROOT, settings
from inference import launcher
from inference.backend import Captured
from inference.spool import Spool
from scripts import checks_machine, checks_project, doctor

DOCTOR = ROOT / "src" / "scripts" / "doctor.py"
ROW = Captured(b"key", "nest", 0, 1.0, "1", "{}", "Adelie", 0.9, '{"Adelie": 0.9}')


def told(findings) -> list[tuple[str, str]]:
    """Run a check; what is not well must say how it is mended."""
    findings = list(findings)
    assert all(finding.mend for finding in findings if finding.state == "fail")
    return [(finding.state, finding.told) for finding in findings]


def only(findings) -> tuple[str, str]:
    (finding,) = told(findings)
    return finding


@pytest.fixture
def make_settings(schema, tmp_path, free_port) -> Callable[..., settings.Settings]:
    """Make settings with a backend and a store below this test's folder."""

    def make(**sections: object) -> settings.Settings:
        return settings.Settings.model_validate(
            {
                "project": "penguins",
                "dataset": {"path": "data/penguins.csv", **json.loads(schema.model_dump_json())},
                "mlflow_tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
                "backend": {
                    "module": "backend.Local",
                    "database": str(tmp_path / "captured.db"),
                    "serving": str(tmp_path / "serving"),
                    "target": f"http://127.0.0.1:{free_port()}",
                    "workers": 1,
                },
                **sections,
            }
        )

    return make


@pytest.fixture
def stranger() -> Iterator[str]:
    """Address of an HTTP server that is none of the project's."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


# --- the machine ---


@pytest.mark.parametrize(
    ("prefix", "options", "slow"),
    [
        ("/home/ada/.pyenv/versions/3.11.7", "'--enable-shared'", True),
        ("/home/ada/.pyenv/versions/3.11.7", "'--enable-optimizations' '--with-lto'", False),
        # Debian's does not say so
        ("/usr", "'--enable-shared'", False),
    ],
)
def test_a_slow_build_is_told(prefix, options, slow):
    assert checks_machine.is_slow(prefix, options) == slow


def test_tools_are_found_on_the_path_or_where_justw_puts_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ("fail", "is missing") in told(checks_machine.check_tools(tmp_path))

    program = tmp_path / ".tools" / "bin" / "uv"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert checks_machine.find_tool(tmp_path, "uv") == str(program)


def test_a_clone_without_the_filter_of_uv_lock_is_told(tmp_path):
    words = ["git", "init", "--quiet", str(tmp_path)]
    subprocess.run(words, check=True)
    assert told(checks_machine.check_tools(tmp_path))[-1][0] == "warn"


def test_no_environment(tmp_path):
    assert only(checks_machine.check_packages(tmp_path)) == ("fail", "there is no .venv")


def test_missing_packages_are_named(tmp_path):
    for name in ("pyproject.toml", "uv.lock", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    if (ROOT / ".tools").exists():
        (tmp_path / ".tools").symlink_to(ROOT / ".tools")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    state, text = only(checks_machine.check_packages(tmp_path))
    assert state == "fail"
    assert "more" in text


def test_a_folder_that_cannot_be_written(tmp_path):
    # not even root can write there
    assert told(checks_machine.check_disk(tmp_path, checks_machine.Path("/proc")))[-1][0] == "fail"
    assert {state for state, _ in told(checks_machine.check_disk(ROOT, tmp_path))} <= {"ok", "warn"}


def test_memory_is_told():
    assert "GB free" in only(checks_machine.check_memory())[1]


def test_ports_are_free_or_ours_or_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(checks_machine, "SERVERS", {port: ("just mlflow", ("no such word",))})
        state, text = only(checks_machine.check_ports(ROOT))
        assert state == "warn"
        assert f"process {os.getpid()}" in text

        monkeypatch.setattr(checks_machine, "SERVERS", {port: ("just mlflow", ("none", "py"))})
        monkeypatch.chdir(ROOT)
        assert only(checks_machine.check_ports(ROOT))[0] == "ok"
    assert only(checks_machine.check_ports(ROOT)) == ("ok", "free for `just mlflow`")


@pytest.mark.parametrize(
    ("text", "state", "named"),
    [
        ("GREETING=hello\n", "ok", "1 variables"),
        ("# nothing\n", "ok", "0 variables"),
        ("GREETING=hello\nno value here\n", "fail", "line 2"),
        ('GREETING="hello\n', "fail", "line 1"),
        ("GREETING=hello world\n", "fail", "line 1"),
        ('GREETING="hello" # a comment\n', "ok", "1 variables"),
        ("GREETING=hello # a comment\n", "ok", "1 variables"),
        ("ROOKERY_STAET=.rookery\n", "warn", "ROOKERY_STAET"),
        ("AGENT_MODEL=openai/gpt-5\n", "warn", "another value"),
        ("NOT_SET_YET=hello\nGREETING=${NOT_SET_YET}\n", "ok", "2 variables"),
        ("A='$b'\nSERVING_TOKEN=$ecret9\n", "fail", "SERVING_TOKEN: just and shells replace a $"),
    ],
)
def test_variables(tmp_path, monkeypatch, text, state, named):
    for name, value in {"GREETING": "hello", "ROOKERY_STAET": ".rookery"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AGENT_MODEL", "gemini-3")
    file = tmp_path / ".env"
    file.write_text(text)
    findings = told(checks_machine.check_variables(ROOT, file))
    assert findings[0][0] == state
    assert named in findings[0][1]


def test_variables_that_cannot_be_read(tmp_path):
    file = tmp_path / ".env"
    assert only(checks_machine.check_variables(ROOT, file))[0] == "ok"
    file.write_bytes(b"NAME=\xff\xfe\n")
    assert only(checks_machine.check_variables(ROOT, file))[0] == "fail"


def test_secrets_that_others_may_read_are_told_but_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("SERVING_TOKEN", "sesame")
    file = tmp_path / ".env"
    file.write_text("SERVING_TOKEN=sesame\n")
    file.chmod(0o644)
    findings = told(checks_machine.check_variables(ROOT, file))
    assert findings[0][0] == "warn"
    assert "sesame" not in str(findings)
    file.chmod(0o600)
    assert only(checks_machine.check_variables(ROOT, file))[0] == "ok"


def test_no_browser(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert only(checks_machine.check_browser())[0] == "warn"


# --- the project ---


def test_a_table_that_is_missing_or_does_not_fit(make_settings, tmp_path):
    fine = make_settings()
    assert only(checks_project.check_table(fine)) == ("ok", "344 rows of data/penguins.csv")

    def with_path(path) -> settings.Settings:
        dataset = fine.dataset.model_copy(update={"path": str(path)})
        return fine.model_copy(update={"dataset": dataset})

    assert only(checks_project.check_table(with_path(tmp_path / "none.csv")))[0] == "fail"
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    state, text = only(checks_project.check_table(with_path(tmp_path / "other.csv")))
    assert state == "fail"
    assert "species" in text


def test_a_store_that_is_not_there_yet(make_settings):
    assert only(checks_project.check_store(make_settings()))[0] == "ok"


def test_a_store_that_is_no_database_or_another_programs(make_settings, tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be taken for one" * 50)
    assert only(checks_project.check_store(make_settings()))[0] == "fail"

    (tmp_path / "mlflow.db").unlink()
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    state, text = only(checks_project.check_store(make_settings()))
    assert state == "fail"
    assert "runs" in text


@pytest.mark.integration
def test_mlflows_own_store_whole_and_damaged(make_settings, make_version, mlflow_store):
    make_version()
    found = make_settings(mlflow_tracking_uri=f"sqlite:///{mlflow_store}")
    assert only(checks_project.check_store(found)) == (
        "ok",
        f"0 runs and 1 model versions in {mlflow_store}",
    )
    content = mlflow_store.read_bytes()
    middle = len(content) // 2
    mlflow_store.write_bytes(content[:middle] + bytes(40_000) + content[middle + 40_000 :])
    assert only(checks_project.check_store(found))[0] == "fail"


def test_a_server_of_mlflow_that_does_not_answer(make_settings, free_port, stranger):
    silent = make_settings(mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}")
    assert only(checks_project.check_store(silent))[0] == "fail"
    other = make_settings(mlflow_tracking_uri=stranger)
    assert only(checks_project.check_store(other))[0] == "warn"


@pytest.mark.parametrize(
    ("account", "expected"),
    [("me:secret@", "warn"), ("me:sec/ret@", "fail"), ("[me:secret@", "fail")],
)
def test_a_password_of_mlflows_server_is_used_and_not_shown(
    make_settings, stranger, account, expected
):
    uri = stranger.replace("//", f"//{account}")
    state, text = only(checks_project.check_store(make_settings(mlflow_tracking_uri=uri)))
    assert state == expected
    assert "sec" not in text


def test_an_endpoint_that_nothing_was_deployed_to(make_settings):
    state, text = only(checks_project.check_endpoint(make_settings()))
    assert state == "ok"
    assert "nothing is deployed" in text


def test_an_endpoint_whose_server_is_stopped(make_settings):
    found = make_settings()
    found.create_backend().folder.point("3", "run")
    state, text = only(checks_project.check_endpoint(found))
    assert state == "warn"
    assert "version 3 is deployed" in text


def test_an_endpoint_whose_port_another_program_has(make_settings, stranger):
    backend = {**make_settings().backend, "target": stranger}
    state, text = only(checks_project.check_endpoint(make_settings(backend=backend)))
    assert state == "fail"
    assert f"process {os.getpid()}" in text


def test_an_endpoint_whose_port_does_not_speak_http(make_settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"http://127.0.0.1:{server.getsockname()[1]}"
        backend = {**make_settings().backend, "target": target}
        threading.Thread(target=lambda: server.accept()[0].sendall(b"220 smtp\r\n")).start()
        assert only(checks_project.check_endpoint(make_settings(backend=backend)))[0] == "fail"


@pytest.mark.parametrize("name", ["live.json", "server.json"])
def test_an_endpoint_whose_files_are_damaged(make_settings, tmp_path, name):
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / name).write_text("{")
    state, text = only(checks_project.check_endpoint(make_settings()))
    assert state == "fail"
    assert name in text


def test_an_endpoint_whose_process_does_not_answer(make_settings):
    found = make_settings()
    backend = found.create_backend()
    launcher.remember(backend.folder, os.getpid(), backend.settings.target)
    state, text = only(checks_project.check_endpoint(found))
    assert state == "fail"
    assert f"process {os.getpid()}" in text


@pytest.mark.integration
def test_an_endpoint_that_answers(make_settings, release):
    found = make_settings()
    backend = found.create_backend()
    backend.deploy(release("1"))
    try:
        state, text = only(checks_project.check_endpoint(found))
    finally:
        launcher.stop(backend.folder)
    assert state == "ok"
    assert "version 1 answers" in text


def test_captures(make_settings, tmp_path):
    found = make_settings()
    backend = found.create_backend()
    assert told(checks_project.check_captures(found))[0][0] == "ok"

    backend.save([ROW])
    assert only(checks_project.check_captures(found))[1].startswith("1 rows")

    Spool(tmp_path / "captured.db").append([ROW, ROW])
    (tmp_path / "captured.db.spool.damaged").write_text("half a li\n")
    states = told(checks_project.check_captures(found))
    assert [state for state, _ in states] == ["ok", "warn", "warn"]
    assert states[1][1].startswith("2 rows wait")


def test_captures_that_are_damaged(make_settings, tmp_path):
    (tmp_path / "captured.db").write_bytes(os.urandom(5000))
    assert only(checks_project.check_captures(make_settings()))[0] == "fail"


@pytest.mark.parametrize(
    ("variables", "state", "named"),
    [
        ({}, "ok", "rules"),
        ({"AGENT_MODEL": "openai/gpt-5"}, "warn", "OPENAI_API_KEY"),
        ({"AGENT_MODEL": "openai/gpt-5", "OPENAI_API_KEY": "k3y"}, "ok", "OPENAI_API_KEY"),
        ({"AGENT_MODEL": "gemini-3"}, "warn", "GOOGLE_API_KEY"),
        ({"AGENT_MODEL": "ollama_chat/qwen"}, "ok", "of your own"),
        ({"AGENT_MODEL": "gpt-5"}, "fail", "names no provider"),
    ],
)
def test_agents(monkeypatch, variables, state, named):
    for name in ("AGENT_API_BASE", "AGENT_MODEL", "GOOGLE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found, text = only(checks_project.check_agents())
    assert found == state
    assert named in text
    assert "k3y" not in text


def test_aws_is_not_asked_where_nothing_names_it(make_settings, monkeypatch):
    for name in [name for name in os.environ if checks_project.AWS.match(name)]:
        monkeypatch.delenv(name)
    assert told(checks_project.check_aws(make_settings())) == []


@pytest.mark.integration
def test_aws(make_settings, moto, monkeypatch, free_port):
    state, text = only(checks_project.check_aws(make_settings()))
    assert state == "ok"
    assert "us-east-1" in text
    assert "nothing" not in text

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert only(checks_project.check_aws(make_settings()))[0] == "warn"

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert only(checks_project.check_aws(make_settings())) == (
        "fail",
        "there are no credentials",
    )

    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in only(checks_project.check_aws(make_settings()))[1]


# --- the command ---


def test_a_check_that_breaks_is_a_finding():
    def broken() -> Iterator[checks_machine.Finding]:
        yield checks_machine.Finding("disk", "ok", "1 GB free")
        raise RuntimeError("the disk is\non fire")

    assert told(doctor.attempt("disk", broken)) == [
        ("ok", "1 GB free"),
        ("fail", "could not be checked: RuntimeError: the disk is on fire"),
    ]


def test_a_config_file_with_an_error(tmp_path):
    config = tmp_path / "config.yml"
    config.write_text("project: penguins\nnetwrok: {}\n")
    findings = told(doctor.examine_project(config))
    assert [state for state, _ in findings[:2]] == ["fail", "warn"]
    assert "netwrok" in findings[0][1]


def run(*words: str, python: tuple[str, ...] = (), **variables: str):
    return subprocess.run(
        [sys.executable, *python, DOCTOR, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | variables,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.integration
def test_where_all_of_it_is_broken_there_is_no_traceback(tmp_path):
    (tmp_path / ".env").write_bytes(b"ROOKERY_STATE=\xff\n")
    (tmp_path / "config").mkdir()
    done = run("--json", ROOKERY_ROOT=str(tmp_path), PATH=str(tmp_path))
    findings = json.loads(done.stdout)
    assert done.returncode == 1
    assert done.stderr == ""
    failed = {finding["check"] for finding in findings if finding["state"] == "fail"}
    assert {".env", "git", "uv", "packages", "config"} <= failed


@pytest.mark.integration
def test_without_any_package_it_says_what_installs_them():
    # -S leaves site-packages out
    done = run(python=("-S",))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "No module named" in done.stdout
    assert "just setup" in done.stdout


@pytest.mark.integration
def test_exit_code_follows_the_findings_and_colours_are_for_terminals():
    done = run("--json")
    states = {finding["state"] for finding in json.loads(done.stdout)}
    assert done.returncode == ("fail" in states)
    assert "\033" not in run().stdout

    ours, theirs = pty.openpty()
    command = [sys.executable, DOCTOR]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(command, env=environment, stdout=theirs)
    os.close(theirs)
    assert b"\033[3" in os.read(ours, 1000)
    # what is not read any more would hold it up
    while process.poll() is None:
        try:
            os.read(ours, 1000)
        except OSError:
            break
    process.wait(timeout=30)
    os.close(ours)
