"""Whoever meets an error or an alarm finds it in the pages on operations."""

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from common import ROOT
from common.monitoring import drift, review
from common.monitoring.window import Window
from common.settings import MonitoringSettings
from inference.schema import Schema
from scripts.reference_pages.of_errors import find_errors, template
from scripts.reference_pages.sources import SOURCES

ERRORS, ALARMS = "docs/operations/errors.md", "docs/operations/alarms.md"
# What other programs say stands in no source here.
FOREIGN = "Messages of other programs"
# Where else messages come from that users meet: logs, findings, and what is raised word by word.
OTHERS = (
    *("justfile", "justw"),
    *(
        f"src/{file}"
        for file in (
            *("agents/models.py", "agents/running.py"),
            *("common/__init__.py", "common/challenge.py", "common/embeddings.py"),
            *("common/monitoring/alerts.py", "common/pipeline.py", "common/remote.py"),
            *("common/retraining.py", "common/settings.py", "common/smoke.py"),
            *("inference/aws.py", "inference/blueprint.py", "inference/capture.py"),
            *("inference/events.py", "inference/invocations.py", "inference/local.py"),
            *("inference/schema.py", "inference/server.py", "inference/spool.py"),
            *("inference/wire.py", "inference/worker.py"),
            *("pipelines/deployment.py", "pipelines/monitoring.py", "pipelines/training.py"),
            *("scripts/audit.py", "scripts/aws_stacks.py", "scripts/capture_replay.py"),
            *("scripts/captures.py", "scripts/checks_machine.py", "scripts/checks_project.py"),
            *("scripts/doctor.py", "scripts/history.py", "scripts/monitor.py"),
            *("scripts/predict.py", "scripts/rehearsal/serve.py"),
        )
    ),
)
GAP = "…"
# Shorter parts stand in messages that they are not about.
SHORTEST = 7


@pytest.fixture(scope="module")
def messages() -> dict[str, str]:
    """Each message that is raised, and a file that raises it."""
    family, raised = find_errors()
    return {message: file for name in family for message, file in raised[name]}


@pytest.fixture
def index(pages) -> list[tuple[str, str]]:
    """Each part of a message in the first column of the index, and the line on which it stands."""
    return list(first_cells(pages[ERRORS]))


def first_cells(page) -> Iterator[tuple[str, str]]:
    """Yield what is in the type of code in the first cell of each row, and where."""
    section = ""
    for token, second, third in zip(page.tokens, page.tokens[1:], page.tokens[2:], strict=False):
        if token.type == "heading_open":
            section = second.content
        # the first cell follows the row's beginning at once
        if (token.type, second.type) == ("tr_open", "td_open") and section != FOREIGN:
            place = f"{page.name}:{third.map[0] + 1}"
            yield from ((c.content, place) for c in third.children if c.type == "code_inline")


def is_of(part: str, message: str) -> bool:
    """Whether a part is one of a message; where words are put into the middle, it is the whole."""
    return part == message if GAP in part else part in message


def test_every_message_is_in_the_index(messages, index):
    missing = [
        f"{ERRORS}: add a row with a part of {message!r} ({file}), its cause and its cure"
        for message, file in sorted(messages.items())
        if not any(is_of(part, message) for part, _ in index)
    ]
    assert not missing, "\n".join(missing)


def test_every_entry_is_a_part_of_a_message(messages, index):
    texts = [*messages, *(text for file in OTHERS for text in spoken(file))]
    wrong = [
        f"{place}: no source says {part!r}: take it from the message as it is now, or remove the"
        " row; a file with messages that is not looked at belongs into OTHERS"
        for part, place in index
        if not any(is_of(part, text) for text in texts)
    ]
    wrong += [
        f"{place}: {part!r} is too short to be searched for: give at least {SHORTEST} characters"
        for part, place in index
        if len(part) < SHORTEST
    ]
    assert not wrong, "\n".join(wrong)


def test_no_source_is_looked_at_for_nothing(messages, index):
    parts = [part for part, _ in index if not any(is_of(part, text) for text in messages)]
    unused = [
        file
        for file in OTHERS
        if not any(is_of(part, text) for part in parts for text in spoken(file))
    ]
    assert not unused


@cache
def spoken(file: str) -> list[str]:
    """Return the texts of a file: of Python its strings, with … for what is put into them."""
    text = (ROOT / file).read_text(encoding="utf-8")
    if not file.endswith(".py"):
        return [text]
    strings = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.expr))
    return [found for node in strings if (found := template(node))]


def test_every_check_of_monitoring_has_a_section(pages, schema):
    tokens = pages[ALARMS].tokens
    sections = {
        text.content
        for token, text in pairwise(tokens)
        if token.type == "heading_open" and token.tag == "h3"
    }
    names = made(schema) | written()
    problems = [
        *(f"{ALARMS}: add a section ### {name}, see the others" for name in names - sections),
        *(
            f"{ALARMS}: no check is called {name!r}: remove its section"
            for name in sections - names
        ),
    ]
    assert not problems, "\n".join(sorted(problems))


def written() -> set[str]:
    """Return the names of checks that stand in the source as they are."""
    calls = [
        node
        for file in (SOURCES / "common" / "monitoring").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Check"
    ]
    firsts = [call.args[0] for call in calls if call.args]
    assert firsts
    return {str(first.value) for first in firsts if isinstance(first, ast.Constant)}


def made(schema: Schema) -> set[str]:
    """Return the names of the checks that are made of rows of which all is known, and of none."""
    reference, captured = (draw(schema, 200, seed) for seed in (0, 1))
    captured = captured.assign(id="request-0", time=pd.Timestamp.now(tz="UTC"), model_version="1")
    window = Window(captured, reference, schema, "1", MonitoringSettings())
    found = review.run_checks(window, drift.compare(window), {})
    return {check.name for check in [*found, review.unknown_version("2")]}


def draw(schema: Schema, count: int, seed: int) -> pd.DataFrame:
    """Draw rows that the schema allows, with labels and predictions."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {
        name: rng.uniform(*(feature.range or (0, 1)), count)
        if feature.kind == "number"
        else rng.choice(feature.categories, count)
        for name, feature in schema.features.items()
    }
    shares = rng.dirichlet(np.ones(len(schema.classes)), count)
    columns["target"] = rng.choice(schema.classes, count)
    columns["prediction"] = np.array(schema.classes)[shares.argmax(axis=1)]
    columns["confidence"] = shares.max(axis=1)
    columns |= {f"probability {name}": shares[:, i] for i, name in enumerate(schema.classes)}
    return pd.DataFrame(columns)
