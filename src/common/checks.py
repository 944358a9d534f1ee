"""The checks of monitoring: each a figure, its limit, a verdict, and a sentence for people."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from common.comparison import Comparison, Window, count, show
from inference.errors import InvalidRecordsError
from inference.schema import to_records

Verdict = Literal["pass", "warn", "fail", "not enough data"]
Overall = Literal["pass", "warn", "fail", "not enough data", "no data"]

UNKNOWN: Verdict = "not enough data"
VOLUME = "volume"
# A share is too large if chance gives it in fewer than one of this many windows.
SHARE_CHANCE = 10_000
# Deviations below the reference that chance gives a score in fewer than one of 1,000 windows.
SCORE_DEVIATIONS = 4.0
SCORE_DRAWS = 500
# A class with fewer labelled rows has an F1 that tells nothing.
MIN_CLASS_ROWS = 10
SHOWN_VALUES = 3


@dataclass(frozen=True)
class Check:
    """What was looked at, and what came of it.

    Attributes:
        figure: What was measured; None where it could not be.
        limit: What the figure may reach and still pass; None where there is no figure.
        column: The column it is about; None for checks of all rows.
    """

    name: str
    figure: float | None
    limit: float | None
    verdict: Verdict
    sentence: str
    column: str | None = None


def verdict(checks: Sequence[Check]) -> Overall:
    """Return one verdict for all checks: the worst, if there are enough rows to judge by."""
    found = {check.verdict for check in checks}
    rows = next(check for check in checks if check.name == VOLUME)
    if not rows.figure:
        return "no data"
    if "fail" in found:
        return "fail"
    if rows.verdict != "pass":
        return rows.verdict
    return "warn" if "warn" in found else "pass"


def run_checks(
    window: Window, compared: Iterable[Comparison], distances: Mapping[str, float]
) -> list[Check]:
    """Run every check; where nothing was captured, there is only one.

    Args:
        window: What is judged.
        compared: Its columns; see `comparison.compare`.
        distances: Evidently's distance of each column that it was asked about.
    """
    volume = check_volume(window)
    if window.captured.empty:
        return [volume]
    return [
        volume,
        check_schema(window),
        *check_missing(window),
        *check_unseen(window),
        *check_drift(compared, distances),
        *check_quality(window),
    ]


def check_volume(window: Window) -> Check:
    """Check that there are enough rows to judge anything by."""
    rows, least = window.captured, window.settings.min_rows
    enough = len(rows) >= least
    if rows.empty:
        sentence = "Nothing has been captured yet; send requests, or run `just traffic`."
    else:
        oldest, newest = (rows["time"].agg(f) for f in ("min", "max"))
        sentence = f"{count(len(rows), 'row')}, captured {oldest:%Y-%m-%d %H:%M} to "
        sentence += f"{newest:%Y-%m-%d %H:%M} UTC."
        if not enough:
            sentence += f" {least} are needed to judge."
    return Check(VOLUME, float(len(rows)), float(least), "pass" if enough else UNKNOWN, sentence)


def check_schema(window: Window) -> Check:
    """Check that the captured features are what the schema allows."""
    rows = window.captured
    present = [name for name in window.schema.features if name in rows.columns]
    try:
        window.schema.check(to_records(rows[present]))
    except InvalidRecordsError as error:
        first = error.problems[0]
        bad = len({problem["row"] for problem in error.problems})
        value = f", not {show(first['value'])}" if "value" in first else ""
        sentence = (
            f"{bad} of {count(len(rows), 'row')} do not fit the schema; the first because of"
            f" {first['column']}: {first['expected']}{value}."
        )
        return Check("schema", bad / len(rows), 0.0, "fail", sentence, first["column"])
    return Check("schema", 0.0, 0.0, "pass", "Every row fits the schema.")


def check_missing(window: Window) -> list[Check]:
    """Check by column that no more values are missing than in the reference."""
    rows, reference = window.rows, window.reference
    found = []
    for name in window.schema.features:
        now, before = int(rows[name].isna().sum()), int(reference[name].isna().sum())
        limit = share_limit(before, len(reference), now, len(rows), window.settings.missing)
        share = now / len(rows)
        sentence = (
            f"{name}: {share:.1%} of the values are missing, {before / len(reference):.1%} in"
            f" training; up to {limit:.1%} is normal."
        )
        found.append(
            Check("missing", share, limit, "pass" if share <= limit else "fail", sentence, name)
        )
    return found


def check_unseen(window: Window) -> list[Check]:
    """Check by column how many categories are ones that the model does not know."""
    rows, reference = window.rows, window.reference
    found = []
    for name, known in window.schema.categories.items():
        now, before = (table[name].dropna() for table in (rows, reference))
        unseen = now[~now.isin(known)]
        old = int((~before.isin(known)).sum())
        limit = share_limit(old, len(reference), len(unseen), len(rows), window.settings.unseen)
        share = len(unseen) / len(rows)
        if unseen.empty:
            sentence = f"{name}: every category is known."
            found.append(Check("unseen", share, limit, "pass", sentence, name))
            continue
        common = unseen.value_counts().index[:SHOWN_VALUES]
        sentence = (
            f"{name}: {count(len(unseen), 'row')} ({share:.1%}) with categories that training did"
            f" not know, such as {', '.join(map(show, common))}; up to {limit:.1%} is normal."
        )
        found.append(
            Check("unseen", share, limit, "warn" if share <= limit else "fail", sentence, name)
        )
    return found


def share_limit(before: int, rows_before: int, now: int, rows_now: int, growth: float) -> float:
    """Return the largest share that is normal: the reference's with its growth, or chance's.

    Chance's is that of a hypergeometric draw: were all these cases spread at random over both
    tables, the captured rows would hold more of them in fewer than one of SHARE_CHANCE windows.
    """
    from scipy.stats import hypergeom  # noqa: PLC0415 - one second

    chance = hypergeom.isf(1 / SHARE_CHANCE, rows_before + rows_now, before + now, rows_now)
    return min(1.0, max(before / rows_before + growth, float(chance) / rows_now))


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
        if name not in distances:
            sentence += f" Judged without Evidently, because {one.obstacle}."
        found.append(
            Check("drift", distance, one.limit, "fail" if drifted else "pass", sentence, name)
        )
    return found


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
