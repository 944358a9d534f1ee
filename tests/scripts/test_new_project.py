"""What `just new-project` makes of a CSV file: the config file, and what it is unsure about."""

import csv
import random
import string

import pytest
import typer
import yaml
from typer.testing import CliRunner

from common import ROOT, settings
from common.dataset import read_table
from scripts import new_project
from scripts.tables import TABLES

ROWS = 60


@pytest.fixture
def make(tmp_path):
    """Run the command on columns, such as {"size": [1, 2]}, and return exit code and output."""
    app = typer.Typer()
    app.command()(new_project.new_project)

    def run(
        columns: dict[str, list],
        *words: str,
        name: str = "mine",
        target: str = "kind",
        file: str = "table.csv",
    ):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as written:
            csv.writer(written).writerows([columns, *zip(*columns.values(), strict=True)])
        given = [name, "--data", str(path), "--target", target, "--folder", str(tmp_path), *words]
        done = CliRunner().invoke(app, given)
        return done.exit_code, done.output

    return run


def table(**columns: list) -> dict[str, list]:
    """Sixty rows of two classes with a number, and the columns given."""
    chance = random.Random(1)  # noqa: S311 - nothing secret
    return {
        "kind": ["a", "b"] * (ROWS // 2),
        "size": [round(chance.uniform(1, 9), 2) for _ in range(ROWS)],
        **columns,
    }


def test_what_is_written_can_be_trained_on_and_the_next_command_is_said(make, tmp_path):
    code, said = make(table(where=["north", "south, or so"] * (ROWS // 2)))

    assert code == 0, said
    assert f"ROOKERY_CONFIG={tmp_path / 'mine.yml'} just train" in said
    loaded = settings.load(tmp_path / "mine.yml")
    schema = loaded.dataset.schema
    assert loaded.project == "mine"
    assert schema.classes == ("a", "b")
    assert list(schema.numbers) == ["size"]
    assert schema.categories["where"] == ("north", "south, or so")
    assert len(read_table(loaded.dataset).rows) == ROWS


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (list(range(100, 100 + ROWS)), "it counts the rows"),
        ([""] * ROWS, "it is empty"),
        (["always"] * ROWS, "it is always 'always'"),
        ([f"2026-01-{1 + row % 28:02}" for row in range(ROWS)], "it holds dates"),
        ([f"somebody {row}" for row in range(ROWS)], "60 different texts in 60 cells"),
    ],
)
def test_a_column_that_tells_nothing_is_left_out_with_the_reason(make, tmp_path, column, reason):
    code, said = make(table(odd=column))

    assert code == 0, said
    assert f"left out: odd, {reason}" in said
    text = (tmp_path / "mine.yml").read_text(encoding="utf-8")
    assert f"# left out: odd: {reason}" in text
    assert list(settings.load(tmp_path / "mine.yml").dataset.features) == ["size"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([row % 4 for row in range(ROWS)], "4 different whole numbers: a category, if they are"),
        (
            ["oops", *(row / 4 for row in range(1, ROWS))],
            "no number in 1 of 60 cells, such as 'oops'",
        ),
    ],
)
def test_what_it_was_unsure_about_is_a_comment(make, tmp_path, column, said):
    code, output = make(table(odd=column))

    assert code == 0, output
    text = (tmp_path / "mine.yml").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.strip().startswith("#") and said in line]


