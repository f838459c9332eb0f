"""From test features to scores, by each search's protocol."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from common import distributed
from common.datasets.base import DataSet, Search, Subset
from common.errors import UserError
from common.metrics import RankedMatches, rank_feature_matches, rank_matches, standard_errors
from common.reranking import k_reciprocal_distances

from .features import Embed, ImageSettings, extract_searches

RANKS = (1, 5, 10, 20)
CURVE_RANKS = 20  # of the CMC curve that a record keeps


def evaluate(
    embed: Embed | Mapping[str, Embed],
    dataset: DataSet,
    settings: ImageSettings,
    *,
    metric: str = "euclidean",
    rerank: bool = False,
    multi_query: bool = False,
) -> dict[str, dict[str, float]]:
    """Scores of every search of a data set, {name: scores as in `score_search`}; the one that papers report is first.

    rerank: also score each search re-ranked, as `<name>_reranked`; multi_query: also score Market-1501's multi-query
    search, as `multi_query`. UserError: the data set has no queries, or no images for multi-query.
    """
    if not dataset.searches:
        raise UserError(f"{dataset.name} has no queries: nothing to evaluate")
    searches = dataset.searches
    if multi_query:
        searches = (*searches, Search("", _multi_query_subset(dataset), dataset.gallery))
    features = extract_searches(embed, searches, settings)
    return distributed.from_main(lambda: _all_scores(dataset, features, metric, rerank, multi_query))


def _all_scores(
    dataset: DataSet, features: dict[str, Tensor], metric: str, rerank: bool, multi_query: bool
) -> dict[str, dict[str, float]]:
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


def evaluate_first_search(embed: Embed | Mapping[str, Embed], dataset: DataSet, settings: ImageSettings) -> dict:
    """Scores of a data set's first search, as in `score_search`."""
    search = dataset.searches[0]
    features = extract_searches(embed, (search,), settings)
    found = features[search.query.name], features[search.gallery.name]
    return distributed.from_main(lambda: score_search(search, *found))


def score_search(
    search: Search, query_features: Tensor, gallery_features: Tensor, *, metric: str = "euclidean", rerank: bool = False
) -> dict:
    """Scores as fractions: mAP (step), mAP_trapezoid, mAP_interpolated, mINP, rank1, rank5, rank10, rank20, and cmc,
    the curve up to rank CURVE_RANKS; and num_valid_queries. `<name>_error` is the standard error that comes from the
    choice of test people (`standard_errors`).

    For a search with trials they are means over the trials, each with its standard deviation (n - 1) as `<name>_std`.
    rerank: k-reciprocal re-ranking with the usual settings, on normalised features if the metric is cosine.
    """
    trials = search.trials or (np.arange(len(search.gallery)),)
    all_scores = []
    for chosen in trials:
        gallery = gallery_features[chosen] if search.trials else gallery_features
        labels = (
            search.query.persons,
            search.gallery.persons[chosen],
            search.query.cameras,
            search.gallery.cameras[chosen],
        )
        matches = rank_search(query_features, gallery, labels, search.protocol, metric, rerank)
        all_scores.append(scores_of(matches))
    by_name = {name: np.array([scores[name] for scores in all_scores]) for name in all_scores[0]}
    means = {name: values.mean(axis=0).tolist() for name, values in by_name.items()}
    means["num_valid_queries"] = int(by_name["num_valid_queries"][0])
    if search.trials:
        freedom = 1 if len(trials) > 1 else 0
        spread = [name for name in by_name if name not in ("num_valid_queries", "cmc") and not name.endswith("_error")]
        means |= {f"{name}_std": float(by_name[name].std(ddof=freedom)) for name in spread}
    return means


def scores_of(matches: RankedMatches) -> dict:
    scores = matches.scores()
    by_query = {
        "mAP": matches.average_precisions("step"),
        "mAP_trapezoid": matches.average_precisions("trapezoid"),
        "mAP_interpolated": matches.average_precisions("interpolated"),
        "mINP": matches.inverse_penalties(),
        **{f"rank{rank}": (matches.first_ranks <= rank).astype(float) for rank in RANKS},
    }
    errors = standard_errors(np.stack(list(by_query.values()), axis=1), matches.persons).tolist()
    return {
        **{name: float(values.mean()) for name, values in by_query.items()},
        "num_valid_queries": scores.num_valid_queries,
        "cmc": scores.cmc[:CURVE_RANKS].tolist(),
        **{f"{name}_error": error for name, error in zip(by_query, errors, strict=True)},
    }


def rank_search(query, gallery, labels, protocol: str, metric: str, rerank: bool) -> RankedMatches:
    """Ranks of the matches by features, (Q, D) and (G, D), or by re-ranked distances. labels: query ids, gallery ids,
    query cameras, gallery cameras."""
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
            f"in camera {camera}. Is the folder (Market-1501: gt_bbox) copied completely?"
        )
    means = {key: features[positions].mean(0) for key, positions in groups.items()}
    return torch.stack([means[key] for key in asked])


def _multi_query_subset(dataset: DataSet) -> Subset:
    if "multi_query" not in dataset.subsets:
        raise UserError(
            f"{dataset.name} in {dataset.folder} has no images for multi-query (Market-1501 has them in gt_bbox)"
        )
    return dataset.subsets["multi_query"]
