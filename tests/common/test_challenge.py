"""Champion against challenger: which rows tell, what fails, and what a comparison cannot say."""

import json

import numpy as np
import pandas as pd
import pytest

from common import bootstrap, challenge
from common.bootstrap import Rows, judge, judge_latency
from common.challenge import Contender, compare, match_rows
from common.fitting import ORIGIN
from common.settings import PromotionSettings
from inference.backend import Captured
from inference.predictor import Predictor
from inference.schema import Schema, to_records

SETTINGS = PromotionSettings()
CLASSES = ("a", "b <i>", "ç 'c'")


@pytest.fixture(scope="module")
def predictors(make_model, tmp_path_factory):
    """Two graphs that favour different classes."""
    folder = tmp_path_factory.mktemp("graphs")
    return [Predictor.load(make_model(folder / str(n), favourite=n)) for n in (0, 1)]


@pytest.fixture
def contenders(predictors, reference):
    """Make champion 1 and challenger 2 with these references."""

    def make(first=reference, second=reference):
        return (
            Contender("1", predictors[0], first),
            Contender("2", predictors[1], second),
        )

    return make


@pytest.fixture
def capture(local, schema):
    """Store rows as if a version had answered them with certainty, and give them their truth."""

    def store(rows, version="1", name="request", *, right=True):
        told = []
        for truth in rows["target"]:
            place = schema.classes.index(truth)
            said = schema.classes[place if right else (place + 1) % 3]
            shares = {c: 0.98 if c == said else 0.01 for c in schema.classes}
            told.append({"prediction": said, "confidence": 0.98, "probabilities": shares})
        records = to_records(rows[list(schema.features)])
        local.save(Captured.from_answer(name, version, records, told))
        with local._store() as opened:
            opened.label_known(
                [(f"{name}-{row}", truth) for row, truth in enumerate(rows["target"])]
            )

    return store


def worse(reference, schema, name, count):
    """Let `count` rows of a class be taken for the next one."""
    made = reference.copy()
    place = schema.classes.index(name)
    other = f"probability {schema.classes[(place + 1) % 3]}"
    rows = made.index[(made["target"] == name) & (made["prediction"] == name)][:count]
    own = f"probability {name}"
    made.loc[rows, [own, other]] = made.loc[rows, [other, own]].to_numpy()
    return made


def fresh(reference, count=250, seed=3):
    """Rows of which no training knows the features."""
    rows = reference.sample(count, random_state=seed, replace=True).reset_index(drop=True)
    return rows.assign(body_mass_g=3000.0 + np.arange(count) / 7)


