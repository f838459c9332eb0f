"""From a trained network to the scores in a table: features of queries and galleries, then the protocol's metrics.

`python -m common.evaluation FEATURES.npz` scores features from any other code by the same rules.
"""

import argparse
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import distributed
from common.datasets.base import DataSet, Search, Subset
from common.errors import UserError, command
from common.images import ImageStore
from common.metrics import PROTOCOLS, RankedMatches, rank_feature_matches, rank_matches
from common.reranking import k_reciprocal_distances

RANKS = (1, 5, 10, 20)
CURVE_RANKS = 20  # of the CMC curve that is kept beside the scores

Embed = Callable[[Tensor], Tensor]  # images (B, 3, H, W) uint8 on the CPU -> test features (B, D)


@torch.inference_mode()
def extract_features(embed: Embed, store: ImageStore, *, batch_size: int = 128, name: str = "features") -> Tensor:
    """The features of every image of a store: (N, dim) float32 on the CPU.

    embed: it moves, normalises and runs the images. Several processes take turns at the batches, which are cut as in
    one process, so that the features are the same.
    """
    starts = range(0, len(store), batch_size)
    own_starts = starts[distributed.rank() :: distributed.world_size()]
    bar = tqdm(own_starts, desc=name, unit="batch", leave=False, disable=None if distributed.is_main() else True)
    own = {
        start: embed(store.gather(np.arange(start, min(start + batch_size, len(store))))).float().cpu() for start in bar
    }
    batches = {start: batch for part in distributed.gather_objects(own) for start, batch in part.items()}
    return torch.cat([batches[start] for start in starts])


def extract_searches(
    embed: Embed | Mapping[str, Embed],
    searches: tuple[Search, ...],
    height: int,
    width: int,
    *,
    cache: bool = True,
    batch_size: int = 128,
) -> dict[str, Tensor]:
    """Features of every subset that the searches need, each extracted once: {subset name: (N, dim)}.

    embed: one for all images, or {modality: embed} for networks with a stream for each; a subset has one modality.
    """
    subsets = {subset.name: subset for search in searches for subset in (search.query, search.gallery)}
    features = {}
    for name, subset in subsets.items():
        with distributed.main_process_first():  # it may have to decode the images
            store = ImageStore(subset, height, width, cache=cache)
        own = embed[subset.samples[0].modality] if isinstance(embed, Mapping) else embed
        features[name] = extract_features(own, store, batch_size=batch_size, name=name)
    return features


def evaluate(
    embed: Embed | Mapping[str, Embed],
    dataset: DataSet,
    height: int,
    width: int,
    *,
    metric: str = "euclidean",
    rerank: bool = False,
    multi_query: bool = False,
    cache: bool = True,
) -> dict[str, dict[str, float]]:
    """Scores of every search of a data set, {name: scores as in `score_search`}, the one that papers report first.

    rerank: each search once more, as `<name>_reranked`; multi_query: Market-1501's, as `multi_query`.
    UserError: nothing to search in this data set, or no images for multi-query.
    """
    if not dataset.searches:
        raise UserError(f"{dataset.name} has no queries: nothing to evaluate")
    searches = dataset.searches
    if multi_query:
        searches = (*searches, Search("", _multi_query_subset(dataset), dataset.gallery))
    features = extract_searches(embed, searches, height, width, cache=cache)
    scores = {}
    for search in dataset.searches:
        found = features[search.query.name], features[search.gallery.name]
        scores[search.name] = score_search(search, *found, metric=metric)
        if rerank:
            scores[f"{search.name}_reranked"] = score_search(search, *found, metric=metric, rerank=True)
    if multi_query:
        search = dataset.searches[0]
        averaged = average_tracks(search.query, dataset.subsets["multi_query"], features["multi_query"])
        found = averaged, features[search.gallery.name]
        scores["multi_query"] = score_search(search, *found, metric=metric)
        if rerank:
            scores["multi_query_reranked"] = score_search(search, *found, metric=metric, rerank=True)
    return scores


def evaluate_single_query(embed: Embed, dataset: DataSet, height: int, width: int, *, cache: bool = True) -> dict:
    """Scores of a data set's first search alone."""
    search = dataset.searches[0]
    features = extract_searches(embed, (search,), height, width, cache=cache)
    return score_search(search, features[search.query.name], features[search.gallery.name])


def score_search(
    search: Search, query_features: Tensor, gallery_features: Tensor, *, metric: str = "euclidean", rerank: bool = False
) -> dict:
    """Scores as fractions: mAP (step), mAP_trapezoid, mINP, rank1, rank5, rank10, rank20, and cmc, the curve up to rank
    CURVE_RANKS; and num_valid_queries.

    Of a search with trials they are the means over them, and each has its standard deviation (n - 1) as `<name>_std`.
    rerank: by k-reciprocal re-ranking with the usual settings, on normalised features where the metric is cosine.
    """
    trials = search.trials or (np.arange(len(search.gallery)),)
    all_scores = []
    for chosen in trials:
        gallery = gallery_features if len(chosen) == len(gallery_features) else gallery_features[chosen]
        labels = (
            search.query.persons,
            search.gallery.persons[chosen],
            search.query.cameras,
            search.gallery.cameras[chosen],
        )
        matches = _rank(query_features, gallery, labels, search.protocol, metric, rerank)
        all_scores.append(scores_of(matches))
    by_name = {name: np.array([scores[name] for scores in all_scores]) for name in all_scores[0]}
    means = {name: values.mean(axis=0).tolist() for name, values in by_name.items()}
    means["num_valid_queries"] = int(by_name["num_valid_queries"][0])
    if search.trials:
        freedom = 1 if len(trials) > 1 else 0
        spread = [name for name in by_name if name not in ("num_valid_queries", "cmc")]
        means |= {f"{name}_std": float(by_name[name].std(ddof=freedom)) for name in spread}
    return means


