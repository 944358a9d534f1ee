"""Two models' figures on the same rows: which of them is worse, and whether that is chance.

What decides is a paired bootstrap of the difference, 2,000 draws of the rows. The challenger fails
a figure where the difference is larger than the margin and its interval lies wholly on the worse
side of zero: it is worse by more than is put up with, and that is not chance. The intervals are as
wide as it takes for all figures together to call an equal challenger worse in 5 % of cases at most
(Bonferroni: with three classes each is a 98 % interval). To ask the opposite, proof that it is not
worse by more than the margin, refuses most equals: 344 rows cannot give it unless both are nearly
always right.

How often a challenger is refused, by accuracy of the champion and number of rows: 100 simulations
each of three classes in the penguins' proportions, half of the noise common to both models (see
benchmarks/challenge.py). A figure of 5 % may be 2 % or 11 %, one of 50 % may be 40 % or 60 %.

    accuracy  challenger                          100    200    344 rows
    0.995     equal                               0 %    0 %    0 %
    0.995     macro F1 4 points lower            74 %   95 %   99 %
    0.995     recall of the rarest class -20     51 %   96 %   99 %
    0.94      equal                               1 %    5 %    4 %
    0.94      macro F1 5 points lower            45 %   75 %   87 %
    0.94      recall of the rarest class -20     43 %   79 %   91 %
    0.94      as good, but three times too sure   5 %   13 %   21 %
    0.85      equal                               4 %    3 %    7 %
    0.85      macro F1 5 points lower            29 %   47 %   61 %
    0.85      recall of the rarest class -20     28 %   46 %   66 %
    0.85      as good, but three times too sure  13 %   42 %   61 %

On the penguins themselves, ten networks of scikit-learn that differ in the seed of folds and
weights (accuracy 0.988 to 1) refuse none of each other in 90 pairs, and networks that lack one
feature (accuracy 0.87 to 0.88) are refused in 30 of 30.

So equals pass. A worse one is found out surely where models are nearly always right, and not so
surely where both err often: there it takes more rows, or a person who reads the table.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from inference.schema import to_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from common.settings import PromotionSettings
    from inference.predictor import Predictor

Source = Literal["table", "production", "graphs"]
Verdict = Literal["pass", "fail", "not enough data"]

DRAWS = 2_000
# How often an equal challenger may be called worse.
FALSE_ALARMS = 0.05
# The least that a row's class counts as having got: without it one row could outweigh all others.
SMALLEST_PROBABILITY = 1e-3
LATENCY_ROUNDS = 500
LATENCY_ROWS = 50


@dataclass(frozen=True)
class Rows:
    """What both contenders said of the same rows.

    Attributes:
        truth: Positions of the classes, shape (rows,).
        champion: Its probabilities, shape (rows, classes).
        challenger: Likewise.
    """

    classes: tuple[str, ...]
    truth: np.ndarray
    champion: np.ndarray
    challenger: np.ndarray

    def __len__(self) -> int:
        return len(self.truth)

    def count(self, name: str) -> int:
        """Return how many are of this class."""
        return int((self.truth == self.classes.index(name)).sum())


@dataclass(frozen=True)
class Measure:
    """One figure of both, and what may be said of the difference.

    Attributes:
        difference: Challenger minus champion; None where there are too few rows.
        interval: Where the difference lies, as the bootstrap has it.
        margin: By how much the challenger may be worse.
        rows: So many rows tell.
        source: Which rows they are.
        decides: Whether a fail refuses the challenger.
    """

    name: str
    champion: float | None
    challenger: float | None
    difference: float | None
    interval: tuple[float, float] | None
    margin: float
    verdict: Verdict
    rows: int
    source: Source
    decides: bool


def measure(table: Rows, production: Rows, settings: PromotionSettings) -> list[Measure]:
    """Judge every figure; see the module's docstring for which rows decide.

    Returns:
        Nothing where neither set has enough rows.
    """
    known = len(table) >= settings.min_labelled
    if len(production) < settings.min_labelled:
        return judge(table, "table", settings, decides=True) if known else []
    judged = judge(production, "production", settings, decides=True)
    if not known:
        return judged
    rare = {one.name for one in judged if one.verdict == "not enough data"}
    informing = judge(table, "table", settings, decides=False)
    return [
        *(one for one in judged if one.name not in rare),
        *(replace(one, decides=one.name in rare and one.interval is not None) for one in informing),
    ]


def judge(
    rows: Rows, source: Source, settings: PromotionSettings, *, decides: bool
) -> list[Measure]:
    """Judge macro F1, recalls and log loss on one set of rows.

    Macro F1 is taken over the classes with enough rows, and only these have a recall.
    """
    counts = [rows.count(name) for name in rows.classes]
    enough = [place for place, count in enumerate(counts) if count >= settings.min_class_rows]
    champion, challenger, draws = resample(rows, enough)
    tail = 100 * FALSE_ALARMS / len(champion)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    names = ["macro F1", *(f"recall {name}" for name in rows.classes), "log loss"]
    margins = [settings.f1_drop, *(settings.recall_drop for _ in counts), settings.log_loss_rise]
    supports = [sum(counts[place] for place in enough), *counts, len(rows)]
    known = [bool(enough), *(place in enough for place in range(len(counts))), True]
    return [
        judged(
            name,
            (float(champion[place]), float(challenger[place])),
            (float(low[place]), float(high[place])),
            margins[place],
            (supports[place], source),
            larger_is_better=name != "log loss",
            decides=decides,
        )
        if known[place]
        else Measure(
            name,
            None,
            None,
            None,
            None,
            margins[place],
            "not enough data",
            supports[place],
            source,
            decides=False,
        )
        for place, name in enumerate(names)
    ]


def judged(
    name: str,
    figures: tuple[float, float],
    interval: tuple[float, float],
    margin: float,
    told_by: tuple[int, Source],
    *,
    larger_is_better: bool,
    decides: bool,
) -> Measure:
    """Judge one difference: it fails if it is certainly worse, and by more than the margin.

    Args:
        name: Name of the figure.
        figures: The champion's and the challenger's.
        interval: Of the challenger's minus the champion's.
        margin: By how much the challenger may be worse.
        told_by: Number of rows, and which they are.
        larger_is_better: Whether a larger figure is the better one.
        decides: Whether a fail refuses the challenger.
    """
    champion, challenger = figures
    difference = challenger - champion
    best, gain = (interval[1], difference) if larger_is_better else (-interval[0], -difference)
    verdict: Verdict = "fail" if best < 0 and gain < -margin else "pass"
    return Measure(
        name, champion, challenger, difference, interval, margin, verdict, *told_by, decides=decides
    )


def resample(rows: Rows, enough: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores of both, and their differences on rows drawn with replacement.

    Every score follows from sums over rows, so that a draw is one product of its counts with a
    matrix of what each row adds.

    Args:
        rows: What both said.
        enough: Positions of the classes over which macro F1 is taken.

    Returns:
        The champion's scores and the challenger's, shape (classes + 2,) each: macro F1, recalls,
        log loss; and the draws of challenger minus champion, shape (DRAWS, classes + 2).
    """
    parts = [contributions(rows.truth, told) for told in (rows.champion, rows.challenger)]
    both = np.hstack(parts)
    rng = np.random.default_rng(0)
    count = len(rows)
    sums = np.stack(
        [
            both.sum(axis=0),
            *(
                np.bincount(rng.integers(count, size=count), minlength=count) @ both
                for _ in range(DRAWS)
            ),
        ]
    )
    champion, challenger = (
        scores(half, count, enough) for half in np.split(sums, [parts[0].shape[1]], axis=1)
    )
    return champion[0], challenger[0], (challenger - champion)[1:]


