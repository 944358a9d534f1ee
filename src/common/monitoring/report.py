"""The report: one page that opens with the verdict, then every check, then pictures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from common.intervals import wilson
from common.monitoring import history, pictures, quality, segments
from common.monitoring.estimation import LIMITS_OF_THE_METHOD
from common.monitoring.pictures import Reading
from common.monitoring.window import Window, count
from common.pages import render

if TYPE_CHECKING:
    from common.monitoring.review import Judgement

Check = Mapping[str, Any]

WORDS = {
    "pass": "Pass: nothing is out of the ordinary",
    "warn": "Warning: something deserves a look",
    "fail": "Fail: something has changed",
    "not enough data": "Not enough data to judge",
    "no data": "No data: nothing has been captured",
}
TITLES = {
    "data": "Data",
    "drift": "Drift",
    "quality": "Quality, by labels",
    "estimated": "Quality, without labels",
    "segments": "Segments",
}
ORDER = ("fail", "warn", "not enough data", "pass")
# More checks of a group that passed are folded.
SHOWN_CHECKS = 12
SHOWN_COLUMNS = 24
SHOWN_CLASSES = 15
SHOWN_SENTENCES = 3
SHOWN_SEGMENTS = 24
# Fewer rows of like confidence tell nothing of how often they are right.
MIN_BIN_ROWS = 10


def report_page(
    window: Window,
    verdict: str,
    checks: list[dict[str, Any]],
    others: "list[Judgement]",
    past: list[dict[str, Any]],
    run: str = "",
) -> str:
    """Return the report as a page that needs no script, no other file and no internet.

    Args:
        window: What was judged; its rows are only counted here.
        verdict: What came of it.
        checks: Each as a plain dictionary; see `checks.Check`.
        others: What came of the rows that other versions answered.
        past: Earlier runs, oldest first; see `history.past`.
        run: Name of this run.
    """
    labelled, classes = window.labelled, list(window.schema.classes)
    now = {
        "time": datetime.now(UTC).isoformat(),
        "version": window.version,
    }
    runs = [*past, now]
    matrix = quality.confusion(labelled, classes)
    return render(
        "report.html.j2",
        verdict=verdict,
        words=WORDS.get(verdict, verdict),
        version=window.version,
        run=run,
        time=read_time(now["time"]),
        window=describe_window(window),
        tally=tally(checks),
        troubles={name: sentences(checks, name) for name in ORDER[:-1]},
        groups=group_checks(checks),
        drift=drift_bars(checks),
        drift_lines=drift_lines(checks, runs),
        scores=score_rows(checks),
        recalls=recall_rows(checks, matrix, quality.confusion(window.reference, classes), classes),
        segments=segment_rows(window),
        score_lines=score_lines(checks, runs),
        estimated=LIMITS_OF_THE_METHOD if any(group(c) == "estimated" for c in checks) else "",
        confusion=show_confusion(matrix, classes),
        reliability=reliability(labelled, window.reference),
        others=[summarize(other) for other in others],
        runs=len(past),
        labelled=len(labelled),
        answered=len(window.own),
    )


def group(check: Check) -> str:
    """Return which of TITLES a check belongs to."""
    name = check["name"]
    if name.startswith("segment"):
        return "segments"
    if name.startswith(("expected", "estimated")):
        return "estimated"
    if name in ("drift", "associations"):
        return "drift"
    if name.startswith(("accuracy", "macro F1", "recall", "calibration")):
        return "quality"
    return "data"


def group_checks(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the checks by group, in each the worst first."""
    found = []
    for name, title in TITLES.items():
        members = [check for check in checks if group(check) == name]
        members.sort(key=lambda check: ORDER.index(check["verdict"]))
        if not members:
            continue
        passed = [check for check in members if check["verdict"] == "pass"]
        found.append(
            {
                "title": title,
                "tally": tally(members),
                "troubles": [written(c) for c in members if c["verdict"] != "pass"],
                "passed": [written(c) for c in passed],
                "folded": len(passed) > SHOWN_CHECKS,
            }
        )
    return found


def written(check: Check) -> dict[str, Any]:
    """Return a check with its figures as text."""
    return {**check, "figure": figure(check["figure"]), "limit": figure(check["limit"])}


def tally(checks: Iterable[Check]) -> list[tuple[str, str]]:
    """Return how many checks came to each verdict, in words: verdict and text."""
    found = [check["verdict"] for check in checks]
    words = {"pass": "passed", "warn": "warned", "fail": "failed", "not enough data": "not judged"}
    return [(v, f"{found.count(v)} {words[v]}") for v in ORDER if v in found]