def test_numbers_with_leading_zeros_are_names(make, tmp_path):
    code, said = make(table(code=["007", "042", "099"] * (ROWS // 3)))

    assert code == 0, said
    found = settings.load(tmp_path / "mine.yml").dataset.schema.categories
    assert found == {"code": ("007", "042", "099")}


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("mass_kg", "kg"),
        ("length (mm)", "mm"),
        ("Länge [cm]", "cm"),
        ("way, km", "km"),
        ("x", None),
    ],
)
def test_a_unit_is_read_from_the_end_of_a_name(make, tmp_path, name, unit):
    code, said = make({"kind": ["a", "b"] * 30, name: [row / 7 for row in range(ROWS)]})

    assert code == 0, said
    assert settings.load(tmp_path / "mine.yml").dataset.schema.features[name].unit == unit


def test_odd_names_and_values_come_through_yaml(make, tmp_path):
    odd = "a: [b], {c} # \"d\" 'e' $HOME ${F} 東京"
    columns = {"klasse: #1": ["ja", "no"] * 30, odd: [f"{odd} {row % 3}" for row in range(ROWS)]}
    code, said = make(columns, target="klasse: #1")

    assert code == 0, said
    schema = settings.load(tmp_path / "mine.yml").dataset.schema
    assert schema.target == "klasse: #1"
    assert schema.classes == ("ja", "no")
    assert schema.categories[odd] == tuple(f"{odd} {row}" for row in range(3))


@pytest.mark.parametrize("name", ["a #1", "a: b", "$HOME", "'a' \"b\"", "{a", "- a", "東京"])
def test_odd_paths_come_through_yaml(make, tmp_path, monkeypatch, name):
    # one that stands in for the file while the command runs
    monkeypatch.setenv("DATASET", "none.csv")
    code, said = make(table(), file=f"{name}/{name}.csv")

    assert code == 0, said
    found = settings.load(tmp_path / "mine.yml").dataset
    assert found.path == str(tmp_path / name / f"{name}.csv")
    assert len(read_table(found).rows) == ROWS


def test_a_path_that_would_end_the_variable_is_refused(make, tmp_path):
    code, said = make(table(), file="a}b.csv")

    assert code == 1
    assert said.count("\n") == 1, said
    assert "a } ends a variable of the config file" in said
    assert [file.name for file in tmp_path.iterdir()] == ["a}b.csv"]


def test_rare_classes_are_left_out_and_their_rows_allowed_for(make, tmp_path):
    kinds = ["a", "b"] * 27 + ["c"] * 4 + ["d", "e"]
    code, said = make(table(kind=kinds))

    assert code == 0, said
    assert "left out: 4 rows of class 'c', too few" in said
    loaded = settings.load(tmp_path / "mine.yml").dataset
    assert loaded.classes == ("a", "b")
    assert len(read_table(loaded).rejected) == 6


@pytest.mark.parametrize(
    ("columns", "words", "reason"),
    [
        (table(), {"target": "species"}, "there is no column 'species'; it has kind, size"),
        (table(), {"target": "size"}, "'size' holds figures, such as"),
        (table(kind=["a"] * ROWS), {}, "'kind' has 1 values with at least 5 rows"),
        (table(kind=[f"k{row}" for row in range(ROWS)]), {}, "'kind' has 0 values"),
        ({"kind": ["a", "b"] * 30, "x": [""] * ROWS}, {}, "no column can be predicted from; x: it"),
        ({"kind;size": ["a;1", "b;2"] * 30}, {}, "';' separates them"),
        (table(), {"name": "../x"}, "'../x' is no name of a project"),
        (table(), {"name": "local"}, "local.yml comes with Rookery"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(make, tmp_path, columns, words, reason):
    code, said = make(columns, **words)

    assert code == 1
    assert said.count("\n") == 1, said
    assert reason in said
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_a_file_is_replaced_by_force_alone_and_keeps_its_port(make, tmp_path):
    assert make(table())[0] == 0
    first = (tmp_path / "mine.yml").read_text(encoding="utf-8")

    code, said = make(table(more=[row / 3 for row in range(ROWS)]))
    assert code == 1
    assert "--force replaces it" in said
    assert (tmp_path / "mine.yml").read_text(encoding="utf-8") == first

    assert make(table(more=[row / 3 for row in range(ROWS)]), "--force")[0] == 0
    second = yaml.safe_load((tmp_path / "mine.yml").read_text(encoding="utf-8"))
    assert second["backend"] == yaml.safe_load(first)["backend"]
    assert "more" in second["dataset"]["features"]


def test_each_project_has_a_port_of_its_own(make, tmp_path):
    ports = set()
    for name in string.ascii_lowercase[:3]:
        assert make(table(), name=name)[0] == 0
        ports.add(settings.load(tmp_path / f"{name}.yml").backend["target"])
    assert len(ports) == 3


@pytest.mark.integration
@pytest.mark.parametrize("name", TABLES)
def test_the_tables_that_ship_are_described_as_it_describes_them(name, tmp_path):
    file = tmp_path / f"{name}.csv"
    TABLES[name]().to_csv(file, index=False)
    target = settings.load(ROOT / f"config/{name}.yml").dataset.target
    text, _ = new_project.describe(name, file, target, 1)

    ours = yaml.safe_load((ROOT / f"config/{name}.yml").read_text(encoding="utf-8"))
    written = yaml.safe_load(text)
    for one in (ours, written):
        del one["dataset"]["path"], one["backend"]["target"]
    assert written == ours
