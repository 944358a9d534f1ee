"""The model card of a version: what it is for, what it was made of, how good it is, and where not.

Its sections follow Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

import importlib.metadata
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from common.fitting import CURRENT, ORIGIN
from common.intervals import wilson
from common.pages import render, to_html

if TYPE_CHECKING:
    import pandas as pd

    from common.importance import Importance
    from inference.schema import Schema

PACKAGES = (
    "tensorflow",
    "keras",
    "scikit-learn",
    "numpy",
    "pandas",
    "onnx",
    "onnxruntime",
    "skl2onnx",
    "mlflow",
    "metaflow",
)
# The recall of a smaller class has an interval of more than ten points.
SMALL_CLASS = 50
BAR = 12
CHANGED = "+"

INTENDED_USE = "Predicting {target} for rows from the same source as the table's."
NOT_FOR = (
    "Rows of another origin than the table's: other places, times or ways of measuring.",
    "Decisions about people or safety in which nobody looks at the answer.",
)
# What holds for every model that this project makes.
ALWAYS = (
    "Every row is taken for one of the classes; the model cannot say that it is none of them.",
    (
        "The figures are those of networks that were each fitted on a part of the rows (out of"
        " fold); the final one was fitted on all of them, or on nine tenths where the last one"
        " tells when to stop (`patience`), and no row is left to measure it on."
    ),
    (
        "Without labels, monitoring sees that inputs change, not that the truth does: where the"
        " same features come to belong to another class, only labels show it."
    ),
)


@dataclass(frozen=True)
class Facts:
    """What a model card tells.

    Attributes:
        project: Name of the registered model.
        version: Its number.
        schema: The one that travels with the model.
        reference: Training rows with their out-of-fold predictions; see `fitting.reference`.
        metrics: Mean and deviation over the folds; see `fitting.summarize`.
        importance: See `importance.summarize`.
        source: Where the table lies.
        sha256: Hash of the table's file.
        rejected: Rows of the file that could not be used.
        parameters: Those of the training flow, as its options name them.
        commit: The one that was checked out, with + where files differed from it.
        run: MLflow run that trained it.
        intended_use: What it is for; INTENDED_USE says something general.
        not_for: What it is not for; NOT_FOR says something general.
        provenance: Who collected the data, how, and under which licence.
        config: Config file that `ROOKERY_CONFIG` named; empty for the default one.
    """

    project: str
    version: str
    schema: "Schema"
    reference: "pd.DataFrame"
    metrics: Mapping[str, float]
    importance: "Sequence[Importance]"
    source: str
    sha256: str
    rejected: int
    parameters: Mapping[str, object]
    commit: str
    run: str
    intended_use: str = ""
    not_for: Sequence[str] = ()
    provenance: str = ""
    config: str = ""


def model_card(facts: Facts) -> str:
    """Return the model card as Markdown."""
    from common.monitoring import quality, segments  # noqa: PLC0415 - pandas, one second

    schema, classes = facts.schema, list(facts.schema.classes)
    rows = facts.reference
    scored = rows[rows[CURRENT].astype(bool)] if CURRENT in rows else rows
    matrix = quality.confusion(scored, classes)
    everything = list(range(len(classes)))
    intervals = quality.score_intervals(matrix, everything)
    recalls = recall_rows(matrix, classes)
    parts = segments.tabulate(scored, list(schema.categories))
    return render(
        "model_card.md.j2",
        facts=facts,
        target=schema.target,
        today=f"{datetime.now(UTC):%Y-%m-%d}",
        not_for=facts.not_for or NOT_FOR,
        use=facts.intended_use or INTENDED_USE.format(target=schema.target),
        rows=len(rows),
        scored=len(scored),
        origins=rows[ORIGIN].value_counts().to_dict() if ORIGIN in rows else {},
        columns=[describe_column(schema, name, rows) for name in schema.features],
        scores=[
            (name, score, *intervals[name])
            for name, score in quality.scores(matrix, everything).items()
        ],
        folds=[name.removesuffix("_mean") for name in facts.metrics if name.endswith("_mean")],
        recalls=recalls,
        calibration=quality.calibration_error(quality.reliability(scored)),
        segments=[{**one, "name": segments.name_segment(one)} for one in parts],
        smallest=segments.MIN_SEGMENT_ROWS,
        importance=[(one, bar(one.loss, facts.importance[0].loss)) for one in facts.importance],
        limits=limits(schema, rows, recalls),
        environment=environment(),
        commit=facts.commit.removesuffix(CHANGED),
        changed=facts.commit.endswith(CHANGED),
        command=Markup(command(facts.parameters, facts.config)),  # noqa: S704 - quoted for a shell, and one line
    )


def model_card_page(markdown: str, title: str) -> str:
    """Return a model card as an HTML page."""
    return render("model_card.html.j2", title=title, content=to_html(markdown))


def recall_rows(matrix: Any, classes: Sequence[str]) -> list[dict[str, Any]]:  # noqa: ANN401 - numpy, late
    """Return how many rows of each class were recognised.

    Args:
        matrix: Rows by truth and prediction; see `quality.confusion`.
        classes: Their names.
    """
    found = []
    for place, name in enumerate(classes):
        rows, right = int(matrix[place].sum()), int(matrix[place, place])
        recall = right / rows if rows else None
        found.append(
            {"name": name, "rows": rows, "recall": recall, "interval": wilson(right, rows)}
        )
    return found


def describe_column(schema: "Schema", name: str, rows: "pd.DataFrame") -> dict[str, Any]:
    """Return what a column may hold, and what it held in training."""
    feature, values = schema.features[name], rows[name].dropna()
    if feature.kind == "number":
        allowed = "any" if feature.range is None else "{:g} to {:g}".format(*feature.range)
        held = f"{values.min():g} to {values.max():g}" if len(values) else "nothing"
    else:
        allowed = ", ".join(feature.categories)
        seen = [one for one in feature.categories if (values == one).any()]
        held = "all of them" if len(seen) == len(feature.categories) else ", ".join(seen)
    missing = len(rows) - len(values)
    unit = feature.unit or ""
    return {"name": name, "unit": unit, "allowed": allowed, "held": held, "missing": missing}


def limits(
    schema: "Schema", rows: "pd.DataFrame", recalls: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Say what must not be expected of the model."""
    found = []
    bounded = [n for n in schema.numbers if schema.features[n].range is not None]  # type: ignore[union-attr] - numbers have one
    if bounded:
        found.append(
            "Numbers outside the allowed ranges are refused, not predicted. Numbers inside them"
            " but beyond what training held are answered, and less surely right than the"
            " confidence says."
        )
    if schema.categories:
        found.append(
            "A category that training did not know is answered from the other columns alone."
        )
    if rows[list(schema.features)].isna().any(axis=None):
        found.append("Missing values are replaced by the mean or the most frequent category.")
    small = [one["name"] for one in recalls if one["rows"] < SMALL_CLASS]
    if small:
        found.append(
            f"Fewer than {SMALL_CLASS} rows stand behind the figures of {', '.join(small)}:"
            " their recall may be quite another."
        )
    return [*found, *ALWAYS]


def bar(value: float, largest: float) -> str:
    """Draw a value as a bar of text."""
    return "█" * round(BAR * max(value, 0.0) / largest) if largest > 0 else ""


def environment() -> dict[str, str]:
    """Return what the model was trained with, by name."""
    return {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def command(parameters: Mapping[str, object], config: str = "") -> str:
    """Return the command that trains the same model."""
    parts = ["just", "train"]
    for name, value in parameters.items():
        if isinstance(value, bool):
            parts += [f"--{name}"] if value else []
        else:
            parts += [f"--{name}", " ".join(str(value).split())]
    prefix = f"ROOKERY_CONFIG={shlex.quote(' '.join(config.split()))} " if config else ""
    return prefix + shlex.join(parts)
