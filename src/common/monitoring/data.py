"""Checks of captured data by itself: how much there is, and whether it is what the schema says."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa

from common import columns
from common.monitoring.checks import UNKNOWN, VOLUME, Check
from common.monitoring.window import Window, count, show, typed
from inference.errors import InvalidRecordsError
from inference.schema import MAX_NUMBER, to_records

# A share is too large if chance gives it in fewer than one of this many windows.
SHARE_CHANCE = 10_000
SHOWN_VALUES = 3
# Rows that are checked against the schema at once: what is said of bad ones takes memory.
PIECE_ROWS = 50_000
# The clocks of two machines may differ by this much.
CLOCK_MINUTES = 5


def check_volume(window: Window, others: Mapping[str, int]) -> Check:
    """Check that there are enough rows to judge anything by.

    Args:
        window: What is judged.
        others: Rows that other versions answered in the same time, by version.
    """
    rows, least = window.captured, window.settings.min_rows
    enough = len(rows) >= least
    elsewhere = ", ".join(f"version {show(name)} {found:,}" for name, found in others.items())
    if not rows.empty:
        oldest, newest = (rows["time"].agg(f) for f in ("min", "max"))
        sentence = f"{count(len(rows), 'row')}, captured {oldest:%Y-%m-%d %H:%M} to "
        sentence += f"{newest:%Y-%m-%d %H:%M} UTC."
        if not enough:
            sentence += f" {least} are needed to judge."
        if elsewhere:
            sentence += f" Other versions answered more, and are judged apart: {elsewhere}."
    elif others:
        sentence = (
            f"Version {window.version}, which is deployed, answered none of the"
            f" {count(sum(others.values()), 'newest row')}: {elsewhere}."
        )
    else:
        sentence = "Nothing has been captured yet; send requests, or run `just traffic`."
    return Check(VOLUME, float(len(rows)), float(least), "pass" if enough else UNKNOWN, sentence)


def check_freshness(window: Window, now: datetime | None = None) -> Check:
    """Check that the newest row is not old, and not of the future.

    Args:
        window: What is judged.
        now: The time to judge by; this machine's unless given.
    """
    newest, limit = window.captured["time"].max(), window.settings.max_age_hours
    age = (now or datetime.now(UTC)) - newest
    hours = age / timedelta(hours=1)
    if age < -timedelta(minutes=CLOCK_MINUTES):
        sentence = (
            f"The newest row is of {newest:%Y-%m-%d %H:%M} UTC, {-hours:,.1f} hours in the future:"
            " the clock here or the clock of the server is wrong, and so may be which rows count"
            " as the newest."
        )
        return Check("freshness", hours, limit, "warn", sentence)
    fresh = hours <= limit
    sentence = f"The newest row is {max(hours, 0):,.1f} hours old; up to {limit:,.4g} is fresh."
    if not fresh:
        sentence += " What is judged here says nothing about now."
    return Check("freshness", hours, limit, "pass" if fresh else "warn", sentence)


def check_schema(window: Window) -> Check:
    """Check that the captured features are what the schema allows."""
    rows, bad, first = window.captured, 0, None
    for start in range(0, len(rows), PIECE_ROWS):
        problems = find_problems(window, rows.iloc[start : start + PIECE_ROWS])
        bad += len({problem["row"] for problem in problems})
        first = first or next(iter(problems), None)
    if first is None:
        return Check("schema", 0.0, 0.0, "pass", "Every row fits the schema.")
    value = f", not {show(first['value'])}" if "value" in first else ""
    sentence = (
        f"{bad:,} of {count(len(rows), 'row')} do not fit the schema; the first because of"
        f" {first['column']}: {first['expected']}{value}."
    )
    return Check("schema", bad / len(rows), 0.0, "fail", sentence, first["column"])


def find_problems(window: Window, rows: pd.DataFrame) -> list[columns.Problem]:
    """Say what is wrong with rows, as the service would; quickly where nothing is."""
    schema = window.schema
    present = [name for name in schema.features if name in rows]
    if all(name in present or not one.required for name, one in schema.features.items()):
        # a column of several types makes no Arrow column
        with suppress(pa.ArrowException, OverflowError):
            arrays = [pa.array(rows[name], from_pandas=True) for name in present]
            table = pa.RecordBatch.from_arrays(arrays, names=present)
            return columns.check(schema, table, cells=False).problems
    try:
        schema.check(to_records(rows[present]))
    except InvalidRecordsError as error:
        return error.problems
    return []


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


def check_ranges(window: Window) -> list[Check]:
    """Check by column that the numbers lie within the schema's range and within training's.

    A number outside the schema's fails; too many that training had nothing like are a warning,
    for there the model guesses.
    """
    found = []
    for name, feature in window.schema.features.items():
        if feature.kind != "number":
            continue
        now, before = (table[name].dropna() for table in (window.rows, window.reference))
        if now.empty or before.empty:
            where = "the captured rows" if now.empty else "training"
            sentence = f"{name} cannot be judged: {where} had no values of it."
            found.append(Check("range", None, None, UNKNOWN, sentence, name))
            continue
        low, high = before.min(), before.max()
        beyond = now[(now < low) | (now > high)]
        share = len(beyond) / len(now)
        limit = beyond_limit(len(before), len(now), window.settings.beyond)
        sentence = (
            f"{name}: {share:.1%} of the values lie beyond {low:.6g} to {high:.6g}, all that"
            f" training had; up to {limit:.1%} is normal."
        )
        if not beyond.empty:
            sentence += f" They go from {now.min():.6g} to {now.max():.6g}."
        least, most = feature.range or (-MAX_NUMBER, MAX_NUMBER)
        outside = int(((now < least) | (now > most)).sum())
        if outside:
            sentence += (
                f" {outside:,} {'is' if outside == 1 else 'are'} outside the schema's range,"
                f" {least:g} to {most:g}."
            )
        verdict = "fail" if outside else "warn" if share > limit else "pass"
        found.append(Check("range", share, limit, verdict, sentence, name))
    return found


def check_constants(window: Window) -> list[Check]:
    """Check by column that one which varied in training is not stuck at one value.

    It passes where a column that is mostly one value in training holds nothing else by chance.
    """
    from scipy.stats import hypergeom  # noqa: PLC0415 - one second

    least, found = window.settings.min_rows, []
    # where there are enough rows, half of them may lack this value
    least = least if len(window.rows) < least else least // 2
    for name in window.schema.features:
        now, before = (table[name].dropna() for table in (window.rows, window.reference))
        if before.empty or len(now) < max(least, 1):
            sentence = f"{name} cannot be judged: " + (
                "training had no values of it."
                if before.empty
                else f"it holds {count(len(now), 'value')}, and {least} are needed."
            )
            found.append(Check("constant", None, None, UNKNOWN, sentence, name))
            continue
        often = now.value_counts()
        share, value = float(often.iloc[0] / len(now)), show(often.index[0])
        same = int((before == often.index[0]).sum())
        # were captured rows like those of training, would they all hold this value?
        chance = hypergeom.sf(len(now) - 1, len(before) + len(now), same + len(now), len(now))
        limit = 1.0 if chance * SHARE_CHANCE >= 1 else 1 - 1 / len(now)
        sentence = (
            f"{name} is {value} in {share:.1%} of the rows, {same / len(before):.1%} in training."
        )
        if share > limit:
            sentence = f"{name} is stuck: always {value}, {same / len(before):.1%} in training."
        verdict = "fail" if share > limit else "pass"
        found.append(Check("constant", share, limit, verdict, sentence, name))
    return found


def check_duplicates(window: Window) -> Check:
    """Check that few rows are copies of others, beyond what training has of them.

    Two rows are copies where every feature is equal. A row's copies count where training has it
    so seldom that chance gives as many in fewer than one of SHARE_CHANCE windows, see
    `share_limit`; and only those beyond training's share do.
    """
    from scipy.stats import hypergeom  # noqa: PLC0415 - one second

    names, limit = list(window.schema.features), window.settings.duplicates
    rows, least = len(window.rows), window.settings.min_rows
    if rows < least:
        sentence = f"Whether rows repeat cannot be judged: {least} rows are needed."
        return Check("duplicates", None, None, UNKNOWN, sentence)
    reference = typed(window.reference[names], window.schema)
    now, before = (
        pd.util.hash_pandas_object(table[names], index=False).value_counts()
        for table in (window.rows, reference)
    )
    counts = pd.DataFrame({"now": now, "before": before.reindex(now.index, fill_value=0)})
    # many rows have the same two counts
    pairs = counts[counts["now"] > 1].value_counts().reset_index(name="times")
    total = rows + len(reference)
    chance = hypergeom.sf(pairs["now"] - 1, total, pairs["now"] + pairs["before"], rows)
    expected = pairs["before"] / len(reference) * rows
    copies = (pairs["now"] - expected.clip(lower=1)) * pairs["times"]
    share = float(copies[chance * SHARE_CHANCE < 1].sum() / rows)
    sentence = (
        f"{share:.1%} of the rows are copies of others beyond what training has of them; up to"
        f" {limit:.1%} is normal. The commonest row occurs {count(int(now.iloc[0]), 'time')}, and"
        f" {count(len(now), 'row')} of {rows:,} differ."
    )
    return Check("duplicates", share, limit, "pass" if share <= limit else "fail", sentence)


def share_limit(before: int, rows_before: int, now: int, rows_now: int, growth: float) -> float:
    """Return the largest share that is normal: the reference's with its growth, or chance's.

    Chance's is that of a hypergeometric draw: were all these cases spread at random over both
    tables, the captured rows would hold more of them in fewer than one of SHARE_CHANCE windows.
    """
    from scipy.stats import hypergeom  # noqa: PLC0415 - one second

    chance = hypergeom.isf(1 / SHARE_CHANCE, rows_before + rows_now, before + now, rows_now)
    return min(1.0, max(before / rows_before + growth, float(chance) / rows_now))


def beyond_limit(rows_before: int, rows_now: int, least: float) -> float:
    """Return the largest normal share of numbers beyond the smallest and largest of training.

    Between these two lies a share of the population with the distribution Beta(n - 1, 2), whatever
    the column's own (Wilks 1941); of captured rows, chance puts more beyond them in fewer than one
    of SHARE_CHANCE windows.
    """
    from scipy.stats import betabinom  # noqa: PLC0415 - one second

    # the share no longer falls with more rows, but the calculation takes longer
    rows = min(rows_now, 10_000)
    chance = betabinom.isf(1 / SHARE_CHANCE, rows, 2, max(rows_before - 1, 1))
    return min(1.0, max(least, float(chance) / rows))
