"""Where the marks of a picture lie: from figures to coordinates, which the template draws.

One unit is about one pixel, so that text keeps its size on a telephone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 360, 160
SQUARE = 300
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 18, 22
TICKS = 4


@dataclass(frozen=True)
class Reading:
    """One figure at one time.

    Attributes:
        time: When, as people read it.
        version: Model version that it is about.
        figure: None where there was none.
        interval: Where it lies with 95 % confidence; None where that is not known.
    """

    time: str
    version: str
    figure: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence.

    Attributes:
        confidence: Its mean.
        right: Share of them that are right.
        interval: Where that share lies with 95 % confidence.
    """

    confidence: float
    right: float
    interval: tuple[float, float]
    rows: int


@dataclass(frozen=True)
class Scale:
    """From figures to coordinates: `low` lies at `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, figure: float) -> float:
        """Return the coordinate of a figure; what lies beyond the ends is drawn at the end."""
        share = (min(max(figure, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def timeline(
    name: str, readings: Sequence[Reading], limit: float | None, *, score: bool
) -> dict[str, Any]:
    """Lay out a figure over time, evenly spaced, the last of them being now.

    Args:
        name: What the figure is.
        readings: Oldest first.
        limit: Today's limit, drawn as a line.
        score: Whether the figure lies between 0 and 1, where the highest is best.
    """
    figures = [r.figure for r in readings if r.figure is not None]
    known = [*figures, *(end for r in readings for end in r.interval or ())]
    known += [] if limit is None else [limit]
    low, high = bounds(known, score=score)
    y = Scale(low, high, HEIGHT - BOTTOM, TOP)
    gap = (WIDTH - LEFT - RIGHT) / len(readings)
    places = [round(LEFT + gap * (place + 0.5), 1) for place in range(len(readings))]
    changes = [
        {"x": round(x - gap / 2, 1), "version": now.version}
        for x, now, before in zip(places[1:], readings[1:], readings, strict=False)
        if now.version != before.version
    ]
    marks = [
        {
            "x": x,
            "y": y(r.figure),
            "whisker": r.interval and [y(end) for end in r.interval],
            "tip": f"{r.time}, version {r.version}: {r.figure:.4g}",
            "now": r is readings[-1],
        }
        for x, r in zip(places, readings, strict=True)
        if r.figure is not None
    ]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "top": TOP,
        "ticks": [{"y": y(tick), "text": f"{tick:g}"} for tick in ticks(low, high)],
        "limit": None if limit is None else {"y": y(limit), "text": f"limit {limit:.3g}"},
        "line": path(
            (x, None if r.figure is None else y(r.figure))
            for x, r in zip(places, readings, strict=True)
        ),
        "marks": marks,
        "changes": changes,
        "first": readings[0].time,
        "description": describe(name, figures, limit),
    }


def reliability(series: Sequence[tuple[str, Sequence[Bin]]]) -> dict[str, Any]:
    """Lay out how often answers were right by how sure they were: a name and bins for each line."""
    bins = [one for _, line in series for one in line]
    known = [end for one in bins for end in (one.confidence, *one.interval)]
    low, high = bounds(known, score=True)
    x, y = Scale(low, high, LEFT, SQUARE - RIGHT), Scale(low, high, SQUARE - BOTTOM, TOP)
    lines = [
        {
            "line": path((x(one.confidence), y(one.right)) for one in line),
            "marks": [
                {
                    "x": x(one.confidence),
                    "y": y(one.right),
                    "whisker": [y(end) for end in one.interval],
                    "tip": f"{name}: {say_bin(one)}, {one.rows:,} rows",
                }
                for one in line
            ],
        }
        for name, line in series
    ]
    said = "; ".join(f"{name}: {', '.join(map(say_bin, line))}" for name, line in series)
    return {
        "size": SQUARE,
        "left": LEFT,
        "right": SQUARE - RIGHT,
        "bottom": SQUARE - BOTTOM,
        "top": TOP,
        "ticks": [{"x": x(t), "y": y(t), "text": f"{t:g}"} for t in ticks(low, high)],
        "lines": lines,
        "description": f"Share of right answers by confidence. {said}.",
    }


def say_bin(one: Bin) -> str:
    """Say in words what a bin shows."""
    return f"{one.right:.3f} right at confidence {one.confidence:.3f}"


def bounds(figures: Sequence[float], *, score: bool) -> tuple[float, float]:
    """Return the ends of an axis: scores end at 1, all others begin at 0."""
    if score:
        return min(math.floor(min(figures) * 10) / 10, 0.9), max(1.0, *figures)
    return min(0.0, *figures), max(*figures, 0.0) * 1.05 or 1.0


def ticks(low: float, high: float) -> list[float]:
    """Return round figures from low to high, at most TICKS + 1 of them."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{place * step:.6g}") for place in range(first, last + 1)]


def path(points: Iterable[tuple[float, float | None]]) -> str:
    """Return the path of an SVG line through points, broken where one is missing."""
    parts, command = [], "M"
    for x, y in points:
        if y is not None:
            parts.append(f"{command}{x} {y}")
        command = "M" if y is None else "L"
    return "".join(parts)


def describe(name: str, figures: Sequence[float], limit: float | None) -> str:
    """Say in words what a line shows."""
    text = (
        f"{name} over {len(figures)} runs: {figures[0]:.3g} at first, {figures[-1]:.3g} at last,"
        f" between {min(figures):.3g} and {max(figures):.3g}."
    )
    return text if limit is None else f"{text} The limit is {limit:.3g}."