def sentences(checks: Iterable[Check], verdict: str) -> list[str]:
    """Return what checks of this verdict say, each sentence once."""
    return list(dict.fromkeys(c["sentence"] for c in checks if c["verdict"] == verdict))


def figure(value: float | None) -> str:
    """Write a figure for people; nothing where there is none."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004 - four digits


def describe_window(window: Window) -> str:
    """Say how many rows were judged, when they came in, and how many have their truth."""
    rows = window.captured
    if rows.empty:
        return "no rows"
    oldest, newest = (f"{rows['time'].agg(end):%Y-%m-%d %H:%M}" for end in ("min", "max"))
    until = newest[11:] if oldest[:10] == newest[:10] else newest
    text = f"{count(len(rows), 'row')}, captured {oldest}"
    return f"{text} to {until} UTC, {len(window.labelled):,} labelled"


def drift_bars(checks: Sequence[Check]) -> dict[str, Any]:
    """Return each column's distance as a share of its limit, the furthest first."""
    known = [
        (check, check["figure"] / check["limit"])
        for check in drift_checks(checks)
        if check["limit"]
    ]
    known.sort(key=lambda one: one[1], reverse=True)
    longest = max([1.0, *(share for _, share in known)])
    bars = [
        {
            "name": check["column"] or check["name"],
            "verdict": check["verdict"],
            "width": round(100 * share / longest, 1),
            "text": f"{figure(check['figure'])}, limit {figure(check['limit'])}",
        }
        for check, share in known[:SHOWN_COLUMNS]
    ]
    left = len(known) - len(bars)
    return {"bars": bars, "limit": round(100 / longest, 1), "left": left}


def drift_checks(checks: Iterable[Check]) -> list[Check]:
    """Return the checks of drift that have a figure."""
    return [check for check in checks if group(check) == "drift" and is_known(check)]


def is_known(check: Check) -> bool:
    """Say whether a check has a figure that can be drawn."""
    return check["figure"] is not None and math.isfinite(check["figure"])


