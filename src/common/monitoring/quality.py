"""Checks of predictions whose truth is known."""

import numpy as np
import pandas as pd

from common.intervals import least_share, wilson
from common.monitoring.checks import UNKNOWN, Check
from common.monitoring.window import PREDICTION, Window, count, show
from common.settings import MonitoringSettings

# Deviations below the reference that chance gives a score in fewer than one of 1,000 windows.
SCORE_DEVIATIONS = 4.0
# Chance makes the recall of any class fail in one of this many windows, and so with calibration.
CHANCE = 1_000
DRAWS = 5_000
# A class with fewer labelled rows has a recall and an F1 that tell nothing.
MIN_CLASS_ROWS = 10
# Bins of confidence: as many as in the papers that made the error known, see `calibration_error`.
BINS = 10
SCORES = ("accuracy", "macro F1")


def check_quality(window: Window) -> list[Check]:
    """Check what labelled rows say of the predictions against the out-of-fold reference."""
    labelled, least = window.labelled, window.settings.min_labelled
    if len(labelled) < least:
        sentence = (
            f"{count(len(labelled), 'labelled row')} of version {window.version}, and {least} are"
            " needed to judge its quality."
        )
        return [Check(name, None, None, UNKNOWN, sentence) for name in (*SCORES, "calibration")]
    classes = list(window.schema.classes)
    now, before = (confusion(rows, classes) for rows in (labelled, window.reference))
    scored = check_scores(now, before, classes, window.settings)
    return [
        *scored,
        *check_recall(now, before, classes, window.settings),
        check_calibration(window),
    ]


def check_scores(
    now: np.ndarray, before: np.ndarray, classes: list[str], settings: MonitoringSettings
) -> list[Check]:
    """Check accuracy and macro F1.

    Macro F1 is taken over the classes with enough labelled rows, on both sides: a class that does
    not occur would count as 0.

    Args:
        now: Labelled rows, counted by `confusion`.
        before: Those of the reference.
        classes: Names of the classes.
        settings: The limits.
    """
    chosen = frequent(now)
    reached, expected = scores(now, chosen), scores(before, chosen)
    chance = score_deviations(before, int(now.sum()), chosen)
    intervals = score_intervals(now, chosen)
    found = []
    for name, score in reached.items():
        limit = expected[name] - max(settings.quality_drop, SCORE_DEVIATIONS * chance[name])
        low, high = intervals[name]
        sentence = (
            f"{name} {score:.3f} ({low:.3f} to {high:.3f}) on"
            f" {count(int(now.sum()), 'labelled row')}, {expected[name]:.3f} in training (out"
            f" of fold); down to {limit:.3f} is normal."
        )
        if name == "macro F1" and len(chosen) < len(classes):
            names = ", ".join(classes[place] for place in chosen)
            sentence += f" Over {names} only: other classes have too few rows."
        passed = "pass" if score >= limit else "fail"
        found.append(Check(name, score, limit, passed, sentence, interval=(low, high)))
    return found


def check_recall(
    now: np.ndarray, before: np.ndarray, classes: list[str], settings: MonitoringSettings
) -> list[Check]:
    """Check by class how many of its rows were recognised; `column` names the class.

    Args:
        now: Labelled rows, counted by `confusion`.
        before: Those of the reference.
        classes: Names of the classes.
        settings: The limits.
    """
    judged = max(1, len(frequent(now)))
    found = []
    for place, name in enumerate(classes):
        rows, rows_before = int(now[place].sum()), int(before[place].sum())
        hits, hits_before = int(now[place, place]), int(before[place, place])
        if rows < MIN_CLASS_ROWS or not rows_before:
            sentence = f"{show(name)}: {count(rows, 'labelled row')}, and {MIN_CLASS_ROWS} are"
            sentence += " needed to judge how many are recognised."
            if not rows_before:
                sentence = f"{show(name)}: training had no rows of it to compare with."
            found.append(Check("recall", None, None, UNKNOWN, sentence, name))
            continue
        share, expected = hits / rows, hits_before / rows_before
        chance = least_share(hits_before, rows_before, rows, 1 / CHANCE / judged)
        limit = max(0.0, min(expected - settings.part_drop, chance))
        low, high = wilson(hits, rows)
        sentence = (
            f"{show(name)}: {hits} of {count(rows, 'row')} recognised, {share:.1%} ({low:.1%} to"
            f" {high:.1%}); {expected:.1%} in training, down to {limit:.1%} is normal."
        )
        passed = "pass" if share >= limit else "fail"
        found.append(Check("recall", share, limit, passed, sentence, name, (low, high)))
    return found


