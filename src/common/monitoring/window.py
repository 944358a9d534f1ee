"""What is judged: captured rows beside the reference of the version that answered them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from common.settings import MonitoringSettings
from inference.schema import Schema

PREDICTION = "prediction"
# More rows change no verdict, and take time.
SAMPLED_ROWS = 10_000


@dataclass(frozen=True)
class Window:
    """What is judged: one version's captured rows beside its own reference.

    Attributes:
        captured: Rows as `Backend.load` returns them.
        reference: The training table with its out-of-fold predictions; see `fitting.reference`.
        schema: The one that is stored with the version.
        version: Number of the version; what others predicted tells nothing about it.
        settings: The limits.
    """

    captured: pd.DataFrame
    reference: pd.DataFrame
    schema: Schema
    version: str
    settings: MonitoringSettings

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The captured rows with every feature in its type; what does not fit is missing."""
        return typed(self.captured, self.schema)

    @cached_property
    def own(self) -> pd.DataFrame:
        """The rows that this version answered."""
        own = self.rows["model_version"] == self.version
        return self.rows if own.all() else self.rows[own]

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """The rows that this version answered and that have ground truth."""
        known = self.own["target"].notna()
        return self.own if known.all() else self.own[known]


def typed(table: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Return a table with every feature in its type; what does not fit is missing.

    Columns that are right already are not copied: there may be a million rows.
    """
    table = table.copy(deep=False)
    for name, feature in schema.features.items():
        column = table[name] if name in table else pd.Series(None, table.index, dtype=object)
        if feature.kind == "number":
            numbers = pd.to_numeric(column, errors="coerce").astype(float)
            table[name] = numbers.where(np.isfinite(numbers))
        else:
            table[name] = column.astype(object).map(str, na_action="ignore")
    return table


def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, or a sample of them where they are many; the same one each time.

    It is random within each prediction and label, and holds as many of each as is its share.
    """
    if len(rows) <= SAMPLED_ROWS:
        return rows
    order = np.random.default_rng(0).permutation(len(rows))
    for name in rows.columns.intersection([PREDICTION, "target"]):
        codes = pd.factorize(rows[name])[0]
        order = order[np.argsort(codes[order], kind="stable")]
    # every so many rows in the order of their predictions and labels
    places = (np.arange(SAMPLED_ROWS) + 0.5) * len(rows) / SAMPLED_ROWS
    return rows.iloc[np.sort(order[places.astype(int)])]


def judged_rows(window: Window) -> pd.DataFrame:
    """Return the rows to compare, without the predictions of other versions."""
    rows = sample(window.rows)
    own = rows["model_version"] == window.version
    return rows.assign(prediction=rows[PREDICTION].astype(object).where(own))


def show(value: object, length: int = 40) -> str:
    """Show a value that came with a request: short, and with control characters made visible."""
    text = f"{value:.6g}" if isinstance(value, float) else repr(str(value))
    return text if len(text) <= length else text[: length - 1] + "…"


def count(number: int, noun: str) -> str:
    """Say how many there are."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
