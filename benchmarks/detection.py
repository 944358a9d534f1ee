"""Measures how often monitoring raises an alarm: without a shift, and with shifts of known size.

The windows come from a world whose truth is known: rows of the table are drawn with their
categories, their gaps and their class, and their numbers anew from the normal distribution of
their class. References are drawn from it like windows are, so a window is no copy of rows that the
reference holds. Answers come from a logistic regression behind the project's own preprocessing,
references from its out-of-fold predictions. Judged without Evidently, whose distances are the same.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from machine import describe, write
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from common import fitting, settings
from common.dataset import read_table
from common.monitoring import drift, review
from common.monitoring.checks import Check, verdict
from common.monitoring.window import Window

PACKAGES = ("numpy", "pandas", "scikit-learn", "scipy")
SIZES = (100, 300, 500, 1000)
# Windows without a shift of each size, and with each shift and size.
QUIET, SHIFTED = 200, 8
REFERENCES = 5
VERSION = "1"
OTHER = "a category that no row of the table has"

CONFIG = settings.load()
SCHEMA = CONFIG.dataset.schema
TABLE = read_table(CONFIG.dataset).rows
FEATURES = list(SCHEMA.features)
NUMBER, SECOND = SCHEMA.numbers[-1], SCHEMA.numbers[0]
CATEGORY = next(iter(SCHEMA.categories))
RAREST = str(TABLE[CATEGORY].value_counts().index[-1])
# The first becomes the second.
CONCEPT = SCHEMA.classes[1], SCHEMA.classes[0]

Rows = pd.DataFrame
Change = Callable[[Rows, np.random.Generator], Rows]


@dataclass(frozen=True)
class Shift:
    """A known change of a window.

    Attributes:
        kind: What changes.
        size: By how much, in words.
        found_by: Name and column of the check whose work it is to find it.
        features: Changes the rows before they are answered.
        labels: Changes the truth of answered rows.
    """

    kind: str
    size: str
    found_by: tuple[str, str | None]
    features: Change | None = None
    labels: Change | None = None


@dataclass(frozen=True)
class World:
    """One reference, and the model whose out-of-fold predictions it holds."""

    reference: Rows
    model: Any


def draw_rows(count: int, rng: np.random.Generator) -> Rows:
    """Draw rows with their truth; see the module."""
    rows = TABLE.sample(count, replace=True, random_state=rng).reset_index(drop=True)
    numbers = list(SCHEMA.numbers)
    for name, group in rows.groupby(SCHEMA.target):
        known = TABLE.loc[TABLE[SCHEMA.target] == name, numbers].dropna()
        drawn = rng.multivariate_normal(known.mean(), known.cov(), size=len(group))
        rows.loc[group.index, numbers] = np.where(group[numbers].isna(), np.nan, drawn)
    return rows


def make_world(rng: np.random.Generator) -> World:
    """Draw a training table, and fit a model to it."""
    rows = draw_rows(len(TABLE), rng)
    model = make_pipeline(fitting.build_transformers(SCHEMA), LogisticRegression(max_iter=1000))
    features, truth = fitting.frame(SCHEMA, rows), rows[SCHEMA.target]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    honest = cross_val_predict(model, features, truth, cv=folds, method="predict_proba")
    reference = answer(rows, honest, model.fit(features, truth).classes_)
    return World(reference, model)


def answer(rows: Rows, probabilities: np.ndarray, classes: np.ndarray) -> Rows:
    """Return rows with what a model says of them, as they are captured."""
    table = rows[FEATURES].assign(
        target=rows[SCHEMA.target],
        prediction=classes[probabilities.argmax(axis=1)],
        confidence=probabilities.max(axis=1),
    )
    for place, name in enumerate(classes):
        table[f"probability {name}"] = probabilities[:, place]
    return table


def make_window(world: World, count: int, shift: Shift | None, rng: np.random.Generator) -> Window:
    """Draw a window of answered and labelled rows."""
    rows = draw_rows(count, rng)
    if shift and shift.features:
        rows = shift.features(rows, rng).reset_index(drop=True)
    probabilities = world.model.predict_proba(fitting.frame(SCHEMA, rows))
    captured = answer(rows, probabilities, world.model.classes_)
    if shift and shift.labels:
        captured = shift.labels(captured, rng)
    end = pd.Timestamp.now(tz="UTC").floor("s")
    captured.insert(0, "id", [f"request-{row}" for row in range(count)])
    captured.insert(1, "time", pd.date_range(end=end, periods=count, freq="s")[::-1])
    captured.insert(2, "model_version", VERSION)
    return Window(captured, world.reference, SCHEMA, VERSION, CONFIG.monitoring)


def moved(deviations: float) -> Change:
    """Move a number, within its hard range."""

    def change(rows: Rows, _: np.random.Generator) -> Rows:
        shifted = rows[NUMBER] + deviations * TABLE[NUMBER].std()
        return rows.assign(**{NUMBER: within_range(shifted)})

    return change


def spread(factor: float) -> Change:
    """Spread a number around its mean, within its hard range."""

    def change(rows: Rows, _: np.random.Generator) -> Rows:
        middle = TABLE[NUMBER].mean()
        return rows.assign(**{NUMBER: within_range(middle + factor * (rows[NUMBER] - middle))})

    return change


def within_range(numbers: pd.Series) -> pd.Series:
    """Keep numbers of NUMBER where the schema takes them."""
    feature = SCHEMA.features[NUMBER]
    low, high = (feature.range if feature.kind == "number" else None) or (-np.inf, np.inf)
    return numbers.clip(low, high)


def more_often(points: float) -> Change:
    """Draw the rarest category more often, by so many points of share."""

    def change(rows: Rows, rng: np.random.Generator) -> Rows:
        is_rarest = rows[CATEGORY] == RAREST
        share = (TABLE[CATEGORY] == RAREST).mean()
        wanted = share + points
        weights = np.where(is_rarest, wanted / share, (1 - wanted) / (1 - share))
        return rows.sample(len(rows), replace=True, weights=weights, random_state=rng)

    return change


def gaps(share: float) -> Change:
    """Lose a number in so many rows."""

    def change(rows: Rows, rng: np.random.Generator) -> Rows:
        return rows.assign(**{NUMBER: rows[NUMBER].mask(rng.random(len(rows)) < share)})

    return change


def unseen(share: float) -> Change:
    """Give so many rows a category that is in no table."""

    def change(rows: Rows, rng: np.random.Generator) -> Rows:
        return rows.assign(**{CATEGORY: rows[CATEGORY].mask(rng.random(len(rows)) < share, OTHER)})

    return change


def apart(share: float) -> Change:
    """Shuffle a number among so many rows: each column by itself stays as it was."""

    def change(rows: Rows, rng: np.random.Generator) -> Rows:
        chosen = rng.choice(len(rows), round(share * len(rows)), replace=False)
        values = rows[SECOND].to_numpy(copy=True)
        values[chosen] = values[rng.permutation(chosen)]
        return rows.assign(**{SECOND: values})

    return change


def mislabelled(share: float) -> Change:
    """Give so many rows another label."""

    def change(rows: Rows, rng: np.random.Generator) -> Rows:
        return relabel(rows, rng.random(len(rows)) < share, rng)

    return change


def another_class(share: float) -> Change:
    """Let so many rows of one class belong to another class now."""

    def change(rows: Rows, rng: np.random.Generator) -> Rows:
        old, new = CONCEPT
        moving = (rows["target"] == old) & (rng.random(len(rows)) < share)
        return rows.assign(target=rows["target"].mask(moving, new))

    return change


def one_segment(share: float) -> Change:
    """Give so many rows of the rarest category another label."""

    def change(rows: Rows, rng: np.random.Generator) -> Rows:
        return relabel(rows, (rows[CATEGORY] == RAREST) & (rng.random(len(rows)) < share), rng)

    return change


def relabel(rows: Rows, chosen: pd.Series | np.ndarray, rng: np.random.Generator) -> Rows:
    """Give the chosen rows a label at random, but not the one they have."""
    classes = np.array(SCHEMA.classes, dtype=object)
    codes = rows["target"].map(SCHEMA.classes.index).to_numpy()
    others = (codes + rng.integers(1, len(classes), size=len(rows))) % len(classes)
    return rows.assign(target=rows["target"].mask(chosen, classes[others]))


SHIFTS = (
    *(
        Shift("number moved", f"{size} deviations", ("drift", NUMBER), features=moved(size))
        for size in (0.25, 0.5, 1.0, 2.0)
    ),
    *(
        Shift("number spread", f"{size} times", ("drift", NUMBER), features=spread(size))
        for size in (1.5, 2.0)
    ),
    *(
        Shift(
            "category more often", f"+ {size:.0%}", ("drift", CATEGORY), features=more_often(size)
        )
        for size in (0.1, 0.2, 0.4)
    ),
    *(
        Shift("values missing", f"+ {size:.0%}", ("missing", NUMBER), features=gaps(size))
        for size in (0.05, 0.1, 0.2)
    ),
    *(
        Shift("unseen category", f"{size:.0%}", ("unseen", CATEGORY), features=unseen(size))
        for size in (0.05, 0.1, 0.2)
    ),
    *(
        Shift(
            "columns come apart",
            f"{size:.0%} of rows",
            ("associations", None),
            features=apart(size),
        )
        for size in (0.5, 1.0)
    ),
    *(
        Shift("labels differ", f"{size:.0%}", ("accuracy", None), labels=mislabelled(size))
        for size in (0.05, 0.1, 0.2)
    ),
    *(
        Shift(
            "class becomes another",
            f"{size:.0%}",
            ("recall", CONCEPT[1]),
            labels=another_class(size),
        )
        for size in (0.25, 0.5, 1.0)
    ),
    *(
        Shift("labels differ in one segment", f"{size:.0%}", ("segments", CATEGORY), labels=one)
        for size, one in ((share, one_segment(share)) for share in (0.25, 0.5, 1.0))
    ),
)


def judge(window: Window) -> list[Check]:
    """Run every check on the comparison's own distances."""
    return review.run_checks(window, drift.compare(window), {})


