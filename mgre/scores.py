"""The scores of a trained network: the search itself, the occluded one (Table 6) and the sweep of lambda^F (Fig. 6)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common import augment
from common.complexity import count_macs, count_parameters
from common.datasets.base import Search
from common.evaluation import score_search
from common.runs import Run

from .data import extract_search
from .model import MGRe, SemanticGuidance, boxes_from_poses, weighted
from .poses import read_joints
from .regions import REGIONS, target_boxes

FEATURE_WEIGHTS = tuple(tenth / 10 for tenth in range(1, 11))  # Fig. 6's axis


def stage_embedder(model: MGRe, run: Run):
    """Images (B, 3, H, W) uint8, and boxes (B, 7, 4) if the network needs them -> each stage's feature (B, S, D)."""

    def embed(images: Tensor, boxes: Tensor | None = None) -> Tensor:
        inputs = augment.normalise(images.to(run.device)).contiguous(memory_format=torch.channels_last)
        with run.autocast():
            return model.stage_features(inputs, None if boxes is None else boxes.to(run.device))

    return embed


def search_features(model: MGRe, run: Run, search: Search, *, occlusion_probability: float = 0.0):
    """The stage features of query and gallery, (N, S, D) each."""
    config = run.config
    boxes = None
    if config.pose_boxes:
        boxes = {
            s.name: boxes_from_poses(*target_boxes(read_joints(run.dataset, s))) for s in (search.query, search.gallery)
        }
    return extract_search(
        stage_embedder(model, run),
        search,
        config.height,
        config.width,
        cache=config.cache,
        boxes=boxes,
        occlusion_probability=occlusion_probability,
    )


def weighted_scores(search: Search, features: tuple[Tensor, Tensor], weights: Sequence[float]) -> dict[str, float]:
    """The search's scores with eq. 6's features for these lambda^F."""
    return score_search(search, *(weighted(part, weights) for part in features))


def score(model: MGRe, run: Run) -> dict:
    """The scores of the first search; with `occluded`, the same on erased images, and with `stage_weight`, mAP and
    Rank-1 for each stage and each lambda^F of Fig. 6 ("0_1" for 0.1), the others at their setting."""
    search, weights = run.dataset.searches[0], model.feature_weights
    features = search_features(model, run, search)
    scores: dict = weighted_scores(search, features, weights)
    if run.config.feature_weight_scores:
        scores["stage_weight"] = {
            f"stage{stage}": {
                str(value).replace(".", "_"): _main_scores(search, features, _replaced(weights, position, value))
                for value in FEATURE_WEIGHTS
            }
            for position, stage in enumerate(model.feature_stages)
        }
    if run.config.occluded_scores:
        features = search_features(model, run, search, occlusion_probability=run.config.occlusion_probability)
        scores["occluded"] = weighted_scores(search, features, weights)
    return scores


def _main_scores(search: Search, features: tuple[Tensor, Tensor], weights: Sequence[float]) -> dict[str, float]:
    scores = weighted_scores(search, features, weights)
    return {name: scores[name] for name in ("mAP", "rank1")}


def _replaced(weights: Sequence[float], position: int, value: float) -> list[float]:
    return [value if other == position else weight for other, weight in enumerate(weights)]


def model_size(model: MGRe, height: int, width: int) -> dict[str, int]:
    """Parameters, multiply-accumulates for one image, and these in the paper's order: enlarge, then convolve."""
    inputs = [torch.empty(1, 3, height, width)]
    if any(b.location is None and b.sampled_sizes for b in model.branches.values()):
        inputs.append(torch.empty(1, len(REGIONS), 4))
    size = {"num_parameters": count_parameters(model), "macs": count_macs(model, *inputs)}
    guidance = [module for module in model.modules() if isinstance(module, SemanticGuidance)]
    for module in guidance:
        module.upsample_first = True
    size["macs_as_printed"] = count_macs(model, *inputs)
    for module in guidance:
        module.upsample_first = False
    return size
