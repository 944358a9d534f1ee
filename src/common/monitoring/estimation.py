"""How good the predictions are where the truth is not known.

Confidence-based performance estimation: where a model's confidences are calibrated, their mean is
the accuracy that can be expected, whatever rows they come from. They are calibrated on the
reference's out-of-fold probabilities, whose truth is known. Sources: Guillory et al., "Predicting
with confidence on unseen distributions", ICCV 2021; Garg et al., "Leveraging unlabeled data to
predict out-of-distribution performance", ICLR 2022; of the method with calibration and expected
confusion matrix, the documentation of NannyML, "Confidence-based Performance Estimation".
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.monitoring.checks import UNKNOWN, Check
from common.monitoring.quality import (
    SCORE_DEVIATIONS,
    SCORES,
    all_scores,
    confusion,
    frequent,
    scores,
)
from common.monitoring.window import PREDICTION, Window, count, sample

LIMITS_OF_THE_METHOD = (
    "Expected accuracy and expected macro F1 are estimates from the model's own confidences,"
    " calibrated on the training table; no labels were used. They hold while only the mix of rows"
    " changes. They do not see when the truth itself changes (a concept shift: the same features"
    " now belong to another class), they are unsure where rows are unlike any in training, and they"
    " cannot know of labels that are wrong. That is why they warn, and never fail: labels decide."
)
# The captured probabilities have seven digits; of smaller ones nothing is known.
LEAST_PROBABILITY = 1e-7
# Grids of the two figures that calibrate: a temperature below 1 sharpens.
TEMPERATURES = np.geomspace(0.25, 16, 61)
NOISES = np.geomspace(1e-4, 0.6, 40)
NEGLIGIBLE = 1e-6
DRAWS = 200
# Bins of confidence, each with as many rows of the reference.
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """What a reference says of how to read probabilities.

    Probabilities become `(1 - noise) * softmax(log(p) / temperature) + noise / classes`.
    Temperature makes all of them surer or less sure (Guo et al., "On calibration of modern neural
    networks", ICML 2017); noise is the share of rows that nothing foretells, such as wrong labels,
    and takes care of probabilities that are 0. Two figures, because a reference of 300 rows tells
    little more: in simulated shifts, isotonic regression was off by more on average.

    Attributes:
        shares: How much each temperature counts, shape (len(TEMPERATURES),).
        noise: The rest.
    """

    shares: np.ndarray
    noise: float

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, like those given of shape (rows, classes)."""
        together = np.full(probabilities.shape, self.noise / probabilities.shape[1])
        for share, temperature in zip(self.shares, TEMPERATURES, strict=True):
            if share > NEGLIGIBLE:
                together += share * temper(probabilities, temperature)
        return together / together.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Estimate:
    """What a score can be expected to be.

    Attributes:
        interval: Meant to hold the score of these rows with 95 % probability; in simulated shifts,
            nine of ten did.
        deviation: Of the score, by the chance of outcomes and by what is not known of the
            calibration.
    """

    score: float
    interval: tuple[float, float]
    deviation: float


def check_estimate(window: Window) -> list[Check]:
    """Check accuracy and macro F1 as they can be expected without labels.

    They warn at most: an estimate is no reason to raise an alarm by itself, see
    LIMITS_OF_THE_METHOD.
    """
    names = [f"expected {name}" for name in SCORES]
    classes, settings = list(window.schema.classes), window.settings
    rows, reference = (known_rows(table, classes) for table in (window.own, window.reference))
    if len(rows) < settings.min_rows or reference.empty:
        sentence = (
            f"{count(len(rows), 'row')} of version {window.version}, and {settings.min_rows} are"
            " needed to estimate its quality."
        )
        if reference.empty:
            sentence = f"The reference of version {window.version} holds no probabilities."
        return [Check(name, None, None, UNKNOWN, sentence) for name in names]
    estimates, chosen = estimate(rows, reference, classes)
    before = scores(confusion(reference, classes), chosen)
    found = []
    for name, one in estimates.items():
        limit = before[name] - max(settings.quality_drop, SCORE_DEVIATIONS * one.deviation)
        low, high = one.interval
        sentence = (
            f"{name} is expected to be {one.score:.3f} ({low:.3f} to {high:.3f}) by the confidences"
            f" of {count(len(rows), 'row')}, without labels; {before[name]:.3f} in training (out of"
            f" fold), down to {limit:.3f} is normal."
        )
        verdict = "pass" if one.score >= limit else "warn"
        found.append(
            Check(f"expected {name}", one.score, limit, verdict, sentence, interval=(low, high))
        )
    return found


def columns(classes: list[str]) -> list[str]:
    """Return the names of the columns with probabilities."""
    return [f"probability {name}" for name in classes]


def known_rows(rows: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return the rows, or a sample of them, whose probabilities are there, with a prediction."""
    table = rows.reindex(columns=[*columns(classes), PREDICTION, "target"])
    complete = table[columns(classes)].notna().all(axis=1) & table[PREDICTION].isin(classes)
    return sample(table[complete])


def temper(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(log(p) / temperature) of each row."""
    powers = np.clip(probabilities, LEAST_PROBABILITY, 1) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


def calibrate(reference: pd.DataFrame, classes: list[str]) -> Calibration:
    """Return what the reference says of temperature and noise.

    Their posterior is taken on a grid: with three mistakes among 300 rows, which a good model has,
    it is too skewed for the usual approximation by a normal distribution. A priori the logarithm
    of the temperature is standard normal, and every order of magnitude of the noise as likely.

    Args:
        reference: Rows with `target` and `probability <class>`.
        classes: Names of the classes.
    """
    rows = reference[reference["target"].isin(classes)]
    probabilities = rows[columns(classes)].to_numpy(float)
    truth = pd.Categorical(rows["target"], categories=classes).codes.astype(int)[:, None]
    likelihood = np.empty((len(TEMPERATURES), len(NOISES)))
    for place, temperature in enumerate(TEMPERATURES):
        right = np.take_along_axis(temper(probabilities, temperature), truth, axis=1)
        mixed = (1 - NOISES) * right + NOISES / len(classes)
        likelihood[place] = np.log(mixed).sum(axis=0) - np.log(temperature) ** 2 / 2
    weights = np.exp(likelihood - likelihood.max())
    weights /= weights.sum()
    return Calibration(weights @ (1 - NOISES), float((weights @ NOISES).sum()))


def estimate(
    rows: pd.DataFrame, reference: pd.DataFrame, classes: list[str]
) -> tuple[dict[str, Estimate], list[int]]:
    """Estimate accuracy, and macro F1 over the classes of which enough rows can be expected.

    The intervals come from drawn outcomes. Before each draw, the confidences of each bin are moved
    by as much as the share of right predictions among the reference's rows of that bin may be off
    by chance: a shift to confidences that the reference hardly holds makes the interval wide.

    Args:
        rows: With `prediction` and `probability <class>`; at least one.
        reference: Rows with the same columns and `target`; at least one.
        classes: Names of the classes.

    Returns:
        The estimates by name of the score, and the positions of those classes.
    """
    calibration, rng = calibrate(reference, classes), np.random.default_rng(0)
    calibrated, predicted, sure = read(rows, calibration, classes)
    _, _, sure_before = read(reference, calibration, classes)
    # every edge is a confidence of the reference, so no bin is without rows
    levels = np.arange(1, BINS) / BINS
    edges = np.unique(np.quantile(sure_before, levels, method="inverted_cdf"))
    edges = edges[edges < sure_before.max()]
    place, place_before = np.searchsorted(edges, sure), np.searchsorted(edges, sure_before)
    counts = np.bincount(place_before)
    means = np.bincount(place_before, sure_before) / counts

    size = len(classes) + 1
    expected = np.zeros((size, size))
    expected[:-1] = calibrated.T @ np.eye(size)[predicted]
    chosen = frequent(expected)

    # where the prediction is wrong, which class it is
    wrong = calibrated.copy()
    wrong[np.arange(len(rows)), predicted] = 0
    wrong = wrong.cumsum(axis=1) / wrong.sum(axis=1, keepdims=True)
    outcomes = np.empty((DRAWS, size, size))
    for draw in range(DRAWS):
        moved = rng.beta(counts * means, counts * (1 - means)) - means
        right = rng.random(len(rows)) < sure + moved[place]
        other = (wrong < rng.random((len(rows), 1))).sum(axis=1)
        cells = np.where(right, predicted, other) * size + predicted
        outcomes[draw] = np.bincount(cells, minlength=size**2).reshape(size, size)
    drawn = all_scores(outcomes, chosen)
    found = {}
    for name, score in scores(expected, chosen).items():
        low, high = np.quantile(drawn[name], [0.025, 0.975])
        found[name] = Estimate(score, (float(low), float(high)), float(drawn[name].std()))
    return found, chosen


def read(
    rows: pd.DataFrame, calibration: Calibration, classes: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return calibrated probabilities, positions of the predictions, and their confidences."""
    calibrated = calibration.apply(rows[columns(classes)].to_numpy(float))
    predicted = pd.Categorical(rows[PREDICTION], categories=classes).codes.astype(int)
    return calibrated, predicted, np.take_along_axis(calibrated, predicted[:, None], axis=1)[:, 0]
