"""What the tests of monitoring share: a reference, and rows as a backend returns them."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from common import ROOT, settings
from common.dataset import read_table
from common.monitoring.window import Window
from common.settings import MonitoringSettings

VERSION = "2"


@pytest.fixture(scope="session")
def reference(schema) -> pd.DataFrame:
    """The penguins with predictions of which 5 are wrong, as `fitting.reference` returns them."""
    config = settings.load(ROOT / "config" / "local.yml").dataset
    rows = read_table(config).rows.rename(columns={schema.target: "target"})
    rows = rows.reset_index(drop=True)
    rng = np.random.default_rng(0)
    codes = rows["target"].map(schema.classes.index).to_numpy()
    wrong = rng.choice(len(rows), 5, replace=False)
    codes[wrong] = (codes[wrong] + 1) % len(schema.classes)
    probabilities = np.where(codes[:, None] == np.arange(len(schema.classes)), 0.98, 0.01)
    rows["prediction"] = [schema.classes[code] for code in codes]
    rows["confidence"] = probabilities.max(axis=1)
    for place, name in enumerate(schema.classes):
        rows[f"probability {name}"] = probabilities[:, place]
    return rows


@pytest.fixture(scope="session")
def draw(reference) -> Callable[..., pd.DataFrame]:
    """Draw labelled rows from the reference, as `Backend.load` returns captured ones."""
    drawn_from = reference

    def make(count: int, seed: int = 0, table=drawn_from, *, replace: bool = True):
        rows = table.sample(count, replace=replace, random_state=seed).reset_index(drop=True)
        rows.insert(0, "id", [f"request-{row}" for row in range(count)])
        now = pd.Timestamp.now(tz="UTC").floor("s")
        rows.insert(1, "time", pd.date_range(end=now, periods=count, freq="s")[::-1])
        rows.insert(2, "model_version", VERSION)
        return rows

    return make


@pytest.fixture(scope="session")
def make_window(schema, reference) -> Callable[..., Window]:
    """Make a window: captured rows beside a reference."""
    names = {"reference": reference, "schema": schema, "settings": MonitoringSettings()}

    def make(rows: pd.DataFrame, **changes: object) -> Window:
        return Window(captured=rows, version=VERSION, **{**names, **changes})

    return make