def check_calibration(window: Window) -> Check:
    """Check that the confidences say how often the predictions are right.

    Normal is what the reference's confidences are off by, and on top of it what may be added or
    what chance adds where confidences are exact.
    """
    table, expected = (reliability(rows) for rows in (window.labelled, window.reference))
    if table.empty:
        sentence = "No labelled row has a confidence."
        return Check("calibration", None, None, UNKNOWN, sentence)
    error, before = calibration_error(table), calibration_error(expected)
    limit = before + max(window.settings.calibration, chance_error(table))
    share, confidence = (
        float(np.average(table[name], weights=table["rows"])) for name in ("right", "confidence")
    )
    sentence = (
        f"{share:.1%} of the predictions are right, at a mean confidence of {confidence:.1%}; bin"
        f" by bin the two lie {error:.3f} apart (expected calibration error), {before:.3f} in"
        f" training, up to {limit:.3f} is normal."
    )
    return Check("calibration", error, limit, "pass" if error <= limit else "fail", sentence)


def frequent_classes(window: Window) -> list[str]:
    """Return the classes with enough labelled rows to judge them by."""
    classes = list(window.schema.classes)
    return [classes[place] for place in frequent(confusion(window.labelled, classes))]


def frequent(counts: np.ndarray) -> list[int]:
    """Return the positions of the classes with enough rows, in a table like that of `confusion`."""
    return np.flatnonzero(counts[:-1].sum(axis=1) >= MIN_CLASS_ROWS).tolist()


