"""How close quality without labels comes to the truth, and what it cannot see."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier

from common.monitoring import estimation
from common.monitoring.quality import confusion, scores

REGIONS = 6
REFERENCE_ROWS = 300
WINDOW_ROWS = 1_000
NAMES = ("it's", '<b>"x"</b>', "naïve 猫")
MODELS = {
    "network": lambda: MLPClassifier((32, 16), learning_rate_init=0.01, tol=1e-3, random_state=0),
    "linear": lambda: LogisticRegression(max_iter=300),
    "boastful": GaussianNB,
}


class World:
    """A table whose truth is known: P(class | features) is the same in every region of it.

    Moving from region to region is a shift in the features alone.
    """

    def __init__(self, model, seed=0):
        rng = np.random.default_rng(seed)
        self.centres = rng.normal(size=(REGIONS, 4)) * 1.5
        directions = rng.normal(size=(len(NAMES), 4))
        self.directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        features, truth = self.draw(REFERENCE_ROWS, np.full(REGIONS, 1 / REGIONS), rng)
        honest = cross_val_predict(model, features, truth, cv=5, method="predict_proba")
        self.reference = self.answer(honest, truth)
        self.model = model.fit(features, truth)

    def draw(self, count, mix, rng):
        """Draw features, and the classes that belong to them."""
        region = rng.choice(REGIONS, count, p=mix)
        features = self.centres[region] + rng.normal(size=(count, 4))
        logits = 6 * features @ self.directions.T
        # Gumbel noise draws from the softmax
        return features, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)

    def answer(self, probabilities, truth):
        """Return rows as they are captured."""
        names = np.array(NAMES, dtype=object)
        rows = pd.DataFrame(probabilities, columns=estimation.columns(list(NAMES)))
        return rows.assign(
            prediction=names[probabilities.argmax(axis=1)],
            confidence=probabilities.max(axis=1),
            target=names[truth],
            model_version="2",
        )

    def shift(self, seed):
        """Draw a window from another mix of the regions."""
        rng = np.random.default_rng(seed)
        features, truth = self.draw(WINDOW_ROWS, rng.dirichlet(np.full(REGIONS, 0.5)), rng)
        return self.answer(self.model.predict_proba(features), truth)


@pytest.fixture(scope="module")
def worlds():
    """Make a world a model."""
    return {name: World(make()) for name, make in MODELS.items()}


@pytest.fixture
def make_answers(schema, make_window):
    """Make a window of a world's rows."""

    def make(rows, reference, **changes):
        several = schema.model_copy(update={"classes": NAMES})
        return make_window(rows, reference=reference, schema=several, **changes)

    return make


def compare(rows, reference):
    """Return estimates and truth, by name of the score."""
    found, chosen = estimation.estimate(rows, reference, list(NAMES))
    return found, scores(confusion(rows, list(NAMES)), chosen)


def test_thirty_shifts_of_the_features_alone(worlds):
    """The estimate is within 0.05 of the realised accuracy in each; most intervals hold it."""
    errors, held, moved = [], [], []
    for world in worlds.values():
        before = (world.reference["target"] == world.reference["prediction"]).mean()
        for seed in range(10):
            found, truth = compare(world.shift(seed), world.reference)
            errors.append({name: found[name].score - truth[name] for name in found})
            low, high = found["accuracy"].interval
            held.append(low <= truth["accuracy"] <= high)
            moved.append(abs(truth["accuracy"] - before))
    table = pd.DataFrame(errors).abs()
    assert len(table) == 30
    assert table["accuracy"].max() <= 0.05
    assert table["macro F1"].mean() <= 0.05
    assert np.mean(held) >= 0.8
    assert max(moved) > 0.05


def test_raw_confidences_would_be_off(worlds):
    """So calibrating them does something."""
    world = worlds["boastful"]
    raw, ours = [], []
    for seed in range(10):
        rows = world.shift(seed)
        found, truth = compare(rows, world.reference)
        raw.append(abs(rows["confidence"].mean() - truth["accuracy"]))
        ours.append(abs(found["accuracy"].score - truth["accuracy"]))
    assert np.mean(ours) < np.mean(raw) / 1.5


