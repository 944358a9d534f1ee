"""Checks of predictions whose truth is known."""

import numpy as np
import pandas as pd

from common.monitoring.checks import UNKNOWN, Check
from common.monitoring.window import Window, count

# Deviations below the reference that chance gives a score in fewer than one of 1,000 windows.
SCORE_DEVIATIONS = 4.0
SCORE_DRAWS = 500
# A class with fewer labelled rows has an F1 that tells nothing.
MIN_CLASS_ROWS = 10


def check_quality(window: Window) -> list[Check]:
    """Check accuracy and macro F1 of labelled rows against the out-of-fold reference.

    Macro F1 is taken over the classes with enough labelled rows, on both sides: a class that does
    not occur would count as 0.
    """
    labelled, reference, settings = window.labelled, window.reference, window.settings
    rows = count(len(labelled), "labelled row")
    if len(labelled) < settings.min_labelled:
        sentence = (
            f"{rows} of version {window.version}, and {settings.min_labelled} are needed to judge"
            " its quality."
        )
        return [Check(name, None, None, UNKNOWN, sentence) for name in ("accuracy", "macro F1")]
    classes = frequent_classes(window)
    chance = score_deviations(window, classes)
    found = []
    for name, score in scores(labelled, classes).items():
        expected = scores(reference, classes)[name]
        limit = expected - max(settings.quality_drop, SCORE_DEVIATIONS * chance[name])
        sentence = (
            f"{name} {score:.3f} on {rows}, {expected:.3f} in training (out of fold); down to"
            f" {limit:.3f} is normal."
        )
        if name == "macro F1" and len(classes) < len(window.schema.classes):
            sentence += f" Over {', '.join(classes)} only: other classes have too few rows."
        found.append(Check(name, score, limit, "pass" if score >= limit else "fail", sentence))
    return found


def frequent_classes(window: Window) -> list[str]:
    """Return the classes with enough labelled rows to judge them by."""
    counts = window.labelled["target"].value_counts()
    return [name for name in window.schema.classes if counts.get(name, 0) >= MIN_CLASS_ROWS]


def scores(rows: pd.DataFrame, classes: list[str]) -> dict[str, float]:
    """Return accuracy over all rows, and macro F1 over these classes."""
    from sklearn.metrics import accuracy_score, f1_score  # noqa: PLC0415 - 3 s

    truth, predicted = rows["target"], rows["prediction"]
    found = {"accuracy": float(accuracy_score(truth, predicted))}
    if classes:
        found["macro F1"] = float(
            f1_score(truth, predicted, labels=classes, average="macro", zero_division=0)
        )
    return found


def score_deviations(window: Window, classes: list[str]) -> dict[str, float]:
    """Return how much chance moves each score, between labelled rows and the reference.

    Windows are drawn from the reference's confusion matrix. What is known of the reference itself
    is as uncertain as its own number of rows makes it.
    """
    reference, rows = window.reference, len(window.labelled)
    names = list(window.schema.classes)
    matrix = pd.crosstab(reference["target"], reference["prediction"])
    matrix = matrix.reindex(index=names, columns=names, fill_value=0).to_numpy()
    rng = np.random.default_rng(0)
    draws = rng.multinomial(rows, matrix.ravel() / matrix.sum(), size=SCORE_DRAWS)
    draws = draws.reshape(-1, len(names), len(names))
    right = np.diagonal(draws, axis1=1, axis2=2)
    f1 = 2 * right / np.maximum(draws.sum(axis=1) + draws.sum(axis=2), 1)
    chosen = [names.index(name) for name in classes]
    wider = np.sqrt(1 + rows / len(reference))
    return {
        "accuracy": float(right.sum(axis=1).std() / rows * wider),
        "macro F1": float(f1[:, chosen].mean(axis=1).std() * wider) if chosen else 0.0,
    }