def confusion(rows: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """Count rows by label and prediction.

    Returns:
        Shape (classes + 1, classes + 1), labels first; what is no class comes last.
    """
    size = len(classes) + 1
    # a code of -1 is no class
    truth, predicted = (
        pd.Categorical(rows[name], categories=classes).codes.astype(int) % size
        for name in ("target", PREDICTION)
    )
    return np.bincount(truth * size + predicted, minlength=size**2).reshape(size, size)


def all_scores(counts: np.ndarray, chosen: list[int]) -> dict[str, np.ndarray]:
    """Return accuracy over all rows, and macro F1 over the chosen classes, if there are any.

    Args:
        counts: Labels and predictions on the last two axes; see `confusion`.
        chosen: Positions of classes.

    Returns:
        Each of the shape that is left.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)[..., :-1]
    found = {"accuracy": right.sum(axis=-1) / counts.sum(axis=(-2, -1))}
    if chosen:
        marginals = (counts.sum(axis=-2) + counts.sum(axis=-1))[..., :-1]
        # tiny, not 1: a count may be an expected one
        f1 = 2 * right / np.maximum(marginals, np.finfo(float).tiny)
        found["macro F1"] = f1[..., chosen].mean(axis=-1)
    return found


def scores(counts: np.ndarray, chosen: list[int]) -> dict[str, float]:
    """Return the scores of one table of counts; see `all_scores`."""
    return {name: float(score) for name, score in all_scores(counts, chosen).items()}


def score_deviations(before: np.ndarray, rows: int, chosen: list[int]) -> dict[str, float]:
    """Return how much chance moves each score, between so many rows and the reference.

    Windows are drawn from the reference's counts. What is known of the reference itself is as
    uncertain as its own number of rows makes it.
    """
    total = before.sum()
    drawn = all_scores(draw_counts(rows, before / total), chosen)
    return {name: float(each.std() * np.sqrt(1 + rows / total)) for name, each in drawn.items()}


def score_intervals(counts: np.ndarray, chosen: list[int]) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each score: Wilson's, and that of the posterior draws of F1.

    The prior of the cells weighs as much as one row, half of it on the right predictions: that is
    Jeffreys' prior of the accuracy. Without one, predictions that are all right would have an
    interval without width. Source: Goutte and Gaussier, "A probabilistic interpretation of
    precision, recall and F-score", ECIR 2005.
    """
    right, total = int(np.trace(counts[:-1, :-1])), int(counts.sum())
    found = {"accuracy": wilson(right, total)}
    if chosen:
        classes = len(counts) - 1
        prior = np.full(counts.shape, 0.5 / max(1, classes * (classes - 1)))
        np.fill_diagonal(prior, 0.5 / classes)
        prior[-1] = prior[:, -1] = 0
        shares = draw_shares((counts + prior).ravel()).reshape(-1, *counts.shape)
        score = scores(counts, chosen)["macro F1"]
        low, high = np.quantile(all_scores(shares, chosen)["macro F1"], [0.025, 0.975])
        found["macro F1"] = (min(float(low), score), max(float(high), score))
    return found


def draw_counts(rows: int, shares: np.ndarray) -> np.ndarray:
    """Draw tables of counts, shape (DRAWS, *shares.shape)."""
    drawn = np.random.default_rng(0).multinomial(rows, shares.ravel(), size=DRAWS)
    return drawn.reshape(-1, *shares.shape)


def draw_shares(weights: np.ndarray) -> np.ndarray:
    """Draw from a Dirichlet distribution, shape (DRAWS, len(weights)); weights may be 0."""
    drawn = np.random.default_rng(0).standard_gamma(weights, size=(DRAWS, len(weights)))
    return drawn / drawn.sum(axis=1, keepdims=True)


def reliability(rows: pd.DataFrame) -> pd.DataFrame:
    """Say for each bin of confidence, of equal width, how often the predictions are right.

    Args:
        rows: With the columns `target`, `prediction` and `confidence`.

    Returns:
        The columns `rows`, `confidence` (its mean) and `right` (a share); bins without rows are
        left out.
    """
    known = (rows["confidence"].notna() & rows["target"].notna()).to_numpy()
    confidence = rows["confidence"].to_numpy(float)[known]
    right = (rows["target"] == rows[PREDICTION]).to_numpy(float)[known]
    place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    sums = (np.bincount(place, weights, BINS) for weights in (None, confidence, right))
    table = pd.DataFrame(dict(zip(("rows", "confidence", "right"), sums, strict=True)))
    table = table[table["rows"] > 0]
    return table.assign(
        confidence=table["confidence"] / table["rows"], right=table["right"] / table["rows"]
    )


def calibration_error(table: pd.DataFrame) -> float:
    """Return the expected calibration error of a table of bins; 0 if it has none.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI 2015; Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    if table.empty:
        return 0.0
    gaps = (table["right"] - table["confidence"]).abs()
    return float(np.average(gaps, weights=table["rows"]))


def chance_error(table: pd.DataFrame) -> float:
    """Return the calibration error that exact confidences pass in one of CHANCE windows only.

    Outcomes are drawn from the confidences themselves. Source: Bröcker and Smith, "Increasing the
    reliability of reliability diagrams", Weather and Forecasting 22 (2007). In each bin they are
    drawn as if all its rows had the mean confidence, which never makes them vary less.
    """
    rows, confidence = table["rows"].to_numpy(), table["confidence"].clip(0, 1).to_numpy()
    right = np.random.default_rng(0).binomial(rows, confidence, size=(DRAWS, len(table))) / rows
    errors = np.abs(right - confidence) @ rows / rows.sum()
    return float(np.quantile(errors, 1 - 1 / CHANCE))
