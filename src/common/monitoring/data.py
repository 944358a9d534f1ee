"""Checks of captured data by itself: how much there is, and whether it is what the schema says."""

from common.monitoring.checks import UNKNOWN, VOLUME, Check
from common.monitoring.window import Window, count, show
from inference.errors import InvalidRecordsError
from inference.schema import to_records

# A share is too large if chance gives it in fewer than one of this many windows.
SHARE_CHANCE = 10_000
SHOWN_VALUES = 3


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
