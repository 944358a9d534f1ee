"""How sure a share is that was counted on some rows."""

from math import sqrt
from statistics import NormalDist

LEVEL = 0.95
# More rows lower the share of `least_share` by a point or so, and take scipy long.
MOST_ROWS = 10_000


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share; nothing counted means that nothing is known.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927). Unlike the normal approximation it holds for shares near 0 and 1.
    """
    if count == 0:
        return 0.0, 1.0
    # as scipy.stats.binomtest does, without the second that its import takes
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    middle = hits + z**2 / 2
    half = z * sqrt(hits * (count - hits) / count + z**2 / 4)
    low = (middle - half) / (count + z**2) if hits else 0.0
    high = (middle + half) / (count + z**2) if hits < count else 1.0
    return low, high


def least_share(hits: float, count: float, rows: int, chance: float) -> float:
    """Return the share that a further sample of `rows` stays below with at most this chance.

    How many of the further rows are hits, given what was counted before, follows the
    beta-binomial distribution that Jeffreys' prior leads to (Gelman et al., "Bayesian Data
    Analysis", 3rd edition, section 2.4): it holds what is not known of either sample.
    """
    from scipy.stats import betabinom  # noqa: PLC0415 - one second

    further = min(rows, MOST_ROWS)
    return float(betabinom.ppf(chance, further, hits + 0.5, count - hits + 0.5)) / further
