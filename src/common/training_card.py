"""The card of a training run: scores, confusion matrix, importance, learning curves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaflow import current
from metaflow.cards import Markdown, Table, VegaChart

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from common.fitting import FoldResult
    from common.importance import Importance
    from inference.schema import Schema

# The share of the fullest cell's rows from which on a cell is so dark that white text has more
# contrast than black: both have 4.6 to 1 there, with the scheme and scale below.
DARK_CELL = 0.55


def training_card(
    schema: Schema,
    results: list[FoldResult],
    metrics: dict[str, float],
    reference: pd.DataFrame,
    importance: Sequence[Importance] = (),
) -> None:
    """Fill the card of the running step.

    Args:
        schema: Names the classes.
        results: One a fold.
        metrics: Mean and deviation of each score.
        reference: Truth and out-of-fold prediction of every row.
        importance: What is lost without each column; see `importance.summarize`.
    """
    names = list(results[0].metrics)
    current.card.extend(  # type: ignore[attr-defined] - made when a step has a card
        [
            Markdown(
                f"# Accuracy {metrics['accuracy_mean']:.3f} ± {metrics['accuracy_std']:.3f}\n"
                f"Mean and standard deviation over {len(results)} folds; "
                f"{len(reference)} rows, each predicted by the network that had not seen it."
            ),
            Markdown("## Scores"),
            Table(
                [
                    *([f"fold {r.fold}", *(f"{r.metrics[n]:.4f}" for n in names)] for r in results),
                    ["mean", *(f"{metrics[f'{n}_mean']:.4f}" for n in names)],
                    ["deviation", *(f"{metrics[f'{n}_std']:.4f}" for n in names)],
                ],
                headers=["", *names],
            ),
            Markdown("## Confusion matrix (out of fold)"),
            VegaChart(confusion_chart(schema, reference)),
            *(importance_parts(importance) if importance else []),
            Markdown("## Learning curves"),
            VegaChart(curves_chart(results)),
        ]
    )


def importance_parts(importance: Sequence[Importance]) -> list[Markdown | VegaChart]:
    """Return the part of the card that says which columns count."""
    return [
        Markdown(
            "## Importance of the columns\n"
            "How much log loss rises and accuracy falls when the values of one column are shuffled"
            " among the rows: mean and standard deviation over folds and repeats, on each fold's"
            " evaluation rows. Columns that say nearly the same stand in for one another."
        ),
        VegaChart(importance_chart(importance)),
    ]


def confusion_chart(schema: Schema, reference: pd.DataFrame) -> dict:
    """Return the Vega-Lite specification of the confusion matrix."""
    counts = reference.groupby(["target", "prediction"]).size()
    cells = [
        {"truth": truth, "predicted": predicted, "rows": int(counts.get((truth, predicted), 0))}
        for truth in schema.classes
        for predicted in schema.classes
    ]
    dark = DARK_CELL * max(cell["rows"] for cell in cells)
    order = list(schema.classes)
    position = {
        "x": {"field": "predicted", "type": "nominal", "sort": order, "axis": {"labelAngle": 0}},
        "y": {"field": "truth", "type": "nominal", "sort": order},
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": cells},
        "width": 80 * len(order),
        "height": 50 * len(order),
        "encoding": position,
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "rows",
                        "type": "quantitative",
                        "scale": {"scheme": "blues", "type": "sqrt"},
                    }
                },
            },
            {
                "mark": {"type": "text", "fontSize": 14},
                "encoding": {
                    "text": {"field": "rows", "type": "quantitative"},
                    "color": {
                        "condition": {"test": f"datum.rows > {dark}", "value": "white"},
                        "value": "black",
                    },
                },
            },
        ],
    }


def importance_chart(importance: Sequence[Importance]) -> dict:
    """Return the Vega-Lite specification of permutation importance, a panel for each score."""
    panels = {"rise of log loss": "loss", "fall of accuracy": "accuracy"}
    values = [
        {
            "column": one.column,
            "score": title,
            "mean": mean,
            "low": mean - deviation,
            "high": mean + deviation,
        }
        for one in importance
        for title, name in panels.items()
        for mean, deviation in [(getattr(one, name), getattr(one, f"{name}_deviation"))]
    ]
    order = [one.column for one in importance]
    rows = {"field": "column", "type": "nominal", "sort": order, "axis": {"title": None}}
    ends = {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": values},
        "facet": {
            "column": {"field": "score", "type": "nominal", "sort": list(panels), "title": None}
        },
        "spec": {
            "width": 240,
            "height": {"step": 24},
            "encoding": {"y": rows},
            "layer": [
                {
                    "mark": {"type": "bar", "color": "#9ecae1"},
                    "encoding": {
                        "x": {"field": "mean", "type": "quantitative", "title": None},
                    },
                },
                {"mark": "rule", "encoding": ends},
            ],
        },
        # accuracy falls by 1 at most, log loss may rise by any figure
        "resolve": {"scale": {"x": "independent"}},
    }


def curves_chart(results: list[FoldResult]) -> dict:
    """Return the Vega-Lite specification of loss by epoch, a line for each fold and part."""
    parts = {"loss": "training", "val_loss": "validation"}
    points = [
        {"epoch": epoch, "loss": value, "fold": str(result.fold), "part": parts[name]}
        for result in results
        for name in parts
        for epoch, value in enumerate(result.history.get(name, []), start=1)
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": points},
        "width": 560,
        "height": 280,
        "mark": "line",
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative"},
            "y": {"field": "loss", "type": "quantitative", "scale": {"type": "log"}},
            "color": {"field": "fold", "type": "nominal"},
            "strokeDash": {"field": "part", "type": "nominal"},
        },
    }
