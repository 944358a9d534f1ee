"""How often the comparison of champion and challenger refuses equals, and worse ones.

Both models see the true class through noise, of which they share half. Prints one line for each
kind of challenger: the share of refused ones.
"""

import numpy as np
from rich.console import Console
from rich.table import Table

from common.bootstrap import Rows, measure
from common.settings import PromotionSettings

CLASSES = ("large", "small", "medium")
# The penguins' proportions.
SHARES = (152 / 344, 68 / 344, 124 / 344)
COUNTS = (100, 200, 344)
# Signal in deviations of the noise: accuracy 0.995, 0.94 and 0.85.
SIGNALS = {4.0: 2.85, 2.6: 2.18, 1.9: 1.66}
REPEATS = 100
NONE = Rows(CLASSES, np.zeros(0, int), np.zeros((0, 3)), np.zeros((0, 3)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, shape (rows, classes)."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def simulate(rng: np.random.Generator, count: int, signal: float, kind: str) -> Rows:
    """Draw rows, and what an equal or a worse challenger says of them."""
    truth = rng.choice(len(CLASSES), count, p=SHARES)
    common = rng.normal(size=(count, len(CLASSES)))

    def see(strength: float) -> np.ndarray:
        noise = (common + rng.normal(size=common.shape)) / np.sqrt(2)
        # by this factor they are calibrated
        return strength * (np.eye(len(CLASSES))[truth] * strength + noise)

    champion, challenger = see(signal), see(SIGNALS[signal] if kind == "F1 -0.05" else signal)
    if kind == "three times too sure":
        challenger *= 3
    if kind == "recall -0.2":
        known = np.flatnonzero((truth == 1) & (challenger.argmax(axis=1) == 1))
        lost = known[rng.random(len(known)) < 0.2]  # noqa: PLR2004 - as the kind says
        challenger[lost] = challenger[lost][:, [1, 0, 2]]
    return Rows(CLASSES, truth, softmax(champion), softmax(challenger))


def main() -> None:
    """Simulate, and print the table."""
    # every number of rows is to be judged
    settings = PromotionSettings(min_labelled=1)
    shown = Table("accuracy", "challenger", *(f"{count} rows" for count in COUNTS))
    for signal in SIGNALS:
        for kind in ("equal", "F1 -0.05", "recall -0.2", "three times too sure"):
            cells, right, drops = [], [], []
            for count in COUNTS:
                rng = np.random.default_rng(0)
                refused = 0
                for _ in range(REPEATS):
                    rows = simulate(rng, count, signal, kind)
                    found = measure(rows, NONE, settings)
                    refused += any(one.verdict == "fail" for one in found)
                    right.append((rows.champion.argmax(axis=1) == rows.truth).mean())
                    drops.append(found[0].difference)
                cells.append(f"{refused / REPEATS:.0%}")
            accuracy, drop = np.mean(right), np.mean(drops)
            shown.add_row(f"{accuracy:.3f}", f"{kind} (macro F1 {drop:+.3f})", *cells)
    Console(width=110).print(shown)


if __name__ == "__main__":
    main()
