"""What a model card says, and that nothing in it is more than text."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from common import model_card, pages
from common.fitting import CURRENT, ORIGIN
from common.importance import Importance
from common.intervals import wilson
from inference.schema import Schema

HOSTILE = "|*a*| <script>alert(1)</script> `b` [c](javascript:d) ![e](http://evil.test/f) _g_ \\"


@pytest.fixture(scope="module")
def make_facts():
    """Return what is known of a small model; what is given replaces it."""

    def make(schema: Schema, reference: pd.DataFrame, **changes: object) -> model_card.Facts:
        known = {
            "project": "penguins",
            "version": "7",
            "metrics": {"accuracy_mean": 0.991, "accuracy_std": 0.007},
            "importance": [
                Importance(name, 0.3 / place, 0.05, 1.2 / place, 0.1)
                for place, name in enumerate(schema.features, start=1)
            ],
            "source": "data/penguins.csv",
            "sha256": "0123456789abcdef" * 4,
            "rejected": 2,
            "parameters": {"training-epochs": 50, "seed": 1, "captured": False},
            "commit": "5c73d45",
            "run": "945f6242",
        }
        return model_card.Facts(schema=schema, reference=reference, **{**known, **changes})

    return make


class Shown(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page: str):
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.feed(page.split("</head>")[1])

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - the parser's signature
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def rows_of(markdown: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    part = markdown.split(f"{heading}\n")[1]
    lines = [line for line in part.split("\n## ")[0].split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_given_a_model_then_the_card_has_every_section(make_facts, schema, reference):
    text = model_card.model_card(make_facts(schema, reference))

    assert text.startswith("# Model card: penguins, version 7\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Intended use",
        "Data",
        "Figures",
        "What it looks at",
        "Limits",
        "Environment",
        "How to reproduce",
    ]
    assert "| SHA-256 | " + "0123456789abcdef" * 4 in text
    assert "| rows | 344 used, 2 rejected |" in text
    assert "At commit 5c73d45 (MLflow run 945f6242)" in text
    assert "just train --training-epochs 50 --seed 1\n" in text
    assert "so it may come out differently" not in text


def test_given_a_reference_then_the_figures_are_counted_on_it(make_facts, schema, reference):
    text = model_card.model_card(make_facts(schema, reference))

    right = int((reference["target"] == reference["prediction"]).sum())
    low, high = wilson(right, len(reference))
    accuracy = (
        f"| accuracy (out of fold) | {right / len(reference):.3f} | {low:.3f} to {high:.3f} |"
    )
    assert accuracy in text
    classes = {name: rows for name, rows, *_ in rows_of(text, "## Figures")}
    counts = reference["target"].value_counts()
    assert all(classes[name] == str(counts[name]) for name in schema.classes)
    segments = rows_of(text, "### By segment")
    assert ["island", "'Biscoe'", "168"] in [row[:3] for row in segments]
    columns = rows_of(text, "## What it looks at")
    assert [row[0] for row in columns] == list(schema.features)
    assert columns[0][2] == "█" * model_card.BAR
    assert columns[1][2] == "█" * (model_card.BAR // 2)


def test_given_rows_of_two_origins_then_both_are_counted_and_current_ones_scored(
    make_facts, schema, reference
):
    captured = np.arange(len(reference)) % 4 == 0
    table = reference.assign(**{ORIGIN: np.where(captured, "captured", "table"), CURRENT: captured})

    text = model_card.model_card(make_facts(schema, table))

    assert "| rows of origin captured | 86 |" in text
    assert "| rows of origin table | 258 |" in text
    assert "Each of 86 rows was predicted" in text
    assert "The other 258 rows were trained on, and do not count" in text


def test_given_few_rows_of_a_class_then_the_limits_name_it(make_facts, schema, reference):
    few = reference[(reference["target"] != "Chinstrap") | (reference.index % 3 == 0)]

    limits = model_card.model_card(make_facts(schema, few)).split("## Limits")[1]

    assert "behind the figures of Chinstrap:" in limits


def test_given_a_class_without_rows_or_importance_then_the_card_says_so(
    make_facts, schema, reference
):
    without = reference[reference["target"] != "Chinstrap"]

    text = model_card.model_card(make_facts(schema, without, importance=[]))

    assert "| Chinstrap | 0 | unknown | 0.000 to 1.000 |" in text
    assert "It was not measured." in text


def test_given_changed_files_then_the_card_warns_that_they_are_in_no_commit(
    make_facts, schema, reference
):
    text = model_card.model_card(make_facts(schema, reference, commit="5c73d45+"))

    assert "At commit 5c73d45 (" in text
    assert "so it may come out differently" in text


def test_given_hostile_names_then_they_stay_text_in_both_forms(make_facts, reference):
    schema = Schema.model_validate(
        {
            "target": f"target {HOSTILE}",
            "classes": ["Adelie", "Chinstrap", f"- {HOSTILE}"],
            "features": {
                HOSTILE: {"kind": "number", "range": [1000, 10000], "unit": HOSTILE},
                f"{HOSTILE}\n# x": {"kind": "category", "categories": [HOSTILE, "Dream"]},
            },
        }
    )
    table = reference.rename(columns={"body_mass_g": HOSTILE, "island": f"{HOSTILE}\n# x"}).replace(
        {"Biscoe": HOSTILE, "Gentoo": f"- {HOSTILE}"}
    )
    words = dict.fromkeys(("intended_use", "provenance", "source", "commit", "run"), HOSTILE)
    facts = make_facts(
        schema, table, not_for=[f"1. {HOSTILE}"], parameters={"a": f"`\n```\n{HOSTILE}"}, **words
    )

    markdown = model_card.model_card(facts)
    shown = Shown(model_card.model_card_page(markdown, HOSTILE))

    assert shown.tags.isdisjoint({"script", "a", "img", "em"})
    # once a place where it stands, of which only the parameter's is code
    assert shown.text.count("<script>alert(1)</script> `b` [c](javascript:d)") > 12
    for name in (*schema.classes, *words.values(), f"1. {HOSTILE}", f"{HOSTILE} # x"):
        assert name in shown.text
    classes = rows_of(markdown.replace("\\|", "/"), "## Figures")[: len(schema.classes)]
    assert [len(row) for row in classes] == [4, 4, 4]


@pytest.mark.parametrize(
    "text",
    ["- a", "+ a", "1. a", "12) a", "=", "---", "# a", "> a", "~~~", "_a_", "a\n\nb", "&lt;"],
)
def test_given_what_means_something_to_markdown_then_it_is_shown_as_it_is(text):
    html = pages.to_html(str(pages.escape_markdown(text)))

    assert Shown(f"</head>{html}").tags == {"p"}
    assert Shown(f"</head>{html}").text.strip() == " ".join(text.split())


def test_given_a_name_or_figure_then_no_mark_is_put_into_it():
    assert pages.escape_markdown("body_mass_g 0.5 to 1.5") == "body_mass_g 0.5 to 1.5"


def test_given_another_config_file_then_the_command_names_it(schema, reference, make_facts):
    facts = make_facts(schema, reference, config="config/my wine.yml")

    assert "ROOKERY_CONFIG='config/my wine.yml' just train --training-epochs 50" in (
        model_card.model_card(facts)
    )
