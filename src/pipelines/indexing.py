"""Indexing: documents into an index that has answered its questions before it is used."""

import common  # noqa: F401 - first: Ctrl-C during the imports below ends in one line

# isort: split
from collections.abc import Sequence
from pathlib import Path

from metaflow import card, current, step  # type: ignore[attr-defined] - card is a plug-in

from common import embeddings
from common.pipeline import Pipeline, logger, parameter
from common.retrieval import Index, index_folder, quality
from common.retrieval.storage import LOCATIONS, read_sources, replace, staging
from inference.errors import RetrievalError


class Indexing(Pipeline):
    """Make the index of documents that agents search."""

    location: str = parameter(
        "location",
        default=",".join(LOCATIONS),
        help="Folders and files to read (.md, .py, .txt), separated by commas.",
    )
    embedding_model: str = parameter(
        "embedding-model",
        default="",
        show_default=False,
        help="Embedding model instead of EMBEDDING_MODEL's, such as openai/text-embedding-3-small.",
    )
    minimum: float = parameter(
        "minimum",
        default=0.8,
        help="Recall@4 and share of refusals below which an index is not put to use.",
    )

    @step
    def start(self) -> None:
        """Read the documents."""
        self.locations = [part.strip() for part in self.location.split(",") if part.strip()]
        self.sources = read_sources(self.locations)
        self.model = self.embedding_model or embeddings.model_name()
        self.next(self.build)

    @card
    @step
    def build(self) -> None:
        """Split and embed them, ask what is known, and write the index beside the one in use."""
        folder = index_folder(self.model)
        earlier = earlier_index(folder, self.model)
        index, embedded = Index.build(self.sources, self.locations, self.model, earlier)
        index, self.quality = quality.check(index, quality.read_questions(), self.minimum)
        self.outcome = (
            f"{len(self.sources)} files, {len(index.chunks)} chunks, {embedded} of them embedded"
        )
        self.staged = str(staging(folder))
        index.write(Path(self.staged))
        show(self.outcome, self.quality.headers, self.quality.table, self.quality.failures)
        self.next(self.end)

    @step
    def end(self) -> None:
        """Put the index to use."""
        folder = index_folder(self.model)
        replace(folder, Path(self.staged))
        logger.info("%s, in %s", self.outcome, folder)


def earlier_index(folder: Path, model: str) -> Index | None:
    """Return the index in use, whose vectors spare embedding what has not changed."""
    if not folder.exists():
        return None
    try:
        index = Index.read(folder)
    except RetrievalError as error:
        logger.warning("everything is embedded anew: %s", error)
        return None
    return index if index.manifest.model == model else None


def show(
    outcome: str,
    headers: Sequence[str],
    table: Sequence[Sequence[str]],
    failures: Sequence[Sequence[str]],
) -> None:
    """Print what the questions showed, and fill the card of the running step."""
    from metaflow.cards import Markdown, Table  # noqa: PLC0415 - only this step has a card
    from rich.console import Console  # noqa: PLC0415 - only this step prints
    from rich.table import Table as Printed  # noqa: PLC0415

    card = current.card  # type: ignore[attr-defined] - made by @card
    card.append(Markdown(f"# Index\n\n{outcome}"))
    if not table:
        logger.warning("the index is not checked: no question is answered by these documents")
        card.append(Markdown("Not checked: no question is answered by these documents."))
        return
    printed = Printed(*headers)
    for cells in table:
        printed.add_row(*cells)
    Console(width=100).print(printed)
    card.append(Table([[*cells] for cells in table], headers=[*headers]))
    card.append(Markdown("## What went wrong"))
    card.append(Table([[*cells] for cells in failures], headers=["question", "what was done"]))


if __name__ == "__main__":
    Indexing()
