"""Folds, transformers and the Keras network: what cross-validation does to one fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from common.importance import Drops, permutation_drops
from common.progress import progress
from inference.engine import import_keras
from inference.errors import DatasetError
from inference.schema import Schema, to_records

if TYPE_CHECKING:
    import pandas as pd

    from common.settings import NetworkSettings


# What is known of a row beside its values, where captured rows were added to the table: where it
# comes from, and whether it is one of those that stand for production as it is now.
ORIGIN, CURRENT = "row_origin", "row_current"
# One row of so many tells when to stop.
STOPPING_PART = 10


@dataclass(frozen=True)
class FitSettings:
    """How to fit.

    Attributes:
        epochs: Passes over the training part, at most.
        batch_size: Rows a gradient step.
        seed: Makes folds, initial weights and batches reproducible.
        older_weight: What a row counts that is not current, where a current one counts 1.
        patience: Epochs without a lower loss after which a fit ends; None trains all epochs.
    """

    network: NetworkSettings
    epochs: int
    batch_size: int
    seed: int
    older_weight: float = 1.0
    patience: int | None = None


@dataclass(frozen=True)
class FoldResult:
    """What came of one fold.

    Attributes:
        fold: Number of the fold, from 0.
        rows: Positions of the fold's evaluation rows in the table.
        probabilities: Out-of-fold probabilities, shape (len(rows), classes).
        metrics: accuracy, loss, f1_macro, and recall_<class> for each class that occurs, on those
            of its rows that are current.
        history: Value per epoch, of loss and accuracy on the rows fitted and on those not fitted.
        drops: What shuffling each column costs on those of its rows that are current.
    """

    fold: int
    rows: np.ndarray
    probabilities: np.ndarray
    metrics: dict[str, float]
    history: dict[str, list[float]]
    drops: Drops | None = None


def frame(schema: Schema, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the features as the engines see them: float32, and "" for missing categories."""
    import pandas as pd  # noqa: PLC0415 - 1 s

    columns = schema.columns(to_records(rows[list(schema.features)]))
    return pd.DataFrame({name: column[:, 0] for name, column in columns.items()})


def codes(schema: Schema, target: pd.Series[str]) -> np.ndarray:
    """Return each row's class as its position in `schema.classes`."""
    return target.map({name: code for code, name in enumerate(schema.classes)}).to_numpy(int)


def split(
    schema: Schema, rows: pd.DataFrame, folds: int, seed: int
) -> list[tuple[np.ndarray, ...]]:
    """Return (training, evaluation) positions of stratified, shuffled folds.

    The table's rows fall into the same folds whether or not captured rows follow them, and so do
    all rows of the same values: a network that has seen one has seen them all. Where all features
    are categories, equal rows are different things, and fall where chance puts them.

    Raises:
        DatasetError: A fold would be scored on no row.
    """
    from sklearn.model_selection import StratifiedKFold  # noqa: PLC0415 - 3 s

    splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    captured, current = captured_rows(rows), current_rows(rows)
    own = np.flatnonzero(~captured)
    labels = codes(schema, rows[schema.target].iloc[own])
    evaluated = [own[part] for _, part in splitter.split(own, labels)]
    rng = np.random.default_rng(seed)
    # not stratified by class, of which any may hardly occur among them
    for group in (captured & current, captured & ~current):
        shuffled = rng.permutation(np.flatnonzero(group))
        added = np.array_split(shuffled, folds)
        evaluated = [np.concatenate(parts) for parts in zip(evaluated, added, strict=True)]
    fold = np.empty(len(rows), dtype=int)
    for number, part in enumerate(evaluated):
        fold[part] = number
    if schema.numbers:
        fold = fold[first_of_its_kind(schema, rows)]
    missing = np.setdiff1d(np.arange(folds), fold[current])
    if len(missing):
        raise DatasetError(
            f"{current.sum()} rows to score the model on fall into {folds - len(missing)} of"
            f" {folds} folds, for equal rows stay together; ask for fewer --folds, or for more"
            " --reference-rows"
        )
    return [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in range(folds)]


def first_of_its_kind(schema: Schema, rows: pd.DataFrame) -> np.ndarray:
    """Return for each row the position of the first one whose features are the same."""
    import pandas as pd  # noqa: PLC0415 - 1 s

    kinds = pd.util.hash_pandas_object(rows[list(schema.features)], index=False).to_numpy()
    return pd.Series(np.arange(len(rows))).groupby(kinds).transform("first").to_numpy()


