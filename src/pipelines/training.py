"""Training: table, folds and final model, gate, registry."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
import os
import sys

from metaflow import FlowMutator, card, config_expr, current, resources, step  # type: ignore[attr-defined] - these are plug-ins
from metaflow.datastore.inputs import Inputs
from metaflow.user_decorators.mutable_flow import MutableFlow

from common import fitting, tracking
from common.dataset import require_rows_per_class
from common.importance import summarize
from common.interruption import finishing
from common.packaging import ModelFiles, package
from common.pipeline import Pipeline, backend, dataset, logger, parameter, require_at_least
from common.training_card import training_card
from inference.errors import ConfigurationError

FINAL = -1


class WaitsForMonitoring(FlowMutator):
    """Lets Argo Workflows train when monitoring has failed and published this event.

    Step Functions and Airflow know no events, and refuse a flow that waits for one.
    """

    def pre_mutate(self, mutable_flow: MutableFlow) -> None:
        """Add the trigger."""
        if "argo-workflows" in sys.argv:
            project = dict(mutable_flow.configs)["project"]
            event = {
                "name": f"{project['project']}-monitoring-failed",
                "parameters": {"captured": "captured", "reference-rows": "reference_rows"},
            }
            mutable_flow.add_decorator("trigger", deco_kwargs={"event": event})


@WaitsForMonitoring
class Training(Pipeline):
    """Cross-validate, fit a final model on all rows, and register it if it is good enough."""

    _keeps_mlflow_runs = True

    training_epochs: int = parameter(
        "training-epochs",
        default=config_expr("project.training.epochs"),
        type=int,
        help="Passes over the rows, at most.",
    )
    training_batch_size: int = parameter(
        "training-batch-size",
        default=config_expr("project.training.batch_size"),
        type=int,
        help="Rows a step.",
    )
    accuracy_threshold: float = parameter(
        "accuracy-threshold",
        default=config_expr("project.training.accuracy_threshold"),
        type=float,
        help="A model whose cross-validated accuracy is lower is not registered.",
    )
    folds: int = parameter("folds", default=5, help="Folds of the cross-validation.")
    parallel: int = parameter(
        "parallel",
        default=os.cpu_count() or 1,
        help="Tasks that share the folds and the final model; folds + 1 gives each its own.",
    )
    seed: int = parameter("seed", default=1, help="Of folds, initial weights and batches.")
    captured: bool = parameter(
        "captured",
        default=False,
        is_flag=True,
        help="Train on captured rows with ground truth too: `just retrain`.",
    )
    reference_rows: int = parameter(
        "reference-rows",
        default=500,
        help="With --captured: the newest of these rows stand for production. The model is scored"
        " on them, and monitoring compares with them.",
    )

    @dataset
    @backend
    @step
    def start(self) -> None:
        """Read the table, open the MLflow run, and share the work out."""
        require_at_least(2, folds=self.folds)
        require_at_least(
            1,
            training_epochs=self.training_epochs,
            training_batch_size=self.training_batch_size,
            parallel=self.parallel,
            reference_rows=self.reference_rows,
        )
        if not 0 <= self.accuracy_threshold <= 1:
            raise ConfigurationError(
                f"--accuracy-threshold: expected 0 to 1, not {self.accuracy_threshold}"
            )
        require_rows_per_class(self.settings.dataset, self.data.rows, self.folds)
        self.older_weight = 1.0
        if self.captured:
            from common.retraining import add_captured_rows  # noqa: PLC0415 - rarely needed

            self.data, self.older_weight = add_captured_rows(
                self.data,
                self.backend_impl,
                self.settings.dataset.schema,
                self.reference_rows,
                self.seed,
            )
        run = tracking.start_run(self.settings.project, str(current.run_id), str(current.flow_name))
        self.mlflow_run_id = run.info.run_id
        self.config_file = os.environ.get("ROOKERY_CONFIG", "")
        # as the command line names them
        self.options = {
            "training-epochs": self.training_epochs,
            "training-batch-size": self.training_batch_size,
            "accuracy-threshold": self.accuracy_threshold,
            "folds": self.folds,
            "seed": self.seed,
            "captured": self.captured,
        }
        if self.captured:
            self.options["reference-rows"] = self.reference_rows
        if self.dataset:
            self.options["dataset"] = self.dataset
        params = {
            **{name.replace("-", "_"): value for name, value in self.options.items()},
            "shuffle_seed": self.shuffle_seed,
            "older_weight": self.older_weight,
            **self.settings.network.model_dump(),
            "patience": self.settings.training.patience,
        }
        tracking.describe_run(self.mlflow_run_id, params, self.data)
        # the final model takes longest, so it comes first
        jobs = [FINAL, *range(self.folds)]
        tasks = min(self.parallel, len(jobs))
        self.batches = [jobs[task::tasks] for task in range(tasks)]
        self.next(self.fit, foreach="batches")

    # TensorFlow takes 1 GB
    @resources(cpu=2, memory=4096)
    @step
    def fit(self) -> None:
        """Fit the folds of this batch, and the final model where it is among them."""
        schema = self.settings.dataset.schema
        settings = fitting.FitSettings(
            self.settings.network,
            self.training_epochs,
            self.training_batch_size,
            self.seed,
            self.older_weight,
            self.settings.training.patience,
        )
        rows = self.data.rows
        parts = fitting.split(schema, rows, self.folds, self.seed)
        self.results = []
        self.model_files: list[ModelFiles] = []
        for job in self.input or []:
            if job == FINAL:
                transformers, network, _ = fitting.fit(schema, rows, settings)
                self.model_files.append(package(schema, transformers, network, rows))
            else:
                with tracking.fold_run(self.mlflow_run_id, job) as log:
                    result = fitting.fit_fold(schema, rows, job, parts[job], settings)
                    log(result.metrics)
                self.results.append(result)
        self.next(self.evaluate)

    @card
    @step
    def evaluate(self, inputs: Inputs) -> None:
        """Bring the folds together: scores, out-of-fold predictions, verdict of the gate."""
        self.results = sorted((r for i in inputs for r in i.results), key=lambda r: r.fold)
        self.files = next(files for i in inputs for files in i.model_files)
        self.merge_artifacts(inputs, exclude=["model_files"])
        schema = self.settings.dataset.schema
        self.metrics = fitting.summarize(self.results)
        self.reference = fitting.reference(schema, self.data.rows, self.results)
        current_rows = self.reference[fitting.current_rows(self.reference)]
        baseline = float(current_rows["target"].value_counts(normalize=True).max())
        # of all rows, not of the folds, which differ in size where many rows are alike
        self.accuracy = float((current_rows["prediction"] == current_rows["target"]).mean())
        self.refusal = refusal(self.accuracy, self.accuracy_threshold, baseline)
        self.importance = summarize([r.drops for r in self.results if r.drops])
        training_card(schema, self.results, self.metrics, self.reference, self.importance)
        self.next(self.register)

    @step
    def register(self) -> None:
        """Log the scores, and register the model if the gate lets it through."""
        from common import registration  # noqa: PLC0415 - imports MLflow, 4 s
        from common.model_card import Facts  # noqa: PLC0415 - only this step writes one

        figures = {"engine_disagreement": self.files.disagreement} | tracking.by_metric_name(
            self.metrics
        )
        self.version = None
        if not self.refusal:
            facts = Facts(
                project=self.settings.project,
                version="",
                schema=self.settings.dataset.schema,
                reference=self.reference,
                metrics=self.metrics,
                importance=self.importance,
                source=tracking.source(self.data),
                sha256=self.data.hash,
                rejected=len(self.data.rejected),
                parameters=self.options,
                commit=tracking.git_commit(),
                run=self.mlflow_run_id,
                config=self.config_file,
                **self.settings.model_card.model_dump(),
            )
            tags = {
                "accuracy": f"{self.accuracy:.4f}",
                "metaflow_run": str(current.run_id),
            }
            model = registration.log(facts, self.files)
            with finishing("the version was registered by then"):
                self.version = registration.register(facts, model, tags)
                registered = {"registered": f"version {self.version}"}
                tracking.finish(self.mlflow_run_id, figures, registered)
        else:
            tracking.finish(self.mlflow_run_id, figures, {"registered": f"no: {self.refusal}"})
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what came of it."""
        accuracy = f"accuracy {self.accuracy:.3f} ± {self.metrics['accuracy_std']:.3f}"
        if self.version:
            logger.info(
                "%s version %s is registered as challenger: %s",
                self.settings.project,
                self.version,
                accuracy,
            )
        else:
            logger.warning("not registered: %s is %s", accuracy, self.refusal)


def refusal(accuracy: float, threshold: float, baseline: float) -> str:
    """Say why a model is not good enough to be registered; nothing if it is.

    Args:
        accuracy: Cross-validated.
        threshold: The least that is asked for.
        baseline: Share of the most common class: the accuracy of naming it always.
    """
    if accuracy < threshold:
        return f"below the threshold of {threshold:g}"
    if accuracy <= baseline:
        return f"no better than naming the most common class, {baseline:.3f}"
    return ""


if __name__ == "__main__":
    Training()
