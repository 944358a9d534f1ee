"""What the audit finds, lets pass, and cannot tell: each with an exit code of its own."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common import ROOT
from inference.errors import ConfigurationError
from scripts import audit

ANSWERS = [
    {"name": "safe", "version": "1.0", "vulns": []},
    {
        "name": "broken",
        "version": "2.0",
        "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}],
    },
    {"name": "hopeless", "version": "3.0", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]},
]
TODAY = date(2026, 11, 24)


def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "src" / "scripts" / "audit.py", *words],
        env=os.environ | variables,
        check=False,
        capture_output=True,
        text=True,
    )


def allowed(**entry) -> audit.Allowed:
    return audit.Allowed.model_validate({"vulnerability": [{"reason": "unused", **entry}]})


def test_each_vulnerability_is_a_line_with_what_mends_it():
    assert audit.vulnerable(ANSWERS, audit.Allowed(), TODAY) == [
        "packages: broken 2.0: PYSEC-1 (CVE-1); fixed in 2.1",
        "packages: hopeless 3.0: PYSEC-2 (no alias); no fix",
    ]


@pytest.mark.parametrize(
    ("name", "until", "found"),
    [
        ("PYSEC-1", date(2026, 11, 25), ["hopeless"]),
        ("CVE-1", date(2026, 11, 25), ["hopeless"]),
        # its day has come
        ("PYSEC-1", TODAY, ["broken", "hopeless"]),
        ("PYSEC-9", date(2027, 1, 1), ["broken", "hopeless"]),
    ],
)
def test_a_vulnerability_is_let_pass_until_its_day(name, until, found):
    lines = audit.vulnerable(ANSWERS, allowed(id=name, until=until), TODAY)
    assert [line.split()[1] for line in lines] == found


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[[vulnerability]]\nid = "CVE-1"\nreason = "unused"', "vulnerability.0.until"),
        ('[[secret]]\nfingerprint = "1"', "secret.0.reason"),
        ("[[secrets]]", "secrets"),
        ("nothing", "cannot be read"),
    ],
)
def test_nothing_is_let_pass_without_a_reason(tmp_path, text, named):
    file = tmp_path / "audit.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(named)):
        audit.read_allowed(file)


def test_the_projects_own_list_can_be_read():
    audit.read_allowed(audit.ALLOWED)


@pytest.fixture
def advisories() -> Iterator[str]:
    """Address of a service that speaks OSV's protocol and knows of one bad package, numpy."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            package = asked["package"]
            flaw = {
                "id": "OSV-1",
                "affected": [{"package": package, "versions": [asked["version"]]}],
            }
            body = json.dumps({"vulns": [flaw]} if package["name"] == "numpy" else {}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.mark.integration
def test_all_locked_packages_are_asked_about(advisories):
    done = run("packages", "--service", "osv", "--osv-url", advisories)
    assert done.returncode == audit.FOUND, done.stderr
    assert re.fullmatch(r"packages: numpy \S+: OSV-1 \(no alias\); no fix\n", done.stdout)


@pytest.mark.integration
def test_a_service_that_does_not_answer_is_an_error(free_port):
    url = f"http://127.0.0.1:{free_port()}/v1/query"
    done = run("packages", "--service", "osv", "--osv-url", url)
    assert done.returncode == 1
    assert "nothing is known about" in done.stderr
    assert "no known vulnerability" not in done.stdout


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit, and its git command."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*words: str) -> None:
        who = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        subprocess.run([*who, *words], cwd=tmp_path, env=environment, check=True)

    git("init", "--quiet")
    (tmp_path / ".gitignore").write_text(".env\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "Start")
    return tmp_path, git


@pytest.mark.integration
def test_secrets_in_files_and_history_are_found_and_not_shown(repository, planted_key, private_key):
    root, git = repository
    # git is told to leave this one alone
    (root / ".env").write_text(planted_key)
    assert run("secrets", "--root", str(root)).returncode == 0

    (root / "settings.txt").write_text(planted_key)
    git("add", ".")
    git("commit", "--quiet", "--message", "Commit a secret")
    git("rm", "--quiet", "settings.txt")
    git("commit", "--quiet", "--message", "Remove it again")
    (root / "not yet added.pem").write_text(private_key)

    done = run("secrets", "--root", str(root))
    assert done.returncode == audit.FOUND, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert len(lines) == 2
    assert re.match(r"secrets: not yet added.pem, line 1: private-key", lines[0])
    assert re.match(r"secrets: settings.txt, line 1, commit \w{12}: aws-access-token", lines[1])
    access_key = re.search("AKIA.+", planted_key)[0]
    for hidden in (access_key, private_key.splitlines()[1]):
        assert hidden not in done.stdout + done.stderr


@pytest.mark.integration
def test_this_repository_holds_no_secret():
    done = run("secrets")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.integration
def test_a_folder_that_is_no_clone_is_an_error(tmp_path):
    done = run("secrets", "--root", str(tmp_path))
    assert done.returncode == 1
    assert "no clone" in done.stderr
