"""How much of the re-ID losses' gradient reaches the boxes.

Eq. 9 adds the gradients of location and re-ID losses in every box. Where the second is much the larger one and differs
from batch to batch, the location loss hardly moves the boxes; `box_gradient` of the settings limits it.

Shapes: B images, R regions of a stage; boxes and their gradients: (B, R, 4).
"""

from torch import Tensor

from .settings import Settings

LEAST = 1e-30  # of a norm that something is divided by


def for_sampling(boxes: Tensor, settings: Settings) -> Tensor:
    """The same boxes for the sampling module, from which the re-ID losses' gradient comes back as `box_gradient` says:

    full: as it is; scaled: times `box_gradient_factor`; clipped: each region's, over the batch, at most this factor
    times as long as what reaches the boxes from elsewhere, the location loss; detached: not at all.
    """
    if settings.box_gradient == "full" or not boxes.requires_grad:
        return boxes
    if settings.box_gradient == "detached":
        return boxes.detach()
    factor, sampled = settings.box_gradient_factor, boxes.clone()
    if settings.box_gradient == "scaled":
        sampled.register_hook(lambda gradient: factor * gradient)
        return sampled
    from_sampling: list[Tensor] = []

    def clip(whole: Tensor) -> Tensor:
        """whole: the sum of both gradients. Autograd has been through `sampled` before."""
        if not from_sampling:
            return whole
        gradient = from_sampling.pop()
        rest = whole - gradient
        allowed = factor * region_norms(rest) / region_norms(gradient).clamp(min=LEAST)
        return rest + gradient * allowed.clamp(max=1)[:, None]

    sampled.register_hook(lambda gradient: from_sampling.append(gradient))
    boxes.register_hook(clip)
    return sampled


def region_norms(gradient: Tensor) -> Tensor:
    """(B, R, 4) -> (R,), Euclidean, over the batch."""
    return gradient.square().sum((0, 2)).sqrt()
