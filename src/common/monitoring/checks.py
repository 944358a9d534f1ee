"""What a check of monitoring says: a figure, its limit, a verdict, and a sentence for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warn", "fail", "not enough data"]
Overall = Literal["pass", "warn", "fail", "not enough data", "no data"]

UNKNOWN: Verdict = "not enough data"
VOLUME = "volume"


@dataclass(frozen=True)
class Check:
    """What was looked at, and what came of it.

    Attributes:
        figure: What was measured; None where it could not be.
        limit: What the figure may reach and still pass; None where there is no figure.
        column: The column it is about, or of `recall` the class; None for checks of all rows.
        interval: Where the figure lies with 95 % confidence; None where that is not known.
    """

    name: str
    figure: float | None
    limit: float | None
    verdict: Verdict
    sentence: str
    column: str | None = None
    interval: tuple[float, float] | None = None


def verdict(checks: Sequence[Check]) -> Overall:
    """Return one verdict for all checks: the worst, if there are enough rows to judge by."""
    found = {check.verdict for check in checks}
    rows = next((check for check in checks if check.name == VOLUME), None)
    if rows is None:
        return UNKNOWN
    if not rows.figure:
        return "no data"
    if "fail" in found:
        return "fail"
    if rows.verdict != "pass":
        return rows.verdict
    return "warn" if "warn" in found else "pass"
