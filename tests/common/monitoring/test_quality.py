"""What labels say of the predictions, and how often they say it by chance."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score

from common.monitoring import quality

HOSTILE = ("it's", '<b>"x"</b>', "naïve 猫")


def find(found, name, column=None):
    return next(c for c in found if c.name == name and column in (None, c.column))


def failed(found):
    return {(check.name, check.column) for check in found if check.verdict == "fail"}


def spoil(rows, share, schema):
    """Give this share of rows another label than the one that was predicted."""
    other = dict(zip(schema.classes, np.roll(schema.classes, 1), strict=True))
    wrong = np.arange(len(rows)) < share * len(rows)
    return rows.assign(target=rows["prediction"].map(other).where(wrong, rows["prediction"]))


@pytest.fixture
def make_rows(schema):
    """Make answered rows of any classes: `make_rows(300, classes)` of which 4 in 5 are right."""

    def make(count, classes, seed=0, right=0.8):
        rng = np.random.default_rng(seed)
        truth = rng.integers(len(classes), size=count)
        wrong = (truth + rng.integers(1, len(classes), size=count)) % len(classes)
        confidence = np.clip(rng.normal(right, 0.1, count), 0.5, 1)
        predicted = np.where(rng.random(count) < confidence, truth, wrong)
        names = np.array(classes, dtype=object)
        rows = pd.DataFrame({name: [None] * count for name in schema.features})
        return rows.assign(
            time=pd.Timestamp.now(tz="UTC"),
            model_version="2",
            target=names[truth],
            prediction=names[predicted],
            confidence=confidence,
        )

    return make


@pytest.mark.parametrize(("wrong", "expected"), [(0, "pass"), (0.05, "pass"), (0.2, "fail")])
def test_scores(make_window, draw, schema, wrong, expected):
    found = quality.check_quality(make_window(spoil(draw(300), wrong, schema)))
    accuracy = find(found, "accuracy")
    assert (accuracy.verdict, accuracy.figure) == (expected, pytest.approx(1 - wrong))
    assert find(found, "macro F1").verdict == expected
    assert "0.985 in training (out of fold)" in accuracy.sentence


@pytest.mark.parametrize("rows", [50, 100, 500])
def test_chance_alone_lets_no_check_fail(make_window, draw, rows):
    for seed in range(10):
        assert failed(quality.check_quality(make_window(draw(rows, seed)))) == set()


@pytest.mark.integration
@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("rows", [50, 300])
def test_chance_alone_lets_no_check_of_a_middling_model_fail(
    make_window, make_rows, schema, classes, rows
):
    names = tuple(f"class {place}" for place in range(classes))
    several = schema.model_copy(update={"classes": names})
    reference = make_rows(300, names, seed=1000)
    alarms = [
        failed(
            quality.check_quality(
                make_window(make_rows(rows, names, seed), reference=reference, schema=several)
            )
        )
        for seed in range(20)
    ]
    assert alarms == [set()] * 20


@pytest.mark.parametrize("labelled", [0, 3, 49])
def test_few_labels(make_window, draw, labelled):
    rows = draw(300)
    rows.loc[labelled:, "target"] = None
    found = quality.check_quality(make_window(rows))
    assert [check.name for check in found] == ["accuracy", "macro F1", "calibration"]
    assert {check.verdict for check in found} == {"not enough data"}
    assert f"{labelled} labelled rows of version 2" in found[0].sentence


def test_one_class_only(make_window, draw, reference):
    rows = draw(300, table=reference[reference["target"] == "Gentoo"])
    rows.loc[0, "prediction"] = "Adelie"
    found = quality.check_quality(make_window(rows))
    assert failed(found) == set()
    assert "Over Gentoo only" in find(found, "macro F1").sentence
    absent = find(found, "recall", "Adelie")
    assert (absent.verdict, absent.figure) == ("not enough data", None)
    assert "'Adelie': 0 labelled rows, and 10 are needed" in absent.sentence


def test_labels_that_are_no_class_count_as_wrong(make_window, draw):
    found = quality.check_quality(make_window(draw(300).assign(target="Dodo")))
    assert find(found, "accuracy").figure == 0
    assert failed(found) == {("accuracy", None), ("calibration", None)}


def test_answers_of_other_versions_do_not_count(make_window, draw, schema):
    rows = spoil(draw(300), 0.5, schema)
    rows.loc[:149, "model_version"] = "1"
    accuracy = find(quality.check_quality(make_window(rows)), "accuracy")
    assert accuracy.figure == 1
    assert "150 labelled rows" in accuracy.sentence


def test_a_class_that_is_confused_is_named(make_window, draw):
    rows = draw(500)
    confused = (rows["target"] == "Chinstrap") & (np.arange(500) % 4 > 0)
    found = quality.check_quality(
        make_window(rows.assign(target=rows["target"].mask(confused, "Adelie")))
    )
    # most of what is called Chinstrap is Adelie: it is Adelie that is not recognised
    adelie = find(found, "recall", "Adelie")
    low, high = adelie.interval
    assert adelie.verdict == "fail"
    assert low < adelie.figure < high
    assert find(found, "recall", "Gentoo").verdict == "pass"


def test_a_class_that_training_did_not_have(make_window, draw, reference):
    table = reference[reference["target"] != "Gentoo"]
    check = find(quality.check_quality(make_window(draw(300), reference=table)), "recall", "Gentoo")
    assert (check.verdict, check.figure) == ("not enough data", None)
    assert "training had no rows of it" in check.sentence


def test_names_of_classes_may_hold_anything(make_window, make_rows, schema):
    several = schema.model_copy(update={"classes": HOSTILE})
    window = make_window(
        make_rows(300, HOSTILE), reference=make_rows(300, HOSTILE, 1), schema=several
    )
    found = quality.check_quality(window)
    assert [check.column for check in found if check.name == "recall"] == list(HOSTILE)
    assert failed(found) == set()


def test_scores_are_those_of_scikit_learn(make_rows):
    rows = make_rows(400, HOSTILE)
    rows.loc[:9, "target"] = "no class"
    counts = quality.confusion(rows, list(HOSTILE))
    truth, predicted = rows["target"], rows["prediction"]
    found = quality.scores(counts, [0, 2])
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    chosen = [HOSTILE[0], HOSTILE[2]]
    expected = f1_score(truth, predicted, labels=chosen, average="macro")
    assert found["macro F1"] == pytest.approx(expected)
    assert quality.scores(counts, []).keys() == {"accuracy"}


def test_intervals_hold_the_true_score():
    """In 200 windows from known shares; 95 % of them should, and 90 % surely do."""
    shares = np.array([[40, 2, 1, 0], [3, 20, 2, 0], [0, 1, 31, 0], [0, 0, 0, 0]]) / 100
    truth = quality.scores(shares, [0, 1, 2])
    drawn = np.random.default_rng(0).multinomial(120, shares.ravel(), size=200)
    held = dict.fromkeys(truth, 0)
    for counts in drawn.reshape(-1, 4, 4):
        for name, (low, high) in quality.score_intervals(counts, [0, 1, 2]).items():
            held[name] += low <= truth[name] <= high
    assert min(held.values()) >= 180
    assert max(held.values()) < 200


def test_predictions_that_are_all_right_leave_some_doubt():
    low, high = quality.score_intervals(np.diag([30, 30, 0]), [0, 1])["macro F1"]
    assert 0.9 < low < 0.99
    assert high == 1


def test_confidences_that_promise_too_much_fail(make_window, make_rows, schema):
    reference = make_rows(300, schema.classes, 1)
    rows = make_rows(300, schema.classes)
    fine = quality.check_calibration(make_window(rows, reference=reference))
    assert fine.verdict == "pass"
    boastful = rows.assign(confidence=0.99)
    check = quality.check_calibration(make_window(boastful, reference=reference))
    share = (rows["target"] == rows["prediction"]).mean()
    assert (check.verdict, check.figure) == ("fail", pytest.approx(0.99 - share))
    assert f"{share:.1%} of the predictions are right, at a mean confidence of 99.0%" in (
        check.sentence
    )


def test_a_model_that_always_promised_too_much_is_no_news(make_window, make_rows, schema):
    reference = make_rows(300, schema.classes, 1).assign(confidence=0.99)
    rows = make_rows(300, schema.classes).assign(confidence=0.99)
    assert quality.check_calibration(make_window(rows, reference=reference)).verdict == "pass"


def test_rows_without_confidence(make_window, draw):
    check = quality.check_calibration(make_window(draw(100).assign(confidence=np.nan)))
    assert (check.verdict, check.figure) == ("not enough data", None)


def test_reliability_by_hand():
    rows = pd.DataFrame(
        {
            "confidence": [0.5, 0.55, 1.0, 0.99, np.nan],
            "prediction": ["a", "b", "a", "a", "a"],
            "target": ["a", "a", "a", "b", "a"],
        }
    )
    table = quality.reliability(rows)
    assert table["rows"].tolist() == [2, 2]
    assert table["confidence"].tolist() == pytest.approx([0.525, 0.995])
    assert table["right"].tolist() == [0.5, 0.5]
    assert quality.calibration_error(table) == pytest.approx((0.025 + 0.495) / 2)


def test_chance_error_is_what_exact_confidences_give():
    """One window in a thousand passes it: none of 100 does, and half of it is passed at times."""
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(100):
        confidence = rng.uniform(0.3, 1, 200)
        right = rng.random(200) < confidence
        rows = pd.DataFrame({"confidence": confidence, "prediction": right, "target": True})
        table = quality.reliability(rows)
        errors.append(quality.calibration_error(table) / quality.chance_error(table))
    assert 0.5 < max(errors) <= 1
