"""Class activation maps of each stage (Fig. 4), pasted where their regions were sampled.

Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016: a class's map is the sum of the
channels, each times the weight that the classifier gives to its mean. Here a fully connected layer and the neck's scale
come between, both linear in evaluation mode, so there is still one weight for each channel. A channel's mean and
maximum are added before and share it.

Shapes: B images, C channels, R regions of a stage, N x M of a region's extracted map, h x w of the map that is drawn.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .model import Embedding, MGRe


def activation_maps(
    model: MGRe, images: Tensor, labels: Tensor, size: tuple[int, int], boxes: Tensor | None = None
) -> dict[int, Tensor]:
    """{stage: (B, h, w)} of the classes `labels`, (B,), in evaluation mode; size: (h, w).

    0 is the least value in any of a stage's regions, and what no region covers. Where regions overlap, the larger value
    counts. So a map is blank only if it is constant, also where all evidence is against the class.
    """
    maps, used_boxes = model.region_maps(images, boxes)
    found = {}
    for stage in model.feature_stages:
        weights = channel_weights(model.embeddings[str(stage)], labels)  # (B, R * C)
        parts = weights.chunk(len(maps[stage]), dim=1)
        regions = [(part[:, :, None, None] * x.float()).sum(1) for part, x in zip(parts, maps[stage], strict=True)]
        least = torch.stack([x.amin((1, 2)) for x in regions]).amin(0)
        regions = [x - least[:, None, None] for x in regions]
        own_boxes = used_boxes.get(stage)
        if len(regions) == 1 and own_boxes is None:
            found[stage] = functional.interpolate(regions[0][:, None], size, mode="bilinear").squeeze(1)
        else:
            pasted = [paste(x, own_boxes[:, region], size) for region, x in enumerate(regions)]
            found[stage] = torch.stack(pasted).amax(0)
    return found


def channel_weights(embedding: Embedding, labels: Tensor) -> Tensor:
    """Each pooled channel's weight in the class's logit: (B, R * C)."""
    neck = embedding.neck
    scaled = embedding.classifier.weight[labels] * neck.weight / (neck.running_var + neck.eps).sqrt()
    return scaled if isinstance(embedding.linear, nn.Identity) else scaled @ embedding.linear.weight


def paste(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `sample`: maps (B, N, M) resized into their boxes (B, 4) of an empty map (B, h, w)."""
    height, width = size
    columns = (torch.arange(width, device=x.device) + 0.5) / width
    rows = (torch.arange(height, device=x.device) + 0.5) / height
    x_min, y_min, x_max, y_max = boxes.float()[:, :, None].unbind(1)  # (B, 1) each
    across = (2 * (columns - x_min) / (x_max - x_min) - 1)[:, None, :].expand(-1, height, -1)
    down = (2 * (rows - y_min) / (y_max - y_min) - 1)[:, :, None].expand(-1, -1, width)
    grid = torch.stack([across, down], dim=-1)
    inside = (grid.abs() <= 1).all(-1)
    drawn = functional.grid_sample(x[:, None], grid, padding_mode="border", align_corners=False).squeeze(1)
    return drawn * inside
