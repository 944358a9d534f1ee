"""What CONTRIBUTING.md, the changelog, CI and the dev container say is so."""

import json
import os
import re
import tomllib

import pytest
import yaml

from common import ROOT

PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
# GitHub's and the changelog form's own headings
VERSION = re.compile(r"^## \[(?P<version>\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", re.MULTILINE)
JUSTFILE = (ROOT / "justfile").read_text(encoding="utf-8")
RECIPES = set(re.findall(r"^([a-z][a-z-]*)(?: [^:\n=]*)?:(?!=)", JUSTFILE, re.MULTILINE))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_newest_version_in_the_changelog_is_the_projects():
    versions = [found["version"] for found in VERSION.finditer(read("CHANGELOG.md"))]
    assert versions[0] == tomllib.loads(read("pyproject.toml"))["project"]["version"]
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", read(page))
    for link in links:
        name, _, anchor = link.partition("#")
        if name.startswith("https://"):
            continue
        target = ROOT / (name or page)
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_recipes_exist(page):
    commands = re.findall(
        r"(?:`|^)(?:just|\./justw) ([a-z-]+[a-z])\b(?!-)", read(page), re.MULTILINE
    )
    assert commands
    assert set(commands) <= RECIPES


def test_no_recipe_runs_what_a_sentence_quotes():
    # between double quotes, the shell runs what stands between backticks
    assert not re.findall(r'"[^"\n]*`[^"\n]*"', JUSTFILE)


def test_hooks_can_be_run():
    for hook in (ROOT / ".githooks").iterdir():
        assert os.access(hook, os.X_OK), hook


def test_ci_runs_what_a_change_must_pass_and_may_only_read():
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    assert workflow["permissions"] == {"contents": "read"}
    run, audit = workflow["jobs"]["run"], workflow["jobs"]["audit"]
    assert run["timeout-minutes"] == 90
    assert run["steps"][-1] == {"run": ".ci/run"}
    assert audit["steps"][-1] == {"run": "./justw audit"}
    for step in [*run["steps"], *audit["steps"]]:
        assert re.search(r"@[0-9a-f]{40}$", step.get("uses", f"@{'0' * 40}"))


def test_the_dev_container_is_set_up_and_forwards_every_server():
    lines = read(".devcontainer/devcontainer.json").splitlines()
    container = json.loads("\n".join(line for line in lines if not line.strip().startswith("//")))
    assert container["postCreateCommand"].endswith("&& ./justw setup")
    ports = {int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", JUSTFILE)}
    assert ports <= set(container["forwardPorts"])
    assert set(map(str, container["forwardPorts"])) == set(container["portsAttributes"])
