"""Where the two sub-networks look, on people who are not trained on. Logged after each epoch, so that centres which are
the same in every image are seen; and the modules whose outputs `what each module carries` replaces.

Shapes: n images of one modality, B of both, h x w cells of a map.
"""

from dataclasses import replace

import torch
from torch import Tensor

from common import probes
from common.evaluation import retrieval
from common.images import ImageStore
from common.runs import Run

from .model import CrossModalityNet, generalised_mean
from .overlap import centres, deviation, overlap_penalty, read_map
from .settings import Settings
from .weakening import stretched

NUM_WATCHED = 32  # test people in each modality


def watched_images(run: Run) -> dict[str, Tensor]:
    """{modality: an image of each of NUM_WATCHED random test people, (n, 3, H, W) uint8}; none without SLN."""
    if not run.settings.sln:
        return {}
    subsets = [subset for search in run.dataset.searches for subset in (search.query, search.gallery)]
    by_modality = {subset.samples[0].modality: subset for subset in reversed(subsets)}
    size = run.settings.height, run.settings.width
    return {
        modality: ImageStore(subset, *size, cache=run.settings.cache).gather(
            retrieval.random_identities(subset, NUM_WATCHED)
        )
        for modality, subset in by_modality.items()
    }


@torch.no_grad()
def activity(model: CrossModalityNet, watched: dict[str, Tensor], settings: Settings) -> dict[str, float]:
    """Of a network with SLN in evaluation mode on images (n, 3, H, W) of each modality, normalised; it is left in the
    mode in which it was. Nothing without images.

    As the row's own reading of eq. 4-5 has it, in pixels of an image `separation_height` high: `centre1_y`,
    `centre1_x`, `centre2_y`, `centre2_x`, the mean centres; `centre1_deviation`, `centre2_deviation`, how far they vary
    over the images of a modality (root mean square of both coordinates' standard deviations); `distance`, the mean of
    the two centres', and `distance_deviation`; and `unseen_overlap`, L_op of these images.
    In the same way for all readings: `peak1_deviation`, `peak2_deviation` and `peak_distance`, of the maxima of eq. 4's
    maps; `overlap` and `overlap_of_deviations`, the mean intersection over union of the two sub-networks' cells above
    half of their map's range, of eq. 4's maps and of their deviations from the modality's mean map.
    """
    if not watched:
        return {}
    training = model.training
    model.eval()
    maps = [model.feature_maps(images, modality) for modality, images in watched.items()]
    model.train(training)
    visible = torch.cat([torch.full((len(images),), modality == "visible") for modality, images in watched.items()]).to(
        maps[0][0].device
    )
    pooled, read = [], []  # of each sub-network
    for parts in zip(*maps, strict=True):
        F_s = torch.cat(parts).float()
        pooled.append(generalised_mean(F_s, model.gem_power, dim=(1,)))
        read.append(model.attention([F_s])[0])

    in_pixels = replace(settings, separation_unit="pixels")  # whatever S is in: rows are compared
    own = [centres(read_map(each, visible, settings), in_pixels) for each in read]
    peaks = [centres(each, replace(in_pixels, overlap_centre="hard")) for each in pooled]
    distance, peak_distance = ((first - second).norm(dim=1) for first, second in (own, peaks))
    values = {}
    for number, (centre, peak) in enumerate(zip(own, peaks, strict=True), 1):
        y, x = centre.mean(0).tolist()
        values |= {
            f"centre{number}_y": y,
            f"centre{number}_x": x,
            f"centre{number}_deviation": deviation_within(centre, visible),
            f"peak{number}_deviation": deviation_within(peak, visible),
        }
    return values | {
        "distance": distance.mean().item(),
        "distance_deviation": distance.std().item(),
        "peak_distance": peak_distance.mean().item(),
        "unseen_overlap": overlap_penalty(*read, visible, settings).item(),
        "overlap": overlap_of(*pooled),
        "overlap_of_deviations": overlap_of(*(deviation(each, visible) for each in pooled)),
    }


def deviation_within(positions: Tensor, visible: Tensor) -> float:
    """(B, 2) -> the root mean square over both modalities of `probes.deviation_over_images`."""
    squares = [probes.deviation_over_images(positions[of]) ** 2 for of in (visible, ~visible)]
    return (sum(squares) / 2) ** 0.5


def overlap_of(first: Tensor, second: Tensor) -> float:
    """Two sub-networks' maps (B, h, w) -> the mean over images of the intersection over union of their cells above half
    of the map's range."""
    first, second = stretched(first) > 0.5, stretched(second) > 0.5
    intersection, union = ((first & second).sum((1, 2)), (first | second).sum((1, 2)))
    return (intersection / union.clamp(min=1)).mean().item()


def carriers_of(model: CrossModalityNet) -> dict[str, list[str]]:
    """{row of `what each module carries`: its submodules}: DFW at what it multiplies the map by, and with SLN each
    sub-network at its neck, whose output is its half of the test feature."""
    gates = {stage: f"weakening.{stage}.gates" for stage in model.weakening}
    rows = {f"DFW after {stage}": [gate] for stage, gate in gates.items()}
    if len(gates) > 1:
        rows["DFW after both"] = list(gates.values())
    if len(model.necks) > 1:
        rows |= {f"sub-network {number + 1}": [f"necks.{number}"] for number in range(len(model.necks))}
    return rows