def contributions(truth: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Return what each row adds to the sums that the scores are made of.

    Returns:
        Shape (rows, 3 classes + 1): for each class whether the row is of it and recognized, is of
        it, is taken for it; and the row's log loss in nats.
    """
    classes = np.arange(told.shape[1])
    own = truth[:, None] == classes
    given = told.argmax(axis=1)[:, None] == classes
    right = told[np.arange(len(truth)), truth].clip(SMALLEST_PROBABILITY, 1)
    return np.hstack([own & given, own, given, -np.log(right)[:, None]]).astype(float)


def scores(sums: np.ndarray, rows: int, enough: Sequence[int]) -> np.ndarray:
    """Return macro F1, recalls and log loss of each line of sums, shape (lines, classes + 2)."""
    right, own, given = np.split(sums[:, :-1], 3, axis=1)
    f1 = 2 * right / np.maximum(own + given, 1)
    macro = f1[:, list(enough)].mean(axis=1) if enough else np.zeros(len(sums))
    return np.column_stack([macro, right / np.maximum(own, 1), sums[:, -1] / rows])


def time_predictions(
    champion: Predictor, challenger: Predictor, rows: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return how long one row takes each, in ms, shape (LATENCY_ROUNDS,).

    They take turns, so that whatever else the machine does slows both.
    """
    names = list(dict.fromkeys([*champion.schema.features, *challenger.schema.features]))
    table = rows.reindex(columns=names)
    sides = []
    for predictor in (champion, challenger):
        records = to_records(table[list(predictor.schema.features)])
        # the first call of a graph takes longer than any later one
        predictor.predict([dict(records[0])])
        sides.append((predictor, records, np.zeros(LATENCY_ROUNDS)))
    for turn in range(LATENCY_ROUNDS):
        for predictor, records, times in sides:
            record = dict(records[turn % len(records)])
            started = time.perf_counter()
            predictor.predict([record])
            times[turn] = 1000 * (time.perf_counter() - started)
    return sides[0][2], sides[1][2]


def judge_latency(
    champion: np.ndarray, challenger: np.ndarray, settings: PromotionSettings
) -> Measure:
    """Judge the median times of one row, in ms."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(champion), size=(DRAWS, len(champion)))
    differences = np.median(challenger[draws], axis=1) - np.median(champion[draws], axis=1)
    tail = 100 * FALSE_ALARMS
    usual = float(np.median(champion))
    return judged(
        "latency p50, ms",
        (usual, float(np.median(challenger))),
        (float(np.percentile(differences, tail)), float(np.percentile(differences, 100 - tail))),
        settings.latency_rise * usual,
        (len(champion), "graphs"),
        larger_is_better=False,
        decides=True,
    )
