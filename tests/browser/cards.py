"""A flow that shows the project's two cards, made of a few figures instead of a training."""

import numpy as np
from metaflow import FlowSpec, card, step

from common import settings
from common.fitting import FoldResult
from common.importance import Importance
from common.training_card import training_card
from pipelines.monitoring import fill_card

# rows by true and predicted class
CONFUSION = ((150, 2, 0), (0, 68, 0), (1, 0, 123))
SCORES = ("accuracy", "loss")
CHECK = {
    "name": "drift",
    "column": "body_mass_g",
    "figure": 2.0761,
    "limit": 0.3868,
    "verdict": "fail",
    "sentence": "body_mass_g has drifted: " + "a long sentence, " * 20,
}


class Cards(FlowSpec):
    """Two steps, a card each."""

    @card
    @step
    def start(self):
        """Show the card of a training."""
        import pandas as pd  # noqa: PLC0415 - a second or two, once instead of in every process

        schema = settings.load().dataset.schema
        pairs = [
            {"target": truth, "prediction": predicted}
            for truth, counts in zip(schema.classes, CONFUSION, strict=True)
            for predicted, count in zip(schema.classes, counts, strict=True)
            for _ in range(count)
        ]
        curve = [1 / epoch for epoch in range(1, 51)]
        results = [
            FoldResult(
                fold=fold,
                rows=np.empty(0),
                probabilities=np.empty((0, 3)),
                metrics=dict.fromkeys(SCORES, 0.99),
                history={"loss": curve, "val_loss": curve},
            )
            for fold in range(5)
        ]
        metrics = {f"{name}_{kind}": 0.99 for name in SCORES for kind in ("mean", "std")}
        importance = [Importance(name, 0.2, 0.05, 0.8, 0.1) for name in schema.features]
        training_card(schema, results, metrics, pd.DataFrame(pairs), importance)
        self.next(self.end)

    @card(id="checks")
    @step
    def end(self):
        """Show the card of a monitoring run."""
        fill_card("fail", "1", [CHECK] * 20)


if __name__ == "__main__":
    Cards()