def scores_of(matches: RankedMatches) -> dict:
    step, trapezoid = matches.scores("step"), matches.scores("trapezoid")
    return {
        "mAP": step.mAP,
        "mAP_trapezoid": trapezoid.mAP,
        "mINP": step.mINP,
        **{f"rank{rank}": float(step.cmc[rank - 1]) for rank in RANKS},
        "num_valid_queries": step.num_valid_queries,
        "cmc": step.cmc[:CURVE_RANKS].tolist(),
    }


def _rank(query: Tensor, gallery: Tensor, labels, protocol: str, metric: str, rerank: bool) -> RankedMatches:
    if not rerank:
        return rank_feature_matches(query, gallery, *labels, metric=metric, protocol=protocol)
    if metric == "cosine":  # of unit vectors, the squared Euclidean distance is 2 - 2 cos
        query, gallery = (torch.nn.functional.normalize(torch.as_tensor(values)) for values in (query, gallery))
    return rank_matches(k_reciprocal_distances(query, gallery), *labels, protocol=protocol)


def average_tracks(query: Subset, track_images: Subset, features: Tensor) -> Tensor:
    """Multi-query features (Zheng et al., ICCV 2015): for each query, the mean over all images of its person in its
    camera. features: (n, dim) of track_images; returns (num_query, dim). UserError: a query without such an image."""
    groups = {}
    for position, key in enumerate(zip(track_images.persons.tolist(), track_images.cameras.tolist(), strict=True)):
        groups.setdefault(key, []).append(position)
    asked = list(zip(query.persons.tolist(), query.cameras.tolist(), strict=True))
    if missing := [key for key in asked if key not in groups]:
        person, camera = missing[0]
        raise UserError(
            f"multi-query: {len(missing)} queries have no image in '{track_images.name}', the first is person {person} "
            f"in camera {camera}. Is the folder (Market-1501: gt_bbox) copied whole?"
        )
    means = {key: features[positions].mean(0) for key, positions in groups.items()}
    return torch.stack([means[key] for key in asked])


def _multi_query_subset(dataset: DataSet) -> Subset:
    if "multi_query" not in dataset.subsets:
        raise UserError(
            f"{dataset.name} in {dataset.folder} has no images for multi-query (Market-1501 has them in gt_bbox)"
        )
    return dataset.subsets["multi_query"]


def nearest_answers(
    search: Search, query_features: Tensor, gallery_features: Tensor, chosen: np.ndarray, top: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest gallery images of the queries `chosen`, (n,), as the protocol admits them.

    Returns positions in the gallery (of the first trial, if there are trials) and distances, both (n, top), by
    Euclidean distance; fewer columns where a query has fewer answers.
    """
    admitted = np.zeros(len(search.gallery), bool)
    admitted[search.trials[0] if search.trials else slice(None)] = True
    labels = (torch.from_numpy(values) for values in (search.gallery.persons, search.gallery.cameras))
    excluded = PROTOCOLS[search.protocol].excludes(
        torch.from_numpy(search.query.persons[chosen])[:, None],
        torch.from_numpy(search.query.cameras[chosen])[:, None],
        *labels,
    )
    left_out = excluded.numpy() | ~admitted
    distances = np.where(left_out, np.inf, torch.cdist(query_features[chosen], gallery_features).numpy())
    top = min(top, int((~left_out).sum(1).min()))
    order = np.argsort(distances, axis=1, kind="stable")[:, :top]
    return order, np.take_along_axis(distances, order, axis=1)


def read_features(path: Path) -> dict[str, np.ndarray]:
    """Arrays query_features, query_ids, query_cameras and the same of the gallery. UserError names what is wrong."""
    names = [f"{side}_{what}" for side in ("query", "gallery") for what in ("features", "ids", "cameras")]
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise UserError(f"{path} has no array {', '.join(missing)}; it has {', '.join(file.files)}")
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:  # TypeError: a .npy file
        raise UserError(
            f"{path} is no .npz file of plain arrays ({error}). Write it by numpy.savez(path, {names[0]}=..., ...)"
        ) from None


@command
def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m common.evaluation", description="Score features from a file.")
    parser.add_argument("features", type=Path, help=".npz with query_features, query_ids, query_cameras, gallery_...")
    parser.add_argument("--protocol", default="market1501", choices=PROTOCOLS)
    parser.add_argument("--metric", default="euclidean", choices=("euclidean", "cosine"))
    parser.add_argument("--rerank", action="store_true", help="score k-reciprocal re-ranking too")
    arguments = parser.parse_args(words)
    arrays = read_features(arguments.features)
    query, gallery = arrays["query_features"], arrays["gallery_features"]
    labels = [arrays[name] for name in ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")]
    for rerank in (False, True)[: 1 + arguments.rerank]:
        matches = _rank(query, gallery, labels, arguments.protocol, arguments.metric, rerank)
        print(f"\n{arguments.protocol}, {arguments.metric}{', re-ranked' if rerank else ''}")
        for name, value in scores_of(matches).items():
            if name != "cmc":
                print(f"{name:18s} {value:.2%}" if isinstance(value, float) else f"{name:18s} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
