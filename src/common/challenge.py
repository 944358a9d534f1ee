"""Champion against challenger, on rows that neither was trained on.

Two sets of rows can tell. "table" is the out-of-fold predictions of both versions on the rows of
the table that both know. "production" is the newest captured rows with ground truth that the
champion was not trained on. Production decides once it has enough rows, for it is what is true
now; the table then only informs, except of the classes that hardly occur in production.

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
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from common.fitting import ORIGIN
from inference.errors import RookeryError
from inference.local import ARTIFACTS
from inference.predictor import Predictor
from inference.schema import Schema, to_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from common.settings import PromotionSettings
    from inference.backend import Backend, Release

Source = Literal["table", "production", "graphs"]
Verdict = Literal["pass", "fail", "not enough data"]

DRAWS = 2_000
# How often an equal challenger may be called worse.
FALSE_ALARMS = 0.05
# The least that a row's class counts as having got: without it one row could outweigh all others.
SMALLEST_PROBABILITY = 1e-3
LATENCY_ROUNDS = 500
LATENCY_ROWS = 50


class ChallengerRefusedError(RookeryError):
    """The challenger is worse than the champion, or cannot be compared with it."""


@dataclass(frozen=True)
class Contender:
    """A version, and what is needed to compare it.

    Attributes:
        predictor: Its graph and schema.
        reference: Its training rows with their out-of-fold predictions; see `fitting.reference`.
    """

    version: str
    predictor: Predictor
    reference: pd.DataFrame

    @classmethod
    def load(cls, release: Release) -> Self:
        """Load a downloaded version.

        Raises:
            ModelError: A file is missing or damaged.
        """
        import pandas as pd  # noqa: PLC0415 - one second

        from common.packaging import REFERENCE  # noqa: PLC0415 - only training packages
        from inference.errors import ModelError  # noqa: PLC0415

        folder = release.path / ARTIFACTS
        try:
            reference = pd.read_parquet(folder / REFERENCE)
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder / REFERENCE}: not readable ({error})") from error
        return cls(release.version, Predictor.load(folder), reference)

    @property
    def schema(self) -> Schema:
        """The version's schema."""
        return self.predictor.schema

    def captured(self) -> pd.DataFrame:
        """Return those of its training rows that were captured."""
        known = self.reference
        return known[known[ORIGIN] == "captured"] if ORIGIN in known else known.iloc[:0]

    def table(self) -> pd.DataFrame:
        """Return those of its training rows that are the table's."""
        known = self.reference
        return known[known[ORIGIN] == "table"] if ORIGIN in known else known

    def answers(self, rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
        """Return honest probabilities for captured rows, shape (rows, classes).

        Of a row that it was trained on, or one with the same features, this is the out-of-fold
        prediction; of a row that it answered, the answer; of any other, what its graph says.
        """
        records = to_records(rows.reindex(columns=list(self.schema.features)))
        answered = self.predictor.predict([dict(record) for record in records])
        told = [prediction["probabilities"] for prediction in answered]
        found = np.array([[one.get(name, 0.0) for name in classes] for one in told])
        found = found.reshape(len(rows), len(classes))
        own = (rows["model_version"] == self.version).to_numpy()
        found[own] = probabilities(rows[own], classes)
        keys = list(self.schema.features)
        for place in (match_rows(rows, self.reference, keys, self.schema), self._trained_on(rows)):
            known = place >= 0
            found[known] = probabilities(self.reference.iloc[place[known]], classes)
        return found

    def _trained_on(self, rows: pd.DataFrame) -> np.ndarray:
        import pandas as pd  # noqa: PLC0415 - see load

        captured = self.captured()
        if captured.empty:
            return np.full(len(rows), -1)
        places = pd.Series(np.flatnonzero(self.reference[ORIGIN] == "captured"), captured["id"])
        places = places[~places.index.duplicated()]
        return rows["id"].map(places).fillna(-1).to_numpy(int)


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


@dataclass(frozen=True)
class Challenge:
    """What came of a comparison.

    Attributes:
        champion: Version number.
        challenger: Version number.
        accepted: Whether the challenger may take the champion's place.
        reason: Why, in short, for the notes on the version.
        details: The figures that tell.
    """

    champion: str
    challenger: str
    accepted: bool
    reason: str
    details: str
    measures: tuple[Measure, ...]

    @property
    def sentence(self) -> str:
        """Why, for people."""
        return ": ".join(filter(None, (self.reason, self.details)))

    @property
    def figures(self) -> dict[str, float]:
        """What decided, by name: the champion's figure, the challenger's, and the interval."""
        found = {}
        for one in self.measures:
            if one.decides and one.interval is not None:
                values = (one.champion, one.challenger, *one.interval)
                names = ("champion", "challenger", "difference from", "difference to")
                for name, value in zip(names, values, strict=True):
                    found[f"{one.name}, {name}"] = round(float(value or 0.0), 6)
        return found


def compare(
    champion: Contender, challenger: Contender, backend: Backend, settings: PromotionSettings
) -> Challenge:
    """Compare two versions on all rows that can tell.

    Raises:
        BackendError: The captured rows cannot be read.
    """
    table = table_rows(champion, challenger)
    captured = captured_rows(champion, challenger, backend, settings.rows)
    production = production_rows(champion, challenger, captured)
    measures = measure(table, production, settings)
    if measures:
        features = champion.reference.head(LATENCY_ROWS)
        times = time_predictions(champion.predictor, challenger.predictor, features)
        measures.append(judge_latency(*times, settings))
    counts: dict[Source, int] = {"table": len(table), "production": len(production)}
    return conclude(champion.version, challenger.version, measures, counts, settings)


def all_classes(champion: Contender, challenger: Contender) -> tuple[str, ...]:
    """Return the classes that either knows."""
    return tuple(dict.fromkeys([*challenger.schema.classes, *champion.schema.classes]))


def table_rows(champion: Contender, challenger: Contender) -> Rows:
    """Return the rows of the table that both know, matched by what they hold.

    The files that the two were trained on may differ; a row that occurs twice in both is two rows.
    Features that only one of them has, or that changed their kind, are left out of the match.
    """
    classes = all_classes(champion, challenger)
    first, second = champion.table(), challenger.table()
    ours, theirs = challenger.schema.features, champion.schema.features
    common = [n for n in ours if n in theirs and ours[n].kind == theirs[n].kind]
    place = match_rows(second, first, [*common, "target"], challenger.schema, occurrence=True)
    second, first = second[place >= 0], first.iloc[place[place >= 0]]
    return Rows(
        classes,
        second["target"].map(classes.index).to_numpy(int),
        probabilities(first, classes),
        probabilities(second, classes),
    )


def captured_rows(
    champion: Contender, challenger: Contender, backend: Backend, count: int
) -> pd.DataFrame:
    """Return the newest captured rows with ground truth that the champion was not trained on.

    Raises:
        BackendError: They cannot be read.
    """
    from common.monitoring.review import merge  # noqa: PLC0415 - only flows review

    schema = merge([champion.schema, challenger.schema])
    known = champion.captured()
    # so many that enough are left when those that it knows are gone
    rows = backend.load(schema, count + len(known), labelled=True)
    if len(known):
        rows = rows[~rows["id"].isin(known["id"])]
    return rows[rows["target"].isin(schema.classes)].head(count)


def production_rows(champion: Contender, challenger: Contender, rows: pd.DataFrame) -> Rows:
    """Return what both say of captured rows."""
    classes = all_classes(champion, challenger)
    return Rows(
        classes,
        rows["target"].map(classes.index).to_numpy(int),
        champion.answers(rows, classes),
        challenger.answers(rows, classes),
    )


def probabilities(rows: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Return the probability of each class, 0 for one that was not known, shape (rows, classes)."""
    return rows.reindex(columns=[f"probability {name}" for name in classes]).fillna(0.0).to_numpy()


def match_rows(
    rows: pd.DataFrame,
    known: pd.DataFrame,
    columns: Sequence[str],
    schema: Schema,
    *,
    occurrence: bool = False,
) -> np.ndarray:
    """Find rows by what they hold; missing values equal each other.

    Args:
        rows: Look for these.
        known: Among these.
        columns: Which must be equal.
        schema: Says which of them are numbers.
        occurrence: The second row of a kind finds the second, and the third finds none if there
            are two; otherwise every one finds the first.

    Returns:
        Positions in `known`, -1 for rows that are not there, shape (rows,).
    """
    import pandas as pd  # noqa: PLC0415 - see Contender.load

    def keys(table: pd.DataFrame) -> pd.DataFrame:
        cells = {
            # the engines calculate in float32; no category is an empty text
            name: pd.to_numeric(table[name], errors="coerce").astype(np.float32)
            if name in schema.numbers
            else table[name].astype(object).where(table[name].notna(), "")
            for name in columns
            if name in table
        }
        made = pd.DataFrame(cells).reset_index(drop=True)
        if occurrence:
            made[0] = made.groupby(list(made), dropna=False).cumcount()
        return made

    left, right = keys(rows), keys(known)
    if list(left) != list(right) or not len(right):
        return np.full(len(rows), -1)
    on = list(left)
    # numbers are no names of columns, so they are in no feature's way
    right[1] = np.arange(len(right))
    found = left.merge(right.drop_duplicates(on), how="left", on=on)[1]
    return found.fillna(-1).to_numpy(int)


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


def conclude(
    champion: str,
    challenger: str,
    measures: Sequence[Measure],
    counts: Mapping[Source, int],
    settings: PromotionSettings,
) -> Challenge:
    """Say what the figures mean.

    Args:
        champion: Version number.
        challenger: Version number.
        measures: The figures; none if there were too few rows.
        counts: Number of rows of the table that both know, and of captured rows that can tell.
        settings: How many there must be.
    """
    found = tuple(measures)
    names = f"version {challenger}", f"version {champion}"
    if not found:
        reason = (
            f"{names[0]} cannot be compared with {names[1]}: they have {counts['table']} rows of"
            f" the table in common, and {counts['production']} captured rows with ground truth tell"
            f" of both; {settings.min_labelled} are needed of either"
        )
        return Challenge(
            champion, challenger, accepted=False, reason=reason, details="", measures=()
        )
    source = found[0].source
    where = "captured rows with ground truth" if source == "production" else "rows of the table"
    failed = [one for one in found if one.decides and one.verdict == "fail"]
    worse = "is worse than" if failed else "is not shown to be worse than"
    return Challenge(
        champion,
        challenger,
        accepted=not failed,
        reason=f"{names[0]} {worse} {names[1]} on {counts[source]} {where}",
        details="; ".join(describe(one) for one in (failed or found[:1])),
        measures=found,
    )


def describe(one: Measure) -> str:
    """Say in a few words how a figure changed."""
    if one.interval is None:
        return f"{one.name} is not known"
    low, high = one.interval
    return (
        f"{one.name} {one.champion:.3g} → {one.challenger:.3g}"
        f" ({one.difference:+.3f}, from {low:+.3f} to {high:+.3f}; margin {one.margin:.3g})"
    )
