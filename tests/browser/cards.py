"""A flow that shows the card of a training, made of a few figures instead of one."""

import numpy as np
from metaflow import FlowSpec, card, step

from common import settings
from common.fitting import FoldResult
from common.importance import Importance
from common.training_card import training_card

# rows by true and predicted class
CONFUSION = ((150, 2, 0), (0, 68, 0), (1, 0, 123))
SCORES = ("accuracy", "loss")


class Cards(FlowSpec):
    """A step with the card, and the end."""

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

    @step
    def end(self):
        """End."""


if __name__ == "__main__":
    Cards()
