"""The table that ships, and how it is made from the raw one."""

import csv
from collections import Counter

import pytest

from inference.errors import DatasetError
from scripts import penguins

RAW = {
    "Species": "Chinstrap penguin (Pygoscelis antarctica)",
    "Island": "Dream",
    "Culmen Length (mm)": "46.5",
    "Culmen Depth (mm)": "18.0",
    "Flipper Length (mm)": "192",
    "Body Mass (g)": "NA",
    "Sex": ".",
    "Comments": "not ours",
}


def test_tidy_keeps_our_columns_and_the_placeholder():
    assert list(penguins.tidy(RAW).values()) == ["Chinstrap", "Dream", "46.5", "18", "192", "", "."]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([RAW] * 343, "343 rows instead of 344"),
        ([{"Species": "Adelie Penguin"}] * 344, "no column 'Island'"),
    ],
)
def test_another_raw_table_is_refused(raw, reason):
    with pytest.raises(DatasetError, match=reason):
        penguins.make_table(raw)


def test_writing_replaces_the_file_and_leaves_no_part(tmp_path):
    path = tmp_path / "penguins.csv"
    path.write_text("old")
    penguins.write_table([penguins.tidy(RAW)], path)
    assert path.read_text().splitlines() == [
        "species,island,culmen_length_mm,culmen_depth_mm,flipper_length_mm,body_mass_g,sex",
        "Chinstrap,Dream,46.5,18,192,,.",
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_the_table_that_ships():
    with penguins.TARGET.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(penguins.COLUMNS)
    assert Counter(row["species"] for row in table) == {
        "Adelie": 152,
        "Chinstrap": 68,
        "Gentoo": 124,
    }
    assert Counter(row["sex"] for row in table) == {"MALE": 168, "FEMALE": 165, "": 11}