def measure_quiet(worlds: list[World], count: int, windows: int) -> dict[str, Any]:
    """Return the share of windows without a shift that warn or fail, in all and by check."""
    overall: Counter[str] = Counter()
    by_check: dict[str, Counter[str]] = {}
    for seed in range(windows):
        found = judge(
            make_window(worlds[seed % len(worlds)], count, None, np.random.default_rng(seed))
        )
        overall[verdict(found)] += 1
        for name in {check.name for check in found}:
            verdicts = {check.verdict for check in found if check.name == name}
            by_check.setdefault(name, Counter()).update(verdicts & {"warn", "fail"})
    return {
        "windows": windows,
        "verdict": shares(overall, windows),
        "checks": {name: shares(counts, windows) for name, counts in by_check.items()},
    }


def shares(counts: Counter[str], windows: int) -> dict[str, float]:
    """Return the shares of `fail` and `warn`."""
    return {name: counts[name] / windows for name in ("fail", "warn")}


def measure_shift(worlds: list[World], count: int, shift: Shift, windows: int) -> dict[str, float]:
    """Return the share of windows with a shift that fail, and in which its own check does."""
    any_check = own_check = 0
    for seed in range(windows):
        rng = np.random.default_rng((1, seed))
        found = judge(make_window(worlds[seed % len(worlds)], count, shift, rng))
        fails = [check for check in found if check.verdict == "fail"]
        # as (name, column), and as (name, None) whichever its column
        failed = {(check.name, column) for check in fails for column in (check.column, None)}
        any_check += bool(fails)
        own_check += shift.found_by in failed
    return {"fail": any_check / windows, "own check": own_check / windows}


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet", type=int, default=QUIET, help="windows of a size without shift")
    parser.add_argument("--shifted", type=int, default=SHIFTED, help="windows of a size and shift")
    arguments = parser.parse_args()
    worlds = [make_world(np.random.default_rng((2, seed))) for seed in range(REFERENCES)]
    quiet = {size: measure_quiet(worlds, size, arguments.quiet) for size in SIZES}
    print_quiet(quiet)
    print()
    print_row("shift", "size", "its check", *(f"{size} rows" for size in SIZES))
    print_row("---", "---", "---", *["--:"] * len(SIZES))
    found = [measure_sizes(worlds, shift, arguments.shifted) for shift in SHIFTS]
    results = {
        "windows": {"without shift": arguments.quiet, "of a shift": arguments.shifted},
        "cpu_s": round(time.process_time()),
        "without shift": quiet,
        "with shift": found,
    }
    print(f"{results['cpu_s']} s of one core")
    write("detection", describe(PACKAGES) | results)