def simulated(count, seed, *, flipped=0.0, sharpness=1.0):
    """What two models of accuracy 0.94 say; the second loses a share of the rarest class."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, count, p=[0.44, 0.2, 0.36])
    common = rng.normal(size=(count, 3))

    def see():
        noise = (common + rng.normal(size=common.shape)) / np.sqrt(2)
        return 2.6 * (2.6 * np.eye(3)[truth] + noise)

    first, second = see(), sharpness * see()
    lost = np.flatnonzero((truth == 1) & (rng.random(count) < flipped))
    second[lost] = second[lost][:, [1, 0, 2]]
    first, second = (np.exp(z - z.max(1, keepdims=True)) for z in (first, second))
    return Rows(CLASSES, truth, *(e / e.sum(1, keepdims=True) for e in (first, second)))


def failed(rows):
    found = judge(rows, "table", SETTINGS, decides=True)
    return [one.name for one in found if one.verdict == "fail"]


@pytest.mark.integration
def test_given_equal_models_then_hardly_any_is_refused_and_a_worse_one_is():
    equals = sum(bool(failed(simulated(344, seed))) for seed in range(60))
    found = [failed(simulated(344, seed, flipped=0.2)) for seed in range(60)]

    assert equals <= 6
    assert sum(map(bool, found)) >= 45
    assert sum("recall b <i>" in names for names in found) >= 30
    # the class that lost nothing is hardly ever blamed
    assert sum("recall a" in names for names in found) <= 3


def test_given_the_same_answers_then_no_difference_is_found():
    rows = simulated(344, 0)
    same = Rows(CLASSES, rows.truth, rows.champion, rows.champion)

    found = judge(same, "table", SETTINGS, decides=True)

    assert [one.difference for one in found] == [0.0] * 5
    assert {one.interval for one in found} == {(0.0, 0.0)}


def test_given_answers_that_are_far_too_sure_then_log_loss_refuses_them_alone():
    rows = simulated(2000, 1)
    raised = rows.champion**4
    sure = Rows(CLASSES, rows.truth, rows.champion, raised / raised.sum(axis=1, keepdims=True))

    assert failed(sure) == ["log loss"]


def test_figures_are_those_of_scikit_learn():
    from sklearn import metrics  # noqa: PLC0415 - 3 s that only this test pays

    rows = simulated(344, 2)
    found = {one.name: one for one in judge(rows, "table", SETTINGS, decides=True)}

    said = rows.challenger.argmax(axis=1)
    assert found["macro F1"].challenger == pytest.approx(
        metrics.f1_score(rows.truth, said, average="macro")
    )
    recalls = metrics.recall_score(rows.truth, said, average=None)
    assert [found[f"recall {name}"].challenger for name in CLASSES] == pytest.approx(recalls)
    bounded = rows.champion.clip(bootstrap.SMALLEST_PROBABILITY, 1)
    right = bounded[np.arange(344), rows.truth]
    assert found["log loss"].champion == pytest.approx(-np.log(right).mean())


@pytest.mark.parametrize(
    ("difference", "interval", "larger_is_better", "verdict"),
    [
        (-0.03, (-0.05, -0.001), True, "fail"),
        (-0.03, (-0.05, 0.001), True, "pass"),  # perhaps chance
        (-0.019, (-0.03, -0.001), True, "pass"),  # worse, but not by more than the margin
        (0.03, (0.001, 0.05), True, "pass"),
        (0.03, (0.001, 0.05), False, "fail"),
        (0.03, (-0.001, 0.05), False, "pass"),
        (-0.03, (-0.05, -0.001), False, "pass"),
    ],
)
def test_difference_and_interval_decide(difference, interval, larger_is_better, verdict):
    found = bootstrap.judged(
        "x",
        (0.5, 0.5 + difference),
        interval,
        0.02,
        (9, "table"),
        larger_is_better=larger_is_better,
        decides=True,
    )
    assert found.verdict == verdict


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.3, "pass"), (2.0, "fail")])
def test_latency(factor, verdict):
    times = np.random.default_rng(0).gamma(9, 0.01, 500)
    assert judge_latency(times, factor * times[::-1], SETTINGS).verdict == verdict


def test_both_graphs_are_timed_on_rows_of_either_schema(predictors, reference):
    times = bootstrap.time_predictions(*predictors, reference.head(3))
    assert [len(one) for one in times] == [bootstrap.LATENCY_ROUNDS] * 2
    assert min(map(np.min, times)) > 0


def test_given_equal_references_in_another_order_then_every_row_is_compared_once(
    contenders, local, reference
):
    mixed = reference.sample(frac=1, random_state=5)

    found = compare(*contenders(second=mixed), local, SETTINGS)

    assert found.accepted
    by_name = {one.name: one for one in found.measures}
    assert by_name["macro F1"].rows == len(reference)
    assert by_name["macro F1"].difference == 0
    assert {one.source for one in found.measures} == {"table", "graphs"}


def test_given_files_that_differ_then_the_rows_of_both_are_compared(contenders, local, reference):
    changed = reference.iloc[40:].assign(flipper_length_mm=lambda t: t["flipper_length_mm"] + 0.25)
    other = pd.concat([reference.iloc[:200], changed.dropna()])

    found = compare(*contenders(second=other), local, SETTINGS)

    assert found.measures[0].rows == 200


def test_given_a_class_that_is_lost_then_the_challenger_is_refused(
    contenders, local, reference, schema
):
    name = schema.classes[1]

    found = compare(*contenders(second=worse(reference, schema, name, 14)), local, SETTINGS)

    assert not found.accepted
    assert f"version 2 is worse than version 1 on {len(reference)} rows of the table" in (
        found.sentence
    )
    assert f"recall {name} 0.985 → 0.779" in found.sentence
    assert found.figures[f"recall {name}, challenger"] == pytest.approx(0.779, abs=1e-3)
    # and the other way round it is better
    assert compare(*contenders(worse(reference, schema, name, 14)), local, SETTINGS).accepted


def test_rows_match_by_what_they_hold(schema):
    name, other = schema.numbers[0], next(iter(schema.categories))
    known = pd.DataFrame({name: [1.0, np.nan, 1.0, 2.0], other: ["x", None, "x", np.nan]})
    rows = pd.DataFrame({name: [1, 1, 1, np.nan, 2, 3], other: ["x", "x", "x", np.nan, "", "x"]})

    each = match_rows(rows, known, [name, other], schema, occurrence=True)
    first = match_rows(rows, known, [name, other], schema)

    assert each.tolist() == [0, 2, -1, 1, 3, -1]
    assert first.tolist() == [0, 0, 0, 1, 3, -1]
    assert match_rows(rows, known.iloc[:0], [name], schema).tolist() == [-1] * 6


def test_given_no_common_row_then_nothing_is_decided(contenders, local, reference):
    known = reference.dropna()
    other = known.assign(body_mass_g=known["body_mass_g"] + 0.5)

    found = compare(*contenders(known, other), local, SETTINGS)

    assert not found.accepted
    assert found.measures == ()
    assert "cannot be compared with version 1: they have 0 rows of the table" in found.sentence


def test_given_enough_labelled_production_then_it_decides(
    contenders, local, reference, capture, schema
):
    # the champion's own answers are wrong, and its out-of-fold predictions better
    capture(fresh(reference), right=False)
    lost = worse(reference, schema, schema.classes[1], 14)

    found = compare(*contenders(second=lost), local, SETTINGS)

    assert found.accepted
    assert "250 captured rows with ground truth" in found.sentence
    told = {(one.name, one.source): one for one in found.measures}
    assert told["macro F1", "production"].champion == 0
    assert told["macro F1", "production"].decides
    assert told["macro F1", "table"].verdict == "fail"
    assert not told["macro F1", "table"].decides


def test_given_too_little_production_then_the_table_decides(contenders, local, reference, capture):
    capture(fresh(reference, SETTINGS.min_labelled - 1), right=False)
    found = compare(*contenders(), local, SETTINGS)
    assert {one.source for one in found.measures} == {"table", "graphs"}


def test_given_a_class_that_hardly_occurs_in_production_then_the_table_judges_its_recall(
    contenders, local, reference, capture, schema
):
    rows = fresh(reference, 400)
    name = schema.classes[1]
    capture(rows[rows["target"] != name].reset_index(drop=True), right=False)

    found = compare(*contenders(second=worse(reference, schema, name, 20)), local, SETTINGS)

    assert not found.accepted
    deciding = {(one.name, one.source): one.verdict for one in found.measures if one.decides}
    assert deciding[f"recall {name}", "table"] == "fail"
    assert (f"recall {name}", "production") not in deciding
    assert deciding["macro F1", "production"] == "pass"
    assert ("macro F1", "table") not in deciding


def test_given_rows_that_the_champion_was_trained_on_then_they_tell_nothing(
    contenders, local, reference, capture
):
    rows = fresh(reference)
    capture(rows, right=False)
    ids = [f"request-{row}" for row in range(len(rows))]
    trained = reference.assign(**{ORIGIN: "table", "id": None})
    own = rows.assign(**{ORIGIN: "captured", "id": ids})

    first, second = contenders(first=pd.concat([trained, own], ignore_index=True))

    assert challenge.captured_rows(first, second, local, 500).empty
    assert len(challenge.captured_rows(second, second, local, 500)) == 250
    # nor do they count as rows of the table
    assert len(challenge.table_rows(first, first)) == len(reference)


def test_given_rows_that_the_challenger_was_trained_on_then_its_out_of_fold_answer_counts(
    contenders, local, reference, capture, schema
):
    rows = fresh(reference)
    capture(rows, right=False)
    ids = [f"request-{row}" for row in range(len(rows))]
    trained = reference.assign(**{ORIGIN: "table", "id": None})
    right = np.where(rows["target"].to_numpy()[:, None] == np.array(schema.classes), 0.9, 0.05)
    own = rows.assign(**{ORIGIN: "captured", "id": ids})
    own[[f"probability {name}" for name in schema.classes]] = right
    # found by their ids, for the features were changed
    own = own.assign(body_mass_g=4000.0)

    first, second = contenders(second=pd.concat([trained, own], ignore_index=True))
    found = challenge.production_rows(
        first, second, challenge.captured_rows(first, second, local, 500)
    )

    assert (found.challenger.argmax(axis=1) == found.truth).all()
    assert found.challenger.max(axis=1) == pytest.approx(np.full(250, 0.9))
    assert (found.champion.argmax(axis=1) != found.truth).all()


def test_given_rows_of_the_table_in_production_then_neither_is_judged_by_what_it_learnt(
    contenders, local, reference, capture, schema
):
    capture(reference.head(120).reset_index(drop=True), version="7")
    first, second = contenders()

    found = challenge.production_rows(
        first, second, challenge.captured_rows(first, second, local, 500)
    )

    names = [f"probability {name}" for name in schema.classes]
    newest_first = reference.head(120)[names].to_numpy()[::-1]
    assert found.champion == pytest.approx(newest_first)
    assert found.challenger == pytest.approx(newest_first)


def test_given_other_rows_then_the_graph_answers(contenders, local, reference, capture):
    rows = fresh(reference)
    capture(rows, version="7")
    first, second = contenders()
    captured = challenge.captured_rows(first, second, local, 500)

    found = challenge.production_rows(first, second, captured)

    records = to_records(captured[list(second.schema.features)])
    expected = second.predictor.predict([dict(one) for one in records])
    assert found.challenger[:, 0] == pytest.approx(
        [one["probabilities"][second.schema.classes[0]] for one in expected]
    )


def test_given_another_schema_then_common_features_and_all_classes_are_compared(
    contenders, local, reference, schema, make_model, tmp_path
):
    content = json.loads(schema.model_dump_json())
    content["features"]["new [x]"] = {"kind": "number", "range": [0, 1]}
    content["classes"] = [*schema.classes, "fourth <b>"]
    wider = Schema.model_validate(content)
    predictor = Predictor.load(make_model(tmp_path / "wider", schema=wider))
    theirs = reference.assign(**{"new [x]": 0.5, "probability fourth <b>": 0.0})
    champion, _ = contenders()

    found = compare(champion, Contender("2", predictor, theirs), local, SETTINGS)

    assert found.accepted
    assert found.measures[0].rows == len(reference)
    names = {one.name: one.verdict for one in found.measures}
    assert names["recall fourth <b>"] == "not enough data"


@pytest.mark.parametrize("late", [True, False], ids=["text to number", "number to text"])
def test_given_a_feature_that_changed_its_kind_then_rows_that_fit_both_are_compared(
    contenders, local, reference, capture, schema, make_model, tmp_path, late
):
    content = json.loads(schema.model_dump_json())
    content["features"]["island"] = {"kind": "number", "range": [0, 9]}
    numbered = Schema.model_validate(content)
    predictor = Predictor.load(make_model(tmp_path / "numbered", schema=numbered))
    theirs = reference.assign(island=np.arange(len(reference)) % 3.0)
    pair = [contenders()[0], Contender("2", predictor, theirs)]
    first, second = pair if late else pair[::-1]
    rows = fresh(reference)
    rows.loc[:209, "island"] = None
    capture(rows.iloc[:220].reset_index(drop=True), name="text")
    capture(rows.iloc[:220].assign(island=1.0).reset_index(drop=True), name="number")

    known = challenge.captured_rows(first, second, local, 500)
    found = compare(first, second, local, SETTINGS)

    assert set(known["id"]) == {f"text-{row}" for row in range(210)}
    assert {one.rows for one in found.measures if one.name == "log loss"} == {210, len(reference)}
    assert found.measures[-1].source == "graphs"


def test_given_rows_beyond_the_range_of_one_then_they_tell_nothing(
    contenders, local, reference, capture, schema, make_model, tmp_path
):
    content = json.loads(schema.model_dump_json())
    content["features"]["body_mass_g"]["range"] = [0, 3010]
    narrow = Schema.model_validate(content)
    predictor = Predictor.load(make_model(tmp_path / "narrow", schema=narrow))
    capture(fresh(reference))
    usual, narrowed = contenders()[0], Contender("2", predictor, reference)

    for first, second in ((usual, narrowed), (narrowed, usual)):
        known = challenge.captured_rows(first, second, local, 500)
        # there is one for each seventh of a gram
        assert len(known) == 71
        assert known["body_mass_g"].max() <= 3010


def test_given_a_release_without_reference_then_it_says_so(release):
    with pytest.raises(challenge.RookeryError, match=r"reference\.parquet: not readable"):
        Contender.load(release("1"))