@pytest.mark.parametrize("name", MODELS)
def test_it_does_not_see_a_concept_shift(worlds, name):
    """Two classes swap: half of the answers are wrong, and the confidences know nothing of it."""
    world = worlds[name]
    rows = world.shift(0)
    swapped = rows.assign(target=rows["target"].replace({NAMES[0]: NAMES[1], NAMES[1]: NAMES[0]}))
    (before, truth), (after, fallen) = (compare(each, world.reference) for each in (rows, swapped))
    assert fallen["accuracy"] < truth["accuracy"] - 0.2
    assert after["accuracy"] == before["accuracy"]


def test_labels_of_the_window_are_not_used(worlds, make_answers):
    world = worlds["linear"]
    rows = world.shift(0)
    with_labels, without = (
        estimation.check_estimate(make_answers(each, world.reference))
        for each in (rows, rows.assign(target=None))
    )
    assert with_labels == without
    assert "without labels" in without[0].sentence


def test_rows_like_those_of_training_pass(worlds, make_answers):
    world = worlds["network"]
    rows = world.reference.sample(300, replace=True, random_state=0)
    accuracy, f1 = estimation.check_estimate(make_answers(rows, world.reference))
    assert (accuracy.name, f1.name) == ("expected accuracy", "expected macro F1")
    assert (accuracy.verdict, f1.verdict) == ("pass", "pass")
    low, high = accuracy.interval
    assert low < accuracy.figure < high


def test_rows_between_two_classes_warn_and_do_not_fail(worlds, make_answers):
    world = worlds["linear"]
    torn = world.reference.sample(300, replace=True, random_state=0)
    torn[estimation.columns(list(NAMES))] = [0.5, 0.45, 0.05]
    found = estimation.check_estimate(
        make_answers(torn.assign(prediction=NAMES[0]), world.reference)
    )
    assert [check.verdict for check in found] == ["warn", "warn"]
    assert found[0].figure == pytest.approx(0.5, abs=0.1)


def test_a_reference_without_mistakes_leaves_some_doubt(make_window, draw, reference):
    table = reference.assign(prediction=reference["target"])
    for name in table["target"].unique():
        table[f"probability {name}"] = (table["target"] == name).astype(float)
    accuracy, _ = estimation.check_estimate(make_window(draw(300, table=table), reference=table))
    low, high = accuracy.interval
    assert 0.95 < low < accuracy.figure < 1
    assert high == 1


def test_chance_alone_lets_nothing_warn(make_window, draw):
    for rows in (100, 500):
        for seed in range(5):
            found = estimation.check_estimate(make_window(draw(rows, seed)))
            assert {check.verdict for check in found} == {"pass"}


def test_few_rows(make_window, draw):
    found = estimation.check_estimate(make_window(draw(99)))
    assert {(check.verdict, check.figure) for check in found} == {("not enough data", None)}
    assert "99 rows of version 2, and 100 are needed" in found[0].sentence


def test_rows_and_references_without_probabilities(make_window, draw, reference, schema):
    names = estimation.columns(list(schema.classes))
    lacking = draw(300)
    lacking.loc[:250, names[0]] = None
    found = estimation.check_estimate(make_window(lacking))
    assert "49 rows of version 2" in found[0].sentence
    found = estimation.check_estimate(make_window(draw(300).drop(columns=names)))
    assert "0 rows of version 2" in found[0].sentence
    found = estimation.check_estimate(
        make_window(draw(300), reference=reference.drop(columns=names))
    )
    assert found[0].sentence == "The reference of version 2 holds no probabilities."


def test_answers_of_other_versions_do_not_count(make_window, draw):
    found = estimation.check_estimate(make_window(draw(300).assign(model_version="1")))
    assert {check.verdict for check in found} == {"not enough data"}


def test_one_class_only(make_window, draw, reference):
    rows = draw(300, table=reference[reference["target"] == "Gentoo"])
    accuracy, f1 = estimation.check_estimate(make_window(rows))
    assert (accuracy.verdict, f1.verdict) == ("pass", "pass")


def test_the_limits_of_the_method_are_said():
    assert "no labels were used" in estimation.LIMITS_OF_THE_METHOD
    assert "concept shift" in estimation.LIMITS_OF_THE_METHOD
