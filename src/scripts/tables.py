"""Write the tables that show the system with other data than the penguins."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common import ROOT

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PARCELS = 50_000
MISSING = 0.05
# what makes the districts hard to tell apart: deviations of the figures, share of wrong towns
NOISE, STRAY = 1.0, 0.12
DISTRICTS = (
    *("Île-de-France", "Zürich (Altstadt)", "Köln / Bonn", "Łódź", "Århus", "São Paulo"),
    *("Reykjavík", "Ñuñoa", "Αθήνα", "Київ", "東京 港区", "O'Higgins & Söhne"),
)
STREETS = (
    "Große Straße",
    "rue de l'Église",
    "Calle Nuñez",
    "Plac Wolności",
    "桜通り",
    "High Street",
)
SERVICES = ("Standard", "Express, über Nacht", "Sperrgut (> 30 kg)", "Rücksendung")


def wine() -> "pd.DataFrame":
    """Three cultivars of wine by thirteen measures, 178 rows."""
    from sklearn.datasets import load_wine  # noqa: PLC0415 - 3 s

    return labelled(load_wine(as_frame=True), ["Barolo", "Grignolino", "Barbera"], "cultivar")


def breast_cancer() -> "pd.DataFrame":
    """Malignant and benign tumours by thirty measures of their cells' nuclei, 569 rows."""
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415 - 3 s

    return labelled(load_breast_cancer(as_frame=True), ["malignant", "benign"], "diagnosis")


def labelled(bunch: Any, names: list[str], target: str) -> "pd.DataFrame":  # noqa: ANN401 - scikit-learn has no static types
    """Return a table of scikit-learn's with the names of its classes."""
    return bunch.data.assign(**{target: [names[code] for code in bunch.target]})


def parcels(rows: int = PARCELS, seed: int = 1) -> "pd.DataFrame":
    """Made-up parcels for twelve districts: both kinds of columns, gaps, names of all sorts."""
    import numpy as np  # noqa: PLC0415 - as pandas
    import pandas as pd  # noqa: PLC0415 - 1 s

    rng = np.random.default_rng(seed)
    district = rng.choice(len(DISTRICTS), rows, p=weights(len(DISTRICTS)))

    def measure(low: float, spread: float) -> "np.ndarray":
        middle = rng.permutation(len(DISTRICTS))
        return low + spread * (middle[district] + rng.normal(0, NOISE, rows) + 6)

    def preferred(values: tuple[str, ...], share: float) -> "np.ndarray":
        own = rng.integers(len(values), size=len(DISTRICTS))[district]
        others = rng.integers(len(values), size=rows)
        return np.array(values, object)[np.where(rng.random(rows) < share, own, others)]

    towns = tuple(f"{street} {number}" for street in STREETS for number in range(1, 31))
    table = pd.DataFrame(
        {
            "Sendungs-Nr.": [f"RK{number:08d}" for number in range(rows)],
            "Gewicht (kg)": measure(0.5, 0.8).round(2),
            "Länge [cm]": measure(10, 4).round(1),
            "Entfernung, km": measure(20, 35).round(0),
            "Wert €": measure(5, 12).round(2),
            "Straße": preferred(towns, 1 - STRAY),
            "Service": preferred(SERVICES, 0.6),
            "数量": rng.integers(1, 10, rows).astype(float),
        }
    )
    for name in table.columns[1:]:
        table[name] = table[name].where(rng.random(rows) >= MISSING)
    return table.assign(Zustellbezirk=np.array(DISTRICTS, object)[district])


def weights(count: int) -> "np.ndarray":
    """Return shares that sum to 1, the first of them three times the last."""
    import numpy as np  # noqa: PLC0415 - as in parcels

    raised = np.linspace(3, 1, count)
    return raised / raised.sum()


TABLES: dict[str, Callable[[], "pd.DataFrame"]] = {
    "wine": wine,
    "breast_cancer": breast_cancer,
    "parcels": parcels,
}


def tables(
    folder: Annotated[Path, typer.Option(help="Where to write them.")] = ROOT / "data",
) -> None:
    """Write wine.csv, breast_cancer.csv and parcels.csv, for the config files of these names."""
    for name, make in TABLES.items():
        table = make()
        file = folder / f"{name}.csv"
        table.to_csv(file, index=False)
        print(f"{file}: {len(table)} rows, {table.shape[1]} columns")


if __name__ == "__main__":
    typer.run(tables)
