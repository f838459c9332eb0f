"""From a trained network to the scores in a table: features of query and gallery, then the protocol's metrics."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import distributed
from common.datasets.base import DataSet, Subset
from common.images import ImageStore
from common.metrics import score_features

RANKS = (1, 5, 10, 20)


@torch.inference_mode()
def extract_features(
    embed: Callable[[Tensor], Tensor], store: ImageStore, *, batch_size: int = 128, name: str = "features"
) -> Tensor:
    """The features of every image of a store: (N, dim) float32 on the CPU.

    embed: a batch of images (B, 3, H, W) uint8 on the CPU -> features (B, dim); it moves, normalises and runs them.
    Several processes take turns at the batches, which are cut as in one process, so that the features are the same.
    """
    starts = range(0, len(store), batch_size)
    own_starts = starts[distributed.rank() :: distributed.world_size()]
    bar = tqdm(own_starts, desc=name, unit="batch", leave=False, disable=None if distributed.is_main() else True)
    own = {
        start: embed(store.gather(np.arange(start, min(start + batch_size, len(store))))).float().cpu() for start in bar
    }
    batches = {start: batch for part in distributed.gather_objects(own) for start, batch in part.items()}
    return torch.cat([batches[start] for start in starts])


def score_retrieval(
    query: Subset, gallery: Subset, query_features: Tensor, gallery_features: Tensor, *, metric: str = "euclidean"
) -> dict[str, float]:
    """Scores as fractions: mAP (step), mAP_trapezoid, mINP, rank1, rank5, rank10, rank20, and num_valid_queries."""

    def scores(average_precision: str):
        return score_features(
            query_features,
            gallery_features,
            query.persons,
            gallery.persons,
            query.cameras,
            gallery.cameras,
            metric=metric,
            average_precision=average_precision,
        )

    step, trapezoid = scores("step"), scores("trapezoid")
    return {
        "mAP": step.mAP,
        "mAP_trapezoid": trapezoid.mAP,
        "mINP": step.mINP,
        **{f"rank{rank}": float(step.cmc[rank - 1]) for rank in RANKS},
        "num_valid_queries": step.num_valid_queries,
    }


def evaluate_single_query(
    embed: Callable[[Tensor], Tensor], dataset: DataSet, height: int, width: int, *, cache: bool = True
) -> dict[str, float]:
    """Single-query scores of a network on a data set's query and gallery; see `extract_features` for `embed`."""
    features = {}
    for subset in (dataset.query, dataset.gallery):
        with distributed.main_process_first():  # it may have to decode the images
            store = ImageStore(subset, height, width, cache=cache)
        features[subset.name] = extract_features(embed, store, name=subset.name)
    return score_retrieval(dataset.query, dataset.gallery, features["query"], features["gallery"])
