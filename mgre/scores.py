"""The scores of a trained network: the search itself, the occluded one (Table 6) and the sweep of lambda^F (Fig. 6)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common import evaluation
from common.complexity import model_size
from common.datasets.base import Search
from common.datasets.poses import read_joints
from common.images import ImageStore
from common.runs import Run

from .data import SearchImages
from .model import MGRe, SemanticGuidance, weighted
from .regions import REGIONS, boxes_from_poses, margins_of, target_boxes
from .settings import Settings

FEATURE_WEIGHTS = tuple(tenth / 10 for tenth in range(1, 11))  # Fig. 6's axis

DECLINES = ("mAP", "mAP_trapezoid", "rank1")  # Table 6

# Images (B, 3, H, W) uint8 on the CPU, and boxes (B, 7, 4) or None -> each stage's feature, (B, S, D).
StageEmbed = Callable[[Tensor, Tensor | None], Tensor]


def search_features(
    embed: StageEmbed, run: Run, search: Search, *, occlusion_probability: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The stage features of query and gallery, (N, S, D) each."""
    settings, features = run.settings, []
    for seed, subset in enumerate((search.query, search.gallery)):
        store = ImageStore(subset, settings.height, settings.width, cache=settings.cache)
        boxes = None
        if settings.pose_boxes:
            boxes = boxes_from_poses(*target_boxes(read_joints(run.dataset, subset), margins_of(settings)))
        images = SearchImages(store, boxes=boxes, occlusion_probability=occlusion_probability, seed=seed)
        features.append(evaluation.extract_features(lambda batch: embed(*batch), images, name=subset.name))
    return features[0], features[1]


def weighted_scores(search: Search, features: tuple[Tensor, Tensor], weights: Sequence[float]) -> dict[str, float]:
    """The search's scores with eq. 6's features for these lambda^F."""
    return evaluation.score_search(search, *(weighted(part, weights) for part in features))


def score(model: MGRe, embed: StageEmbed, run: Run) -> dict:
    """The scores of the first search; as `occluded`, the same of erased images, and as `decline`, by how much these
    differ; as `stage_weight`, mAP and Rank-1 for each stage and each lambda^F of Fig. 6 ("0_1" for 0.1), the others at
    their setting. The settings say which."""
    search, weights = run.dataset.searches[0], model.feature_weights
    features = search_features(embed, run, search)
    scores: dict = weighted_scores(search, features, weights)
    if run.settings.feature_weight_scores:
        scores["stage_weight"] = {
            f"stage{stage}": {
                str(value).replace(".", "_"): _main_scores(search, features, _replaced(weights, position, value))
                for value in FEATURE_WEIGHTS
            }
            for position, stage in enumerate(model.feature_stages)
        }
    if run.settings.occluded_scores:
        probability = run.settings.occlusion_probability
        features = search_features(embed, run, search, occlusion_probability=probability)
        scores["occluded"] = occluded = weighted_scores(search, features, weights)
        scores["decline"] = {name: occluded[name] - scores[name] for name in DECLINES}
    return scores


def _main_scores(search: Search, features: tuple[Tensor, Tensor], weights: Sequence[float]) -> dict[str, float]:
    scores = weighted_scores(search, features, weights)
    return {name: scores[name] for name in ("mAP", "rank1")}


def _replaced(weights: Sequence[float], position: int, value: float) -> list[float]:
    return [value if other == position else weight for other, weight in enumerate(weights)]


def network_size(model: MGRe, settings: Settings) -> dict[str, int]:
    """Parameters, multiply-accumulates of one image, and as `macs_as_printed` these in the paper's order of semantic
    guidance: upsample, then convolve."""
    inputs = [torch.empty(1, 3, settings.height, settings.width)]
    if settings.pose_boxes:
        inputs.append(torch.empty(1, len(REGIONS), 4))
    size = model_size(model, *inputs)
    guidance = [module for module in model.modules() if isinstance(module, SemanticGuidance)]
    for module in guidance:
        module.upsample_first = True
    size["macs_as_printed"] = model_size(model, *inputs)["macs"]
    for module in guidance:
        module.upsample_first = False
    return size
