"""How far captured columns lie from the reference, and how far chance alone would take them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from common.monitoring.checks import UNKNOWN, Check
from common.monitoring.window import PREDICTION, Window, count, judged_rows, sample, show

Kind = Literal["number", "category"]

# The distance that chance gives is measured on this many random shuffles of the same rows. Five
# deviations above their mean were passed in 2 of 8,750 comparisons of columns without a shift, in
# windows of 100 to 2,000 rows; skewed and heavy-tailed columns do no worse.
SHUFFLES = 200
DEVIATIONS = 5.0
# Evidently divides by the standard deviation, or by 0.001 where it is smaller.
SMALLEST_DEVIATION = 0.001
# Numbers that lie closer together than this share of their size cannot be put into bins.
SMALLEST_SPREAD = 1e-9


@dataclass(frozen=True)
class Comparison:
    """One column of the captured rows beside the same column of the reference.

    Attributes:
        distance: For numbers the Wasserstein distance in standard deviations of the reference,
            for categories the Jensen-Shannon distance (0 to 0.83); None where too few values
            are there to tell.
        limit: Largest distance that is no drift.
        change: What differs most, in words.
        obstacle: Why Evidently is not asked about this column; None where it is.
    """

    column: str
    kind: Kind
    distance: float | None
    limit: float | None
    change: str
    obstacle: str | None


def check_drift(compared: Iterable[Comparison], distances: Mapping[str, float]) -> list[Check]:
    """Check by column how far the values lie from the reference's.

    Args:
        compared: Carry the limits.
        distances: Evidently's; for columns that it was not asked about, the comparison's own.
    """
    found = []
    for one in compared:
        name = one.column
        if one.distance is None or one.limit is None:
            sentence = f"{name} cannot be judged: {one.obstacle}."
            found.append(Check("drift", None, None, UNKNOWN, sentence, name))
            continue
        distance = distances.get(name, one.distance)
        unit = " standard deviations" if one.kind == "number" else ""
        drifted = distance > one.limit
        sentence = (
            f"{name} {'has drifted' if drifted else 'is as in training'}: its values lie"
            f" {distance:.2f}{unit} from the reference's, up to {one.limit:.2f} is normal"
            f" ({one.change})."
        )
        if one.obstacle:
            sentence += f" Judged without Evidently, because {one.obstacle}."
        found.append(
            Check("drift", distance, one.limit, "fail" if drifted else "pass", sentence, name)
        )
    return found


def check_confidence(window: Window) -> Check:
    """Check that the model is not less sure than it was out of fold.

    It warns at most, for it is the model's own view. To be surer is no sign of trouble: a model is,
    of rows that are like those it was fitted on.
    """
    name, least = "confidence", window.settings.min_rows
    before, now = (rows[name].dropna() for rows in (sample(window.reference), judged_rows(window)))
    one = compare_column(name, "number", before, now, least, window.settings.drift)
    if one.distance is None or one.limit is None:
        return Check(
            "drift", None, None, UNKNOWN, f"{name} cannot be judged: {one.obstacle}.", name
        )
    words, verdict = "as sure as", "pass"
    if one.distance > one.limit:
        fell = now.mean() < before.mean()
        words, verdict = ("less sure than", "warn") if fell else ("surer than", "pass")
    sentence = (
        f"The model is {words} in training: its confidences lie {one.distance:.2f} standard"
        f" deviations from the reference's, up to {one.limit:.2f} is normal ({one.change})."
    )
    return Check("drift", one.distance, one.limit, verdict, sentence, name)


def compare(window: Window) -> list[Comparison]:
    """Compare every feature, and the predictions."""
    kinds: dict[str, Kind] = {name: f.kind for name, f in window.schema.features.items()}
    kinds[PREDICTION] = "category"
    before, now = sample(window.reference), judged_rows(window)
    least = window.settings.min_rows
    # where there are enough rows, half of them may lack this value
    needed = least if len(now) < least else least // 2
    return [
        compare_column(
            name, kind, before[name].dropna(), now[name].dropna(), needed, window.settings.drift
        )
        for name, kind in kinds.items()
    ]


def compare_column(
    name: str, kind: Kind, before: pd.Series, now: pd.Series, needed: int, least_drift: float
) -> Comparison:
    """Compare the values of one column, none of them missing.

    Args:
        name: Name of the column.
        kind: What its values are.
        before: Values of the reference.
        now: Captured values.
        needed: Fewer captured values cannot be judged.
        least_drift: Smaller distances are no drift, whatever chance would give.
    """
    if before.empty or len(now) < max(needed, 1):
        if before.empty:
            reason = "training had no values of it"
        elif now.empty:
            reason = "it holds no values"
        else:
            reason = f"it holds {count(len(now), 'value')}, and {needed} are needed"
        return Comparison(name, kind, None, None, "", reason)
    distances = number_distances if kind == "number" else category_distances
    actual, chance = distances(before, now)
    limit = max(least_drift, float(chance.mean() + DEVIATIONS * chance.std()))
    describe = describe_numbers if kind == "number" else describe_categories
    return Comparison(
        name, kind, actual, limit, describe(before, now), find_obstacle(kind, before, now)
    )


def find_obstacle(kind: Kind, before: pd.Series, now: pd.Series) -> str | None:
    """Say why Evidently fails on a column or computes nonsense; None if it does neither."""
    for values, when in ((before, "in training"), (now, "now")):
        if (values == values.iloc[0]).all():
            return f"it is always {show(values.iloc[0])} {when}"
        if kind == "number" and np.ptp(values) <= SMALLEST_SPREAD * values.abs().max():
            return f"its values hardly differ {when}"
    if kind == "number" and before.std(ddof=0) < SMALLEST_DEVIATION:
        return f"its numbers are smaller than {SMALLEST_DEVIATION:g}"
    return None


def number_distances(before: pd.Series, now: pd.Series) -> tuple[float, np.ndarray]:
    """Return the normed Wasserstein distance, and the distances of random shuffles.

    Shuffling both samples together and dividing them anew shows what two samples of these sizes
    from one and the same distribution look like, whatever its shape.
    """
    pooled = np.concatenate([before, now]).astype(float)
    order = np.argsort(pooled, kind="stable")
    gaps = np.diff(pooled[order])
    weights = np.repeat([1 / len(before), -1 / len(now)], [len(before), len(now)])
    norm = float(before.std(ddof=0)) or float(pooled.std()) or 1.0

    def distance(shares: np.ndarray) -> float:
        return float(np.abs(np.cumsum(shares)[:-1]) @ gaps) / norm

    rng = np.random.default_rng(0)
    chance = [distance(rng.permutation(weights)) for _ in range(SHUFFLES)]
    return distance(weights[order]), np.array(chance)


def category_distances(before: pd.Series, now: pd.Series) -> tuple[float, np.ndarray]:
    """Return the Jensen-Shannon distance, and the distances of random shuffles."""
    counts = count_values(before, now).to_numpy().T
    together = counts.sum(axis=0)
    rng = np.random.default_rng(0)
    shuffled = rng.multivariate_hypergeometric(
        together, len(now), size=SHUFFLES, method="marginals"
    )
    actual = jensen_shannon(counts[0], counts[1])
    return float(actual), jensen_shannon(together - shuffled, shuffled)


def jensen_shannon(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon distance (natural logarithm) between counts, on the last axis."""
    from scipy.special import rel_entr  # noqa: PLC0415 - half a second

    p = first / first.sum(axis=-1, keepdims=True)
    q = second / second.sum(axis=-1, keepdims=True)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=-1) / 2
    return np.sqrt(np.maximum(divergence, 0))


def count_values(before: pd.Series, now: pd.Series) -> pd.DataFrame:
    """Return how often each value occurs, in one column for each of the two."""
    counts = {"before": before.value_counts(), "now": now.value_counts()}
    return pd.DataFrame(counts).fillna(0).astype(int)


def describe_numbers(before: pd.Series, now: pd.Series) -> str:
    """Say how mean and deviation changed."""
    return (
        f"mean {before.mean():.4g} → {now.mean():.4g},"
        f" deviation {before.std(ddof=0):.4g} → {now.std(ddof=0):.4g}"
    )


def describe_categories(before: pd.Series, now: pd.Series) -> str:
    """Say which value's share changed most, and how."""
    counts = count_values(before, now)
    shares = counts / counts.sum()
    most = (shares["now"] - shares["before"]).abs().idxmax()
    return f"{show(most)} {shares['before'][most]:.1%} → {shares['now'][most]:.1%}"
