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
    """What is judged: captured rows beside the reference of the version that is deployed.

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
        features = self.schema.features
        table = self.captured.reindex(columns=list(dict.fromkeys([*self.captured, *features])))
        for name, feature in features.items():
            if feature.kind == "number":
                numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
                table[name] = numbers.where(np.isfinite(numbers))
            else:
                table[name] = table[name].astype(object).map(str, na_action="ignore")
        return table

    @cached_property
    def own(self) -> pd.DataFrame:
        """The rows that this version answered."""
        return self.rows[self.rows["model_version"] == self.version]

    @cached_property
    def labelled(self) -> pd.DataFrame:
        """The rows that this version answered and that have ground truth."""
        return self.own[self.own["target"].notna()]


def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, or a random sample of them where they are many; the same one each time."""
    return rows if len(rows) <= SAMPLED_ROWS else rows.sample(SAMPLED_ROWS, random_state=0)


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
