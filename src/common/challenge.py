"""Champion against challenger, on rows that neither was trained on.

Two sets of rows can tell. "table" is the out-of-fold predictions of both versions on the rows of
the table that both know. "production" is the newest captured rows with ground truth that the
champion was not trained on. Production decides once it has enough rows, for it is what is true
now; the table then only informs, except of the classes that hardly occur in production.

What decides is a paired bootstrap of the difference; see `common.bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from common.bootstrap import (
    LATENCY_ROWS,
    Measure,
    Rows,
    Source,
    judge_latency,
    measure,
    time_predictions,
)
from common.fitting import ORIGIN
from common.retraining import fitting_rows
from inference.errors import RookeryError
from inference.local import ARTIFACTS
from inference.predictor import Predictor
from inference.schema import Schema, to_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from common.settings import PromotionSettings
    from inference.backend import Backend, Release


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
        features = champion.reference[common_features(champion, challenger)]
        times = time_predictions(
            champion.predictor, challenger.predictor, features.head(LATENCY_ROWS)
        )
        measures.append(judge_latency(*times, settings))
    counts: dict[Source, int] = {"table": len(table), "production": len(production)}
    return conclude(champion.version, challenger.version, measures, counts, settings)


def all_classes(champion: Contender, challenger: Contender) -> tuple[str, ...]:
    """Return the classes that either knows."""
    return tuple(dict.fromkeys([*challenger.schema.classes, *champion.schema.classes]))


def common_features(champion: Contender, challenger: Contender) -> list[str]:
    """Return the features that both have, but for those that changed their kind."""
    ours, theirs = challenger.schema.features, champion.schema.features
    return [n for n in ours if n in theirs and ours[n].kind == theirs[n].kind]


def table_rows(champion: Contender, challenger: Contender) -> Rows:
    """Return the rows of the table that both know, matched by what they hold.

    The files that the two were trained on may differ; a row that occurs twice in both is two rows.
    Only the features that they have in common are matched.
    """
    classes = all_classes(champion, challenger)
    first, second = champion.table(), challenger.table()
    columns = [*common_features(champion, challenger), "target"]
    place = match_rows(second, first, columns, challenger.schema, occurrence=True)
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

    Rows that one of the two schemas does not allow are left out: that version would refuse them.

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
    tells = rows["target"].isin(schema.classes).to_numpy()
    for one in (champion, challenger):
        tells = tells & fitting_rows(one.schema, rows)
    return rows[tells].head(count)


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
