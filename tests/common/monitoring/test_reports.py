"""What the reports show, and what they say where Evidently cannot make one."""

import pytest

from common.monitoring import checks, drift, reports, review
from inference.schema import Schema

HOSTILE = "</script><script>alert(1)</script>"
EVIDENTLY = "window.drawDashboard"

pytestmark = pytest.mark.integration


def judge(window):
    """Build every report and run every check, as the flow does."""
    compared = drift.compare(window)
    drift_page, distances = reports.drift_report(window, compared)
    pages = {
        "data": reports.data_report(window),
        "drift": drift_page,
        "quality": reports.quality_report(window),
    }
    return pages, review.run_checks(window, compared, distances), distances


def test_evidently_computes_the_distances_that_the_limits_are_for(make_window, draw):
    window = make_window(draw(300, seed=3))
    compared = drift.compare(window)
    html, distances = reports.drift_report(window, compared)
    own = {one.column: one.distance for one in compared}
    assert list(own) == list(distances)
    assert distances == pytest.approx(own, abs=1e-9)
    assert "is not in this report" not in html


def test_rows_of_the_table(make_window, draw):
    pages, found, _ = judge(make_window(draw(300)))
    assert all(EVIDENTLY in page for page in pages.values())
    assert checks.verdict(found) == "pass"


def test_drift_is_detected_by_evidently_too(make_window, draw):
    rows = draw(300)
    window = make_window(rows.assign(body_mass_g=rows["body_mass_g"] + 1600))
    pages, found, distances = judge(window)
    assert pages["drift"].count('"Detected"') == 1
    assert "Dataset Drift is detected" in pages["drift"]
    assert distances["body_mass_g"] == pytest.approx(2, abs=0.1)
    assert [c.column for c in found if c.verdict == "fail"] == ["body_mass_g"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (0, "Nothing has been captured yet that version 2 answered"),
        (1, "it holds 1 value, and 100 are needed"),
        (50, "it holds 50 values, and 100 are needed"),
    ],
)
def test_too_few_rows(make_window, draw, rows, expected):
    pages, found, distances = judge(make_window(draw(rows)))
    assert expected in pages["drift"]
    assert EVIDENTLY not in pages["drift"]
    assert (EVIDENTLY in pages["data"]) == (rows > 0)
    assert distances == {}
    assert checks.verdict(found) in ("no data", "not enough data")


@pytest.mark.parametrize(
    ("change", "statement", "verdict"),
    [
        ({"sex": None}, "sex is not in this report: it holds no values.", "fail"),
        ({"body_mass_g": None}, "body_mass_g is not in this report: it holds no values.", "fail"),
        ({"body_mass_g": 4200.0}, "body_mass_g is not in this report: it is always 4200", "fail"),
        ({"island": "Atlantis"}, "island is not in this report: it is always &#x27;Atla", "fail"),
        ({"island": [f"island {n}" for n in range(300)]}, "", "fail"),
        ({"island": ["Atlantis", *["Biscoe"] * 150, *["Dream"] * 149]}, "Atlantis", "warn"),
        ({"body_mass_g": [3e38] * 2 + [4e3, 5e3] * 149}, "", "fail"),
    ],
)
def test_odd_columns(make_window, draw, change, statement, verdict):
    pages, found, _ = judge(make_window(draw(300).assign(**change)))
    assert statement in pages["drift"]
    assert EVIDENTLY in pages["drift"]
    assert EVIDENTLY in pages["data"]
    name = next(iter(change))
    assert verdict in {check.verdict for check in found if check.column == name}


def test_an_absent_column(make_window, draw):
    pages, found, _ = judge(make_window(draw(300).drop(columns="culmen_depth_mm")))
    assert "culmen_depth_mm is not in this report: it holds no values." in pages["drift"]
    assert "culmen_depth_mm holds no values." in pages["data"]
    assert checks.verdict(found) == "fail"


def relabel(rows, case):
    if case == "none":
        return rows.assign(target=None)
    if case == "three":
        return rows.assign(target=rows["target"].where(rows.index < 3, None))
    if case == "one class":
        return rows.assign(target="Gentoo", prediction="Gentoo")
    if case == "two classes":
        rows["prediction"] = ["Adelie", "Gentoo"] * (len(rows) // 2)
        return rows.assign(target=rows["prediction"])
    if case == "no class":
        return rows.assign(target=rows["target"].where(rows.index > 0, "<b>Dodo</b>"))
    return rows.assign(model_version="1")


@pytest.mark.parametrize(
    ("case", "statement"),
    [
        ("none", "None of the 300 rows that version 2 answered has a label"),
        ("three", "Only 3 labelled rows; 50 are needed."),
        ("one class", "In the labelled rows, neither labels nor predictions hold Adelie, Chin"),
        ("two classes", "neither labels nor predictions hold Chinstrap;"),
        ("no class", "&lt;b&gt;Dodo&lt;/b&gt;&#x27; is no class of the model"),
        (
            "another version",
            "Nothing has been captured yet that version 2 answered",
        ),
    ],
)
def test_labels_that_evidently_cannot_use(make_window, draw, case, statement):
    window = make_window(relabel(draw(300), case))
    html = reports.quality_report(window)
    assert statement in html
    assert EVIDENTLY not in html
    assert ("<td>Gentoo</td>" in html) == (case not in ("none", "another version"))


def test_a_class_that_is_only_predicted(make_window, draw):
    rows = draw(300)
    window = make_window(rows.assign(target=rows["target"].replace("Adelie", "Gentoo")))
    assert EVIDENTLY in reports.quality_report(window)


def test_values_of_requests_run_no_script(make_window, draw):
    rows = draw(300)
    rows.loc[:9, ["island", "prediction"]] = HOSTILE
    rows.loc[10:19, "target"] = HOSTILE
    pages, _, _ = judge(make_window(rows))
    assert [name for name, page in pages.items() if "<script>alert" in page] == []
    assert "alert(1)" in pages["data"]


def test_our_own_page_escapes_everything():
    html = reports.page(HOSTILE, [HOSTILE], [[HOSTILE], [HOSTILE]])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 5


@pytest.mark.parametrize("kept", [["body_mass_g"], ["sex"]])
def test_a_table_of_two_classes_and_one_kind_of_column(make_window, draw, schema, reference, kept):
    two = ("Adelie", "Gentoo")
    narrow = Schema(
        target="species", classes=two, features={name: schema.features[name] for name in kept}
    )
    table = reference[reference["target"].isin(two) & reference["prediction"].isin(two)]
    window = make_window(draw(200, table=table), reference=table, schema=narrow)
    pages, found, distances = judge(window)
    assert all(EVIDENTLY in page for page in pages.values())
    assert set(distances) == {*kept, "prediction"}
    assert checks.verdict(found) == "pass"


def test_many_rows_are_sampled(make_window, draw, reference):
    window = make_window(draw(12_000), reference=draw(11_000, seed=1, table=reference))
    pages, found, distances = judge(window)
    assert all(EVIDENTLY in page for page in pages.values())
    assert all("shows 10,000 of 12,000 rows, drawn at random" in page for page in pages.values())
    assert distances["sex"] == pytest.approx(0, abs=0.05)
    assert found[0].figure == 12_000
