"""Evidently's reports as HTML, or a page of ours that says why there can be none.

Evidently writes captured values into its pages as they are, and they came with requests: what
would end a script element there is taken out of them first.
"""

import html
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd

from common.monitoring.drift import Comparison
from common.monitoring.quality import frequent_classes
from common.monitoring.window import (
    PREDICTION,
    Window,
    count,
    judged_rows,
    sample,
    show,
)

if TYPE_CHECKING:
    from evidently import DataDefinition, Dataset
    from evidently.core.report import Snapshot

NO_ROWS = (
    "Nothing has been captured yet that version {} answered, so there is nothing to report on."
)
BINARY = 2

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title></head>
<body><main style="{style}"><h1>{title}</h1>{content}</main></body></html>
"""
STYLE = "font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:1rem auto;padding:0 1rem"


def data_report(window: Window, snapshots: "dict[str, Snapshot] | None" = None) -> str:
    """Return Evidently's summary of every column, beside the reference.

    Args:
        window: What is judged.
        snapshots: Evidently's own form of the report is put into it, under its name.
    """
    if window.captured.empty:
        return page("Data", [NO_ROWS.format(window.version)])
    from evidently import DataDefinition  # noqa: PLC0415 - 8 s
    from evidently.presets import DataSummaryPreset  # noqa: PLC0415

    rows, schema = sample(window.rows), window.schema
    numbers, categories = [*schema.numbers, "confidence"], [*schema.categories, PREDICTION]
    if rows["target"].notna().any():
        categories.append("target")
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    snapshot = run(DataSummaryPreset(), definition, rows, sample(window.reference))
    keep(snapshots, "data", snapshot)
    empty = [name for name in schema.features if rows[name].isna().all()]
    notes = [f"{name} holds no values." for name in empty]
    return annotate(snapshot, [*describe_sample(window.rows), *notes])


def drift_report(
    window: Window,
    compared: list[Comparison],
    snapshots: "dict[str, Snapshot] | None" = None,
) -> tuple[str, dict[str, float]]:
    """Return Evidently's drift report, and the distance of each column in it.

    Args:
        window: What is judged.
        compared: Say which columns Evidently can be asked about, and their limits.
        snapshots: See `data_report`.
    """
    if window.captured.empty:
        return page("Drift", [NO_ROWS.format(window.version)]), {}
    statements = [
        f"{one.column} is not in this report: {one.obstacle}." for one in compared if one.obstacle
    ]
    asked = {one.column: one for one in compared if not one.obstacle}
    if not asked:
        return page("Drift", statements), {}
    from evidently import DataDefinition  # noqa: PLC0415 - 8 s
    from evidently.presets import DataDriftPreset  # noqa: PLC0415

    methods = {"number": "wasserstein", "category": "jensenshannon"}
    preset = DataDriftPreset(
        columns=list(asked),
        # one column is enough for Evidently to speak of drift, as it is for our verdict
        drift_share=1 / len(asked),
        per_column_method={name: methods[one.kind] for name, one in asked.items()},
        per_column_threshold={name: one.limit for name, one in asked.items()},
    )
    definition = DataDefinition(
        numerical_columns=[name for name, one in asked.items() if one.kind == "number"],
        categorical_columns=[name for name, one in asked.items() if one.kind == "category"],
    )
    snapshot = run(preset, definition, judged_rows(window), sample(window.reference))
    keep(snapshots, "drift", snapshot)
    distances = {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if metric["config"]["type"].endswith(":ValueDrift")
    }
    return annotate(snapshot, [*describe_sample(window.rows), *statements]), distances


def quality_report(window: Window, snapshots: "dict[str, Snapshot] | None" = None) -> str:
    """Return Evidently's classification report of the labelled rows of the deployed version.

    Args:
        window: What is judged.
        snapshots: See `data_report`.
    """
    missing = find_missing(window)
    if missing:
        return page("Quality", missing, tabulate(window))
    from evidently import (  # noqa: PLC0415 - 8 s
        BinaryClassification,
        DataDefinition,
        MulticlassClassification,
    )
    from evidently.presets import ClassificationPreset  # noqa: PLC0415 - see above

    columns = {"target": "target", "prediction_labels": PREDICTION}
    if len(window.schema.classes) == BINARY:
        task = BinaryClassification(**columns, pos_label=harmless(window.schema.classes[-1]))
    else:
        task = MulticlassClassification(**columns)
    definition = DataDefinition(classification=[task], categorical_columns=["target", PREDICTION])
    labelled, reference = sample(window.labelled), sample(window.reference)
    snapshot = run(ClassificationPreset(), definition, labelled, reference)
    keep(snapshots, "quality", snapshot)
    return annotate(snapshot, describe_sample(window.labelled))


def describe_sample(rows: pd.DataFrame) -> list[str]:
    """Say that a report is on a part of the rows only, where it is."""
    part = len(sample(rows))
    if part == len(rows):
        return []
    return [
        f"This page shows {part:,} of {len(rows):,} rows, drawn at random; the checks count all."
    ]


def keep(snapshots: "dict[str, Snapshot] | None", name: str, snapshot: "Snapshot") -> None:
    """Hand out a snapshot, where somebody wants it."""
    if snapshots is not None:
        snapshots[name] = snapshot


def find_missing(window: Window) -> list[str]:
    """Say what a classification report lacks, or what Evidently would stumble over."""
    if window.captured.empty:
        return [NO_ROWS.format(window.version)]
    if window.own.empty:
        return [NO_ROWS.format(window.version)]
    labelled, least = sample(window.labelled), window.settings.min_labelled
    if labelled.empty:
        statement = (
            f"None of the {len(window.own):,} rows that version {window.version} answered has"
        )
        return [f"{statement} a label, so quality is unknown. Attach some with `just labels`."]
    found = []
    if len(labelled) < least:
        found.append(f"Only {count(len(labelled), 'labelled row')}; {least} are needed.")
    strange = sorted(set(labelled["target"]) - set(window.schema.classes))
    found += [
        f"The label {show(name)} is no class of the model; it counts as wrong." for name in strange
    ]
    for rows, where in ((labelled, "the labelled rows"), (sample(window.reference), "training")):
        absent = set(window.schema.classes) - {*rows["target"], *rows[PREDICTION]}
        if absent:
            found.append(
                f"In {where}, neither labels nor predictions hold {', '.join(sorted(absent))};"
                " Evidently's classification report needs every class."
            )
    return found


def tabulate(window: Window) -> list[list[str]]:
    """Return, for each class, its labelled rows and how many of them were predicted right."""
    if window.labelled.empty:
        return []
    frequent = frequent_classes(window)
    body = []
    for name in window.schema.classes:
        rows = window.labelled[window.labelled["target"] == name]
        right = int((rows[PREDICTION] == name).sum())
        share = f"{right / len(rows):.1%}" if name in frequent else "too few rows"
        body.append([name, str(len(rows)), str(right), share])
    return [["class", "labelled", "predicted right", "recall"], *body]


def run(
    preset: Any,  # noqa: ANN401 - importing its type takes 8 s
    definition: "DataDefinition",
    rows: pd.DataFrame,
    reference: pd.DataFrame,
) -> "Snapshot":
    """Run one preset on the columns that a definition names."""
    from evidently import Dataset, Report  # noqa: PLC0415 - 8 s

    names = [*(definition.numerical_columns or []), *(definition.categorical_columns or [])]

    def prepare(table: pd.DataFrame) -> "Dataset":
        part = table[names].reset_index(drop=True)
        for name in definition.categorical_columns or []:
            part[name] = part[name].map(harmless, na_action="ignore")
        return Dataset.from_pandas(part, data_definition=definition)

    with warnings.catch_warnings():
        # numpy and scikit-learn on columns without values and classes without rows
        warnings.simplefilter("ignore")
        return Report([preset]).run(prepare(rows), prepare(reference))


def harmless(text: str) -> str:
    """Return text that can end no element of the page that Evidently writes it into."""
    return text.replace("<", "\N{FULLWIDTH LESS-THAN SIGN}")


def annotate(snapshot: "Snapshot", statements: Iterable[str]) -> str:
    """Return Evidently's page with our statements on top of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = snapshot.get_html_str(as_iframe=False)
    notes = paragraphs(statements)
    if not notes:
        return content
    return content.replace("<body>", f'<body><main style="{STYLE}">{notes}</main>', 1)


def page(title: str, statements: Iterable[str], table: Iterable[Iterable[str]] = ()) -> str:
    """Return a page that says what is missing and why.

    Args:
        title: Its heading.
        statements: One a paragraph.
        table: Rows of cells; the first one is the head.
    """
    head, *body = [list(row) for row in table] or [[]]
    rows = "".join(cells("th", head)) + "".join(cells("td", row) for row in body)
    content = paragraphs(statements) + (f"<table>{rows}</table>" if head else "")
    return PAGE.format(title=html.escape(title), style=STYLE, content=content)


def paragraphs(statements: Iterable[str]) -> str:
    """Return statements as HTML."""
    return "".join(f"<p>{html.escape(statement)}</p>" for statement in statements)


def cells(tag: str, row: Iterable[str]) -> str:
    """Return a row of a table as HTML."""
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
