"""From a trained network to scores: features of queries and gallery images, then each search's protocol."""

from .features import Embed, extract_features, extract_searches
from .loaded_run import LoadedRun
from .searches import evaluate, evaluate_first_search, score_search

__all__ = [
    "Embed",
    "LoadedRun",
    "evaluate",
    "evaluate_first_search",
    "extract_features",
    "extract_searches",
    "score_search",
]
