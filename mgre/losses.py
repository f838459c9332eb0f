"""MGRe's location loss, eq. 3. Identification (soft labels) and triplet losses are torch's and common's."""

from torch import Tensor


def location_loss(boxes: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Eq. 3: the sum of the four squared differences, mean over the known boxes of all images and regions.

    boxes: (B, R, 4), predicted, in parts of the image; targets: (B, R, 4) with eq. 3's margin in them; known: (B, R)
    bool, which targets count. Zero, with a zero gradient, where none does.
    """
    squares = (boxes.float() - targets).square().sum(2)
    return (squares * known).sum() / known.sum().clamp(min=1)
