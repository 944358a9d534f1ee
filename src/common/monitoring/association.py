"""How columns hang together, and whether that changed: what no single column shows.

Each pair of columns is compared by its correlation in the captured rows and in the reference.
Numbers are taken as normal scores of their ranks within their own table, and each value of a
category as a column of yes and no, scaled within its own table. So a number column that is shifted
or stretched as a whole changes nothing here; that is a matter of `drift`. Shares of categories that
change may show here too, for the other columns' ranks then mean other rows.

A classifier that tells the two tables apart was tried first. A random forest found the ties that
drawing rows with replacement makes, and raised an alarm for every such window of 500 rows; on
windows of 100 rows with one column permuted it saw no more than the pairs do, and it took 0.9 s
where these take 0.02 s and name the columns. What pairs cannot show: a change among three columns
of which no two change, or from one curve without a trend to another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from common.monitoring.checks import UNKNOWN, Check
from common.monitoring.window import Window, sample, show

# Deviations that chance gives the largest of all pairs in hardly any window: see the tests.
DEVIATIONS = 5.0
# A value that is rarer than this, in either table, has a correlation that tells nothing.
SMALLEST_SHARE = 0.05
SMALLEST_ROWS = 10


@dataclass(frozen=True)
class Pair:
    """Two columns, or values of categories, and how they hang together.

    Attributes:
        before: Correlation in the reference.
        now: Correlation in the captured rows.
        limit: How much they may differ.
    """

    names: tuple[str, str]
    before: float
    now: float
    limit: float

    @property
    def change(self) -> float:
        """How much they differ."""
        return abs(self.now - self.before)


def check_associations(window: Window) -> Check:
    """Check that columns hang together as they do in the reference.

    The figure is the change of the pair that is nearest to its limit, or farthest above it.
    """
    least = window.settings.min_rows
    pairs = list(compare_pairs(window)) if len(window.rows) >= least else []
    if not pairs:
        sentence = "How columns hang together cannot be judged: "
        sentence += (
            f"{least} rows are needed."
            if len(window.rows) < least
            else "no two columns vary and have enough values."
        )
        return Check("associations", None, None, UNKNOWN, sentence)
    worst = max(pairs, key=lambda pair: pair.change / pair.limit)
    changed = worst.change > worst.limit
    pair = " and ".join(worst.names)
    sentence = (
        f"{pair} {'no longer hang' if changed else 'hang'} together as in training: their"
        f" correlation is {worst.now:.2f}, {worst.before:.2f} in training; a change of"
        f" {worst.limit:.2f} is normal."
    )
    if not changed:
        sentence += " No other pair is nearer to its limit."
    verdict = "fail" if changed else "pass"
    return Check("associations", worst.change, worst.limit, verdict, sentence)


def compare_pairs(window: Window) -> Iterator[Pair]:
    """Compare each pair of columns that both tables have enough values of."""
    before, now = (scores(sample(table), window) for table in (window.reference, window.rows))
    common = [key for key in before if key in now]
    for first, second in combinations(common, 2):
        if first[0] == second[0]:
            continue
        old, new = (correlate(table[first], table[second]) for table in (before, now))
        if old is None or new is None:
            continue
        limit = max(window.settings.association, DEVIATIONS * float(np.hypot(old[1], new[1])))
        names = (label(first), label(second))
        yield Pair(names, old[0], new[0], limit)


def label(key: tuple[str, str | None]) -> str:
    """Name a column, or a value of it."""
    name, value = key
    return name if value is None else f"{name} {show(value)}"


def scores(table: pd.DataFrame, window: Window) -> dict[tuple[str, str | None], np.ndarray]:
    """Return columns of mean 0 and deviation 1, with NaN for missing, by column and value.

    Columns that do not vary are left out, and values that are rare.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - half a second

    found: dict[tuple[str, str | None], np.ndarray] = {}
    for name, feature in window.schema.features.items():
        column = table[name]
        known = column.notna()
        rows = int(known.sum())
        if feature.kind == "number":
            found[name, None] = ndtri((column.rank() - 0.5) / max(rows, 1)).to_numpy(float)
            continue
        counts = column.value_counts()
        for value in feature.categories:
            often = min(counts.get(value, 0), rows - counts.get(value, 0))
            if often >= max(SMALLEST_ROWS, SMALLEST_SHARE * rows):
                found[name, value] = (column == value).where(known).to_numpy(float)
    return {
        key: (values - np.nanmean(values)) / np.nanstd(values)
        for key, values in found.items()
        if (~np.isnan(values)).sum() >= window.settings.min_rows // 2 and np.nanstd(values) > 0
    }


def correlate(first: np.ndarray, second: np.ndarray) -> tuple[float, float] | None:
    """Return the correlation of two scaled columns and its standard error; None if few rows.

    The error is that of the correlation's influence function, xy - r (x² + y²) / 2 (Devlin,
    Gnanadesikan and Kettenring 1975), which needs no normal distribution.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    rows = int(both.sum())
    if rows < SMALLEST_ROWS:
        return None
    x, y = first[both], second[both]
    product = x * y
    r = float(product.mean())
    influence = product - r * (x**2 + y**2) / 2
    return r, float(influence.std() / np.sqrt(rows))
