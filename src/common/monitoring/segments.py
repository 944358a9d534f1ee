"""Quality by category: whether a model that is good on the whole fails one kind of rows."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from common.intervals import least_share, wilson
from common.monitoring.checks import UNKNOWN, Check
from common.monitoring.window import PREDICTION, Window, count, show

# A smaller segment has an accuracy that tells nothing: one wrong answer is more than 5 points.
MIN_SEGMENT_ROWS = 20
# Chance makes any segment of a window fail in one of this many windows.
CHANCE = 1_000
# What all rows of the reference say of one segment weighs as much as so many rows of its own.
BORROWED_ROWS = 5


def check_segments(window: Window) -> list[Check]:
    """Check by categorical feature the accuracy of its worst segment; `column` names the feature.

    The worst is the one that lies furthest below its limit, or least above it. Where there are too
    few labelled rows in all, there is no check: those of quality say so.
    """
    if len(window.labelled) < window.settings.min_labelled:
        return []
    segments = judge_segments(window)
    found = []
    for feature in window.schema.categories:
        own = [one for one in segments if one["feature"] == feature]
        small = len(count_right(window.labelled, feature)) - len(own)
        if not own:
            sentence = f"{feature}: no category has {MIN_SEGMENT_ROWS} labelled rows to judge by."
            found.append(Check("segments", None, None, UNKNOWN, sentence, feature))
            continue
        worst = min(own, key=lambda one: one["accuracy"] - one["limit"])
        low, high = worst["interval"]
        before = worst["reference accuracy"]
        training = "unknown" if before is None else f"{before:.1%}"
        sentence = (
            f"{feature}: worst is {name_segment(worst)}, with an accuracy of"
            f" {worst['accuracy']:.1%} ({low:.1%} to {high:.1%}) on {count(worst['rows'], 'row')},"
            f" {training} in training; down to {worst['limit']:.1%} is normal."
            f" {count(len(own), 'segment')} judged"
            + (f", {count(small, 'smaller one')} left out." if small else ".")
        )
        failed = [one for one in own if one["accuracy"] < one["limit"]]
        if len(failed) > 1:
            sentence += f" Too low are {', '.join(map(name_segment, failed))}."
        found.append(
            Check(
                "segments",
                worst["accuracy"],
                worst["limit"],
                "fail" if failed else "pass",
                sentence,
                feature,
                worst["interval"],
            )
        )
    return found


def judge_segments(window: Window) -> list[dict[str, Any]]:
    """Return the table of segments, each with a `limit` of what is normal for its accuracy.

    Many segments are looked at, so each may fail by chance only in its part of one in CHANCE
    windows (Bonferroni's correction; for the worst segment, Holm's is the same). A segment that
    the reference hardly holds is expected to be like all of its rows.
    """
    features = list(window.schema.categories)
    found = tabulate(window.labelled, features, window.reference)
    reference = window.reference
    overall = float((reference[PREDICTION] == reference["target"]).mean())
    for one in found:
        rows_before, hits = one["reference rows"], one["reference right"]
        expected = (hits + BORROWED_ROWS * overall) / (rows_before + BORROWED_ROWS)
        chance = least_share(
            hits + BORROWED_ROWS * overall,
            rows_before + BORROWED_ROWS,
            one["rows"],
            1 / CHANCE / len(found),
        )
        one["limit"] = max(0.0, min(expected - window.settings.part_drop, chance))
    return found


def tabulate(
    rows: pd.DataFrame, features: Iterable[str], reference: pd.DataFrame | None = None
) -> list[dict[str, Any]]:
    """Return the accuracy of each segment of labelled rows; small segments are left out.

    Args:
        rows: With these features, `prediction` and `target`; rows without target do not count.
        features: Categorical ones.
        reference: Rows to compare with, of the same columns.

    Returns:
        One dictionary a segment: `feature`, `value` (None for a missing one), `rows`, `right`,
        `accuracy`, `interval` (95 %), and with a reference its `reference rows`, `reference right`
        and `reference accuracy` (None without rows). Features in order, large segments first.
    """
    found = []
    for feature in features:
        before = count_right(reference, feature) if reference is not None else {}
        for value, (total, right) in count_right(rows, feature).items():
            if total < MIN_SEGMENT_ROWS:
                continue
            one = {
                "feature": feature,
                "value": value,
                "rows": total,
                "right": right,
                "accuracy": right / total,
                "interval": wilson(right, total),
            }
            if reference is not None:
                earlier, hits = before.get(value, (0, 0))
                one["reference rows"], one["reference right"] = earlier, hits
                one["reference accuracy"] = hits / earlier if earlier else None
            found.append(one)
    return found


def count_right(rows: pd.DataFrame, feature: str) -> dict[str | None, tuple[int, int]]:
    """Return by value of a feature how many labelled rows there are, and how many are right."""
    # faster than groupby, where there are a million rows
    codes, values = pd.factorize(rows[feature], sort=False)
    known, right = rows["target"].notna(), rows["target"] == rows[PREDICTION]
    # a code of -1 is a missing value, and comes last
    total, hits = (
        np.bincount(codes % (len(values) + 1), weights, len(values) + 1)
        for weights in (known, right)
    )
    names = [*map(str, values), None]
    return {
        names[place]: (int(total[place]), int(hits[place]))
        for place in np.argsort(-total, kind="stable")
        if total[place]
    }


def name_segment(segment: dict[str, Any]) -> str:
    """Name a segment's value for people."""
    return "those without a value" if segment["value"] is None else show(segment["value"])
