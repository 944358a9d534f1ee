"""Search in documents: chunks of files, found by vectors and by BM25."""

from common.retrieval.index import Index, Passage
from common.retrieval.storage import index_folder

__all__ = ["Index", "Passage", "index_folder"]
