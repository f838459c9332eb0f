"""Dynamic feature weakening (DFW, Sec. 3.2): damp a feature map where it responds most.

The module fits any feature map of any network; it has no parameters and keeps the map's shape.

Shapes: B images, C channels, H x W cells of a map.
"""

import torch
from torch import Tensor, nn

FORMS = ("D1", "D2", "D3")
GATES = ("multiply", "sigmoid")


class DynamicFeatureWeakening(nn.Module):
    """F' = F * M, with M of eq. 2 below 1 where the response f of eq. 1 is high.

    form: what counts as high, and by how much it is weakened (eq. 2):
        D1  f >= its spatial mean   alpha
        D2  f >= beta               e, the share of cells at or above the threshold
        D3  f >= its spatial mean   e
    D2 first stretches f to [0, 1] image by image, so that a beta in [0, 1] means something (ASSUMED).
    gate: `multiply` F by M, as the text around eq. 3 says, or by eq. 3's map, `sigmoid`(f * M). After a ReLU f >= 0, so
    that the latter lies in [0.5, 1) and hardly weakens: see the README. ValueError: an unknown form or gate.
    """

    def __init__(self, form: str = "D1", *, alpha: float = 0.5, beta: float = 0.5, gate: str = "multiply"):
        super().__init__()
        for value, known in ((form, FORMS), (gate, GATES)):
            if value not in known:
                raise ValueError(f"DynamicFeatureWeakening knows {', '.join(known)}, not {value!r}")
        self.form, self.alpha, self.beta, self.gate = form, alpha, beta, gate
        self.gates = nn.Identity()  # what F is multiplied by, (B, 1, H, W), seen from outside by activity.py

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if self.gate == "sigmoid":
            f = response(features)
            weight = torch.sigmoid(f * self.matrix(f))  # eq. 3
        else:
            weight = self.matrix(response(features.detach()))  # piecewise constant: no gradient to pass on
        return features * self.gates(weight[:, None].to(features.dtype))

    @torch.no_grad()
    def matrix(self, f: Tensor) -> Tensor:
        """Eq. 2: the responses f (B, H, W) -> M (B, H, W) in [0, 1]."""
        high = stretched(f) >= self.beta if self.form == "D2" else f >= f.mean((1, 2), keepdim=True)
        share = high.to(f.dtype).mean((1, 2), keepdim=True)  # e
        factor = torch.full_like(share, self.alpha) if self.form == "D1" else share
        return torch.where(high, factor, torch.ones_like(f))

    def extra_repr(self) -> str:
        numbers = {"D1": f", alpha={self.alpha}", "D2": f", beta={self.beta}", "D3": ""}[self.form]
        return f"{self.form}{numbers}, gate={self.gate}"


def response(features: Tensor) -> Tensor:
    """Eq. 1: mean plus maximum over the channels, (B, C, H, W) -> f (B, H, W) float32.

    The paper's "global" poolings are over channels: eq. 2 indexes f by (i, j).
    """
    return features.mean(1, dtype=torch.float32) + features.amax(1).float()


def stretched(f: Tensor) -> Tensor:
    """(B, H, W) -> [0, 1] for each image; a constant map becomes 0."""
    low, high = f.amin((1, 2), keepdim=True), f.amax((1, 2), keepdim=True)
    return (f - low) / (high - low).clamp(min=torch.finfo(f.dtype).tiny)