def measure_sizes(worlds: list[World], shift: Shift, windows: int) -> dict[str, Any]:
    """Measure one shift in windows of every size, and print the rates: of all checks, and its."""
    detected = {size: measure_shift(worlds, size, shift, windows) for size in SIZES}
    own_check = " ".join(filter(None, shift.found_by))
    cells = (f"{rates['fail']:.0%} ({rates['own check']:.0%})" for rates in detected.values())
    print_row(shift.kind, shift.size, own_check, *cells)
    return {"kind": shift.kind, "size": shift.size, "own check": own_check, "detected": detected}


def print_quiet(quiet: dict[int, dict[str, Any]]) -> None:
    """Print the false alarms as a Markdown table."""
    print_row("without a shift", *(f"{size} rows" for size in SIZES))
    print_row("---", *["--:"] * len(SIZES))
    for key in ("fail", "warn"):
        cells = (f"{quiet[size]['verdict'][key]:.1%}" for size in SIZES)
        print_row(f"verdict {key}", *cells)
    for name in quiet[SIZES[-1]]["checks"]:
        for key in ("fail", "warn"):
            rates = [quiet[size]["checks"].get(name, {}).get(key, 0) for size in SIZES]
            if any(rates):
                print_row(f"{name}: {key}", *(f"{rate:.1%}" for rate in rates))


def print_row(*cells: str) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
