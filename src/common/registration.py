"""Logging a trained model to MLflow, and registering it."""

import importlib.metadata
import logging
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import inference
from common.model_card import Facts, model_card, model_card_page
from common.registry import CHALLENGER
from inference.predictor import ARTIFACT, Predictor
from inference.schema import Schema, to_records

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

    from common.packaging import ModelFiles

logger = logging.getLogger("rookery")

# What a served model imports: the graph's engine, the checks, and MLflow's own loader.
REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "orjson", "pandas", "pydantic")
EXAMPLE_ROWS = 3
# Name of the model card among the files of a version, as .md and .html.
CARD = "model_card"
SOURCE = Path(inference.__file__).parent
# What MLflow advises, and this project does on purpose otherwise.
HINT = "Add type hints to the `predict` method"


def requirements() -> list[str]:
    """Return the packages that serving needs, at the versions that are installed here."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS]


def signature(schema: Schema) -> "ModelSignature":
    """Return MLflow's description of what goes in and what comes out."""
    from mlflow.models import ModelSignature  # noqa: PLC0415 - 4 s
    from mlflow.types import ColSpec, DataType, TensorSpec  # noqa: PLC0415
    from mlflow.types import Schema as MlflowSchema  # noqa: PLC0415
    from mlflow.types.schema import Map  # noqa: PLC0415

    kinds = {"number": DataType.double, "category": DataType.string}
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(kinds[feature.kind], name, required=feature.required)
        for name, feature in schema.features.items()
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "prediction"),
        ColSpec(DataType.double, "confidence"),
        ColSpec(Map(DataType.double), "probabilities"),
    ]
    return ModelSignature(MlflowSchema(inputs), MlflowSchema(outputs))


def log(facts: Facts, files: "ModelFiles") -> str:
    """Log a model under its MLflow run, and return the id that MLflow gives it.

    Args:
        facts: What is known of the model, but for its version.
        files: The model.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    schema, reference = facts.schema, facts.reference
    example = reference[list(schema.features)].dropna().head(EXAMPLE_ROWS).reset_index(drop=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        mlflow.start_run(run_id=facts.run),
        warnings.catch_warnings(record=True) as told,
    ):
        folder = Path(scratch) / ARTIFACT
        files.write(folder, schema, reference)
        # what is registered must load and answer as what was tried
        predictor = Predictor.load(folder, engine="onnx")
        predictor.predict(predictor.check(to_records(example)))
        logged = mlflow.pyfunc.log_model(
            name=ARTIFACT,
            python_model=str(SOURCE / "model.py"),
            artifacts={ARTIFACT: str(folder)},
            code_paths=[str(SOURCE)],
            pip_requirements=requirements(),
            signature=signature(schema),
            input_example=example,
        )
    for warning in told:
        # MLflow would make a schema of the hints; ours is the config file's. It sets filters of its
        # own, before which none of ours would stand.
        if HINT not in str(warning.message):
            logger.warning("MLflow: %s", warning.message)
    return str(logged.model_id)


def register(facts: Facts, model: str, tags: dict[str, str]) -> str:
    """Register a logged model with its card, and make it the challenger.

    Args:
        facts: What is known of the model, but for its version.
        model: The id that MLflow has given it.
        tags: Tags of the version.

    Returns:
        The version's number.
    """
    import mlflow  # noqa: PLC0415 - 4 s

    version = str(mlflow.register_model(f"models:/{model}", facts.project).version)
    client = mlflow.MlflowClient()
    card = model_card(replace(facts, version=version))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / f"{CARD}.md").write_text(card, encoding="utf-8")
        page = model_card_page(card, f"{facts.project} {version}")
        (folder / f"{CARD}.html").write_text(page, encoding="utf-8")
        client.log_model_artifacts(model, scratch)
    for key, value in tags.items():
        client.set_model_version_tag(facts.project, version, key, value)
    client.set_registered_model_alias(facts.project, CHALLENGER, version)
    return version