def captured_rows(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows are not the table's, shape (rows,)."""
    return (rows[ORIGIN] == "captured").to_numpy() if ORIGIN in rows else np.zeros(len(rows), bool)


def current_rows(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows stand for production, shape (rows,): all, if none was captured."""
    return rows[CURRENT].to_numpy(bool) if CURRENT in rows else np.ones(len(rows), bool)


def build_transformers(schema: Schema) -> Any:  # noqa: ANN401 - scikit-learn has no static types
    """Return unfitted transformers: impute and scale numbers, impute and one-hot categories."""
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415 - 3 s
    from sklearn.impute import SimpleImputer  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: PLC0415

    parts = []
    if schema.numbers:
        numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
        parts.append(("numbers", numbers, list(schema.numbers)))
    if schema.categories:
        known = [list(values) for values in schema.categories.values()]
        categories = make_pipeline(
            # the converter to ONNX refuses a text imputer whose missing value is NaN
            SimpleImputer(missing_values="", strategy="most_frequent", keep_empty_features=True),
            OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False),
        )
        parts.append(("categories", categories, list(schema.categories)))
    return ColumnTransformer(parts)


def build_network(inputs: int, classes: int, settings: NetworkSettings) -> Any:  # noqa: ANN401 - Keras has no static types
    """Return a compiled Keras network, softmax over the classes."""
    keras = import_keras()
    network = keras.Sequential(
        [
            keras.Input((inputs,)),
            *(keras.layers.Dense(units, activation="relu") for units in settings.layers),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )
    network.compile(
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        loss="sparse_categorical_crossentropy",
        # TensorFlow traces a training step that creates variables twice: they are made here
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        # an epoch of a small table takes less time than coming back to Python for each batch
        steps_per_execution=16,
    )
    network.optimizer.build(network.trainable_variables)
    return network


def batches(arrays: tuple[np.ndarray, ...], size: int, seed: int | None) -> Any:  # noqa: ANN401 - TensorFlow has no static types
    """Return a tf.data pipeline over features, labels and, if any, weights of rows.

    They are shuffled anew each epoch where a seed is given.

    Keras builds a pipeline of its own from arrays, and TensorFlow optimizes and tunes it anew in
    every epoch. For tables that fit into memory this takes two thirds of the whole time of a fit.
    """
    import tensorflow as tf  # noqa: PLC0415 - 7 s

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.private_threadpool_size = 1
    rows = tf.data.Dataset.from_tensor_slices(arrays)
    if seed is not None:
        rows = rows.shuffle(len(arrays[0]), seed=seed)
    return rows.batch(size).with_options(options)


def fit(
    schema: Schema,
    rows: pd.DataFrame,
    settings: FitSettings,
    evaluation: pd.DataFrame | None = None,
    title: str = "final model",
) -> tuple[Any, Any, dict[str, list[float]]]:
    """Fit transformers and network on `rows` alone.

    Args:
        schema: Names features and classes.
        rows: The training part.
        settings: How to fit.
        evaluation: Rows on which loss and accuracy are computed after each epoch. Where `patience`
            is set, it is a part of `rows` that is kept aside instead, for evaluation must not
            decide when a fit ends.
        title: What is fitted, for those who wait.

    Returns:
        The fitted transformers, the fitted network, and the learning curves.
    """
    keras = import_keras()
    keras.utils.set_random_seed(settings.seed)
    callbacks = []
    if settings.patience is not None:
        rows, evaluation = keep_aside(rows, settings.seed)
        callbacks = [
            keras.callbacks.EarlyStopping(patience=settings.patience, restore_best_weights=True)
        ]
    transformers = build_transformers(schema)
    features = transformers.fit_transform(frame(schema, rows)).astype(np.float32)
    network = build_network(features.shape[1], len(schema.classes), settings.network)
    labels = codes(schema, rows[schema.target])
    validation = None
    if evaluation is not None:
        transformed = transformers.transform(frame(schema, evaluation)).astype(np.float32)
        truth = codes(schema, evaluation[schema.target])
        validation = batches(
            # what hardly counts in training must not decide when it ends
            (transformed, truth, weigh(evaluation, settings)),
            settings.batch_size,
            seed=None,
        )
    weights = weigh(rows, settings)
    with progress(title, settings.epochs, "epochs") as show:
        tell = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: show(epoch + 1))
        history = network.fit(
            # as they are on average, so that the step size means the same for any of them
            batches(
                (features, labels, weights / weights.mean()), settings.batch_size, settings.seed
            ),
            epochs=settings.epochs,
            validation_data=validation,
            callbacks=[*callbacks, tell],
            shuffle=False,  # the pipeline does
            verbose=0,
        )
    curves = {name: [float(v) for v in values] for name, values in history.history.items()}
    return transformers, network, curves


def weigh(rows: pd.DataFrame, settings: FitSettings) -> np.ndarray:
    """Return what each row counts, shape (rows,)."""
    return np.where(current_rows(rows), 1.0, settings.older_weight).astype(np.float32)


def keep_aside(rows: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows to fit on, and the tenth, one at least, that tells when to stop."""
    order = np.random.default_rng(seed).permutation(len(rows))
    count = max(1, len(rows) // STOPPING_PART)
    return rows.iloc[np.sort(order[count:])], rows.iloc[order[:count]]


def fit_fold(
    schema: Schema,
    rows: pd.DataFrame,
    fold: int,
    parts: tuple[np.ndarray, ...],
    settings: FitSettings,
) -> FoldResult:
    """Fit on the training part of a fold and evaluate on the rest of it."""
    training, evaluation = (rows.iloc[part] for part in parts)
    title = f"fold {fold + 1}"
    transformers, network, history = fit(schema, training, settings, evaluation, title)

    def predict(table: pd.DataFrame) -> np.ndarray:
        features = transformers.transform(table).astype(np.float32)
        return np.asarray(network(features, training=False))

    table, truth = frame(schema, evaluation), codes(schema, evaluation[schema.target])
    probabilities, current = predict(table), current_rows(evaluation)
    return FoldResult(
        fold,
        parts[1],
        probabilities,
        score(schema, truth[current], probabilities[current]),
        history,
        permutation_drops(predict, table[current], truth[current], settings.seed),
    )


def score(schema: Schema, truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return accuracy, log loss, macro F1 and the recall of each class that occurs.

    Nothing is known of a class without a row: it has no recall, and no part in macro F1.

    Args:
        schema: Names the classes.
        truth: Class positions, shape (rows,).
        probabilities: Shape (rows, classes).
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score  # noqa: PLC0415 - 3 s

    labels = list(range(len(schema.classes)))
    predicted = probabilities.argmax(axis=1)
    # float32 rows sum to 1 within 1e-7 only, and log_loss wants better
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=float)
    present = np.unique(truth)
    recalls = recall_score(truth, predicted, labels=present, average=None)
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "loss": float(log_loss(truth, exact, labels=labels)),
        "f1_macro": float(
            f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
        ),
        **{
            f"recall_{schema.classes[code]}": float(recall)
            for code, recall in zip(present, recalls, strict=True)
        },
    }


def summarize(results: list[FoldResult]) -> dict[str, float]:
    """Return mean and standard deviation of every metric over the folds that have it."""
    summary = {}
    for name in dict.fromkeys(name for result in results for name in result.metrics):
        values = [result.metrics[name] for result in results if name in result.metrics]
        summary[f"{name}_mean"] = float(np.mean(values))
        summary[f"{name}_std"] = float(np.std(values))
    return summary


def reference(schema: Schema, rows: pd.DataFrame, results: list[FoldResult]) -> pd.DataFrame:
    """Return the table with its out-of-fold predictions: what monitoring compares with.

    Each row was predicted by the one network that had not seen it, so that these figures are
    what can be expected of new rows.

    Returns:
        The features, `target`, `prediction`, `confidence`, and `probability <class>` a class. Where
        captured rows were added, also `id`, `time`, `row_origin` and `row_current`: monitoring
        compares with the current ones alone.
    """
    probabilities = np.zeros((len(rows), len(schema.classes)))
    for result in results:
        probabilities[result.rows] = result.probabilities
    known = [name for name in ("id", "time", ORIGIN, CURRENT) if name in rows]
    table = rows[[*schema.features, *known]].copy()
    table["target"] = rows[schema.target]
    table["prediction"] = [schema.classes[code] for code in probabilities.argmax(axis=1)]
    table["confidence"] = probabilities.max(axis=1)
    for position, name in enumerate(schema.classes):
        table[f"probability {name}"] = probabilities[:, position]
    return table