def drift_lines(checks: Sequence[Check], runs: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the distance of each column over time, those nearest to their limit first."""
    known = [
        (name, check)
        for name, check in history.named(checks)
        if group(check) == "drift" and is_known(check)
    ]
    known.sort(key=lambda one: one[1]["figure"] / (one[1]["limit"] or math.inf), reverse=True)
    return [line(name, check, runs, score=False) for name, check in known[:SHOWN_COLUMNS]]


def score_lines(checks: Sequence[Check], runs: Sequence[Check]) -> list[dict[str, Any]]:
    """Return every score of all rows over time."""
    return [
        line(name, check, runs, score=is_share(check))
        for name, check in history.named(checks)
        if group(check) in ("quality", "estimated") and not check["column"] and is_known(check)
    ]


def is_share(check: Check) -> bool:
    """Say whether a check's figure is a score: 1 at best."""
    return group(check) == "estimated" or check["name"] in ("accuracy", "macro F1", "recall")


def line(name: str, check: Check, runs: Sequence[Check], *, score: bool) -> dict[str, Any]:
    """Return a check's figure over time, with a title.

    Args:
        name: The check's among metrics; see `history.named`.
        check: What came of it now.
        runs: Earlier runs, and this one as the last.
        score: Whether 1 is best.
    """
    *past, now = runs
    readings = [
        Reading(
            read_time(run["time"]),
            run["version"],
            run["metrics"].get(name),
            interval(run["metrics"].get(f"{name}:low"), run["metrics"].get(f"{name}:high")),
        )
        for run in past
    ]
    readings.append(
        Reading(read_time(now["time"]), now["version"], check["figure"], check["interval"])
    )
    title = check["column"] or check["name"]
    picture = pictures.timeline(title, readings, check["limit"], score=score)
    return {"title": title, "verdict": check["verdict"], "picture": picture}


def interval(low: float | None, high: float | None) -> tuple[float, float] | None:
    """Return an interval where both ends are known."""
    return None if low is None or high is None else (low, high)


def read_time(text: str) -> str:
    """Write a time for people."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def score_rows(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """Return the scores of all rows, each with its interval on a scale from 0 to 1."""
    return [
        scale_row(check["name"], check["figure"], check["interval"], check)
        for check in checks
        if is_share(check) and not check["column"] and is_known(check)
    ]


def scale_row(
    name: str,
    share: float,
    interval: Sequence[float] | None,
    judged: Check,
    before: float | None = None,
    rows: str = "",
) -> dict[str, Any]:
    """Return where a share, its interval, its limit and training's share lie, in percent.

    Args:
        name: What it is the share of.
        share: From 0 to 1, as all of them.
        interval: Its ends.
        judged: Has `verdict` and `limit`.
        before: The reference's.
        rows: On how many rows it was measured, in words.
    """
    text = f"{share:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")
    told = [text, rows, "" if before is None else f"{before:.3f} in training"]
    return {
        "name": name,
        "verdict": judged["verdict"],
        "mark": percent(share),
        "interval": interval and [percent(end) for end in interval],
        "before": None if before is None else percent(before),
        "limit": None if judged["limit"] is None else percent(judged["limit"]),
        "text": ", ".join(filter(None, told)),
    }


def percent(share: float) -> float:
    """Return where a share lies on a scale from 0 to 1, in percent of its length."""
    return round(100 * min(max(float(share), 0.0), 1.0), 1)


def recall_rows(
    checks: Sequence[Check], matrix: np.ndarray, before: np.ndarray, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the recall of each class that was labelled, beside the reference's.

    Args:
        checks: Judge those with enough rows.
        matrix: Labelled rows by truth and prediction; see `quality.confusion`.
        before: The same of the reference.
        classes: Their names.
    """
    judged = {check["column"]: check for check in checks if check["name"] == "recall"}
    found = []
    for place, name in enumerate(classes):
        rows, right, known = (
            int(n) for n in (matrix[place].sum(), matrix[place, place], before[place].sum())
        )
        if rows:
            expected = before[place, place] / known if known else None
            check = judged.get(name, {"verdict": "not enough data", "limit": None})
            said = f"{right:,} of {count(rows, 'row')}"
            row = scale_row(name, right / rows, wilson(right, rows), check, expected, said)
            found.append(row)
    return found


def segment_rows(window: Window) -> list[dict[str, Any]]:
    """Return the accuracy of each segment, the worst first."""
    if len(window.labelled) < window.settings.min_labelled:
        return []
    found = segments.judge_segments(window)
    found.sort(key=lambda one: one["accuracy"] - one["limit"])
    return [
        scale_row(
            f"{one['feature']}: {segments.name_segment(one)}",
            one["accuracy"],
            one["interval"],
            {"verdict": "fail" if one["accuracy"] < one["limit"] else "pass", **one},
            one["reference accuracy"],
            count(one["rows"], "row"),
        )
        for one in found[:SHOWN_SEGMENTS]
    ]


def show_confusion(matrix: np.ndarray, classes: Sequence[str]) -> dict[str, Any] | None:
    """Return the confusion matrix, of the classes with most errors where they are many.

    Args:
        matrix: Labelled rows by truth and prediction; see `quality.confusion`.
        classes: Their names.
    """
    if not matrix.sum():
        return None
    names = [*classes, "no class of the model"]
    wrong = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix)
    shown = [place for place in range(len(names)) if place < len(classes) or matrix[place].any()]
    worst = sorted(shown, key=lambda place: -wrong[place])[:SHOWN_CLASSES]
    shown = [place for place in shown if place in worst]
    columns = [place for place in shown if place < len(classes)]
    rows = []
    for truth in shown:
        shares = np.round(100 * matrix[truth] / max(matrix[truth].sum(), 1)).astype(int).tolist()
        cells = [
            {"rows": f"{matrix[truth, place]:,}", "share": shares[place], "right": truth == place}
            for place in columns
        ]
        rows.append({"name": names[truth], "cells": cells})
    left = len(classes) - len(columns)
    return {"columns": [names[place] for place in columns], "rows": rows, "left": left}


def reliability(labelled: pd.DataFrame, reference: pd.DataFrame) -> dict[str, Any] | None:
    """Return how often answers were right by how sure they were, now and in training."""
    now, before = (bin_rows(rows) for rows in (labelled, reference))
    return pictures.reliability([("now", now), ("in training", before)]) if now else None


def bin_rows(rows: pd.DataFrame) -> list[pictures.Bin]:
    """Return how often answers were right, in bins of confidence with enough rows."""
    table = quality.reliability(rows)
    found = []
    for size, confidence, right in table[table["rows"] >= MIN_BIN_ROWS].itertuples(index=False):
        ends = wilson(round(right * size), int(size))
        found.append(pictures.Bin(float(confidence), float(right), ends, int(size)))
    return found


def summarize(other: "Judgement") -> dict[str, Any]:
    """Say what came of the rows that another version answered."""
    said = [s for name in ORDER[:-1] for s in sentences(other.checks, name)]
    more = len(said) - SHOWN_SENTENCES
    return {
        "version": other.version,
        "verdict": other.verdict,
        "rows": f"{other.rows:,}",
        "said": said[:SHOWN_SENTENCES] + ([f"And {more} more."] if more > 0 else []),
    }
