"""Mutual attention (eq. 1-8): the maps of two images, reweighted by what is active in both.

As printed, nothing bounds the attention MA, and it is of the fourth degree in the activations. What may be read between
the lines is chosen by settings: a normalisation (`normalisations`) of SA in front of eq. 5 or of MA behind eq. 6, a
temperature and a sigmoid in front of eq. 7-8, and the gain of Kaiming's initialisation. `normalisation: none` with
`activation: none`, a temperature of 1 and no biases is eq. 1-8 as printed.

Shapes: B pairs, C channels, H x W of a feature map.
"""

import torch
from torch import Tensor, nn

from .settings import Settings

EPSILON = 1e-6  # of a mean square


class MutualAttention(nn.Module):
    """The maps of two images, reweighted by what is active in both (eq. 1-8).

    `before_gate` and `gates` pass MA as it enters and leaves the sigmoid, for activity.py and verification.py.
    """

    def __init__(self, channels: int, settings: Settings):
        super().__init__()

        def convolution() -> nn.Conv2d:
            return nn.Conv2d(channels, channels, kernel_size=1, bias=settings.attention_bias)

        self.channel_convolution = convolution()  # eq. 3
        self.self_convolution = convolution()  # eq. 4
        self.mutual_convolution = convolution()  # eq. 6
        self.self_normalisation, self.mutual_normalisation = normalisations(settings.normalisation, channels)
        self.temperature, self.pairing = settings.temperature, settings.attention_pairing
        self.before_gate = nn.Identity()
        self.gates = {"sigmoid": nn.Sigmoid(), "none": nn.Identity()}[settings.activation]
        for module in (self.channel_convolution, self.self_convolution, self.mutual_convolution):
            nn.init.kaiming_normal_(module.weight, nonlinearity=settings.attention_gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def self_attention(self, f: Tensor) -> Tensor:
        """SA of eq. 4, from one image's map: (B, C, H, W) -> (B, C, H, W)."""
        SPA = f.mean(1, keepdim=True)  # eq. 1: (B, 1, H, W)
        Q = f.mean((2, 3), keepdim=True)  # eq. 2: (B, C, 1, 1)
        CA = self.channel_convolution(Q)  # eq. 3
        return self.self_convolution(SPA * CA)  # eq. 4

    def mutual_map(self, f1: Tensor, f2: Tensor) -> Tensor:
        """MA of eq. 5-6, the same for both images: (B, C, H, W)."""
        SA1, SA2 = self.self_normalisation(self.self_attention(torch.cat([f1, f2]))).chunk(2)
        MA = self.mutual_normalisation(self.mutual_convolution(SA1 * SA2))
        return self.gates(self.before_gate(MA / self.temperature))

    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """F1 and F2 of eq. 7-8: two (B, C, H, W)."""
        MA = self.mutual_map(f1, f2)
        if self.pairing == "shuffled":  # as likely of the other label, also where the positive half comes first
            MA = MA.roll(max(1, len(MA) // 4), 0)
        return f1 * MA + f1, f2 * MA + f2


class UnitRMS(nn.Module):
    """Each map over its root mean square: (B, C, H, W) -> (B, C, H, W). centred: less its mean first, as layer norm
    without scale and shift."""

    def __init__(self, *, centred: bool = False):
        super().__init__()
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        exact = x.to(torch.promote_types(x.dtype, torch.float32))  # squares, which autocast may have in half precision
        if self.centred:
            exact = exact - exact.mean((1, 2, 3), keepdim=True)
        return (exact * (exact.square().mean((1, 2, 3), keepdim=True) + EPSILON).rsqrt()).to(x.dtype)


def normalisations(name: str, channels: int) -> tuple[nn.Module, nn.Module]:
    """What follows eq. 4 and what follows eq. 6.

    rms, layer: each pair's MA by itself. batch: MA channel by channel over the batch, which leaves no channel mask that
    is the same for all pairs. cosine: each SA by itself, so that eq. 5's mean is the cosine of the two. correlation: SA
    channel by channel over the batch, so that eq. 5 multiplies what deviates from the mean in both images.
    """
    batch = nn.BatchNorm2d(channels, affine=False) if name in ("batch", "correlation") else None
    return {
        "none": (nn.Identity(), nn.Identity()),
        "rms": (nn.Identity(), UnitRMS()),
        "layer": (nn.Identity(), UnitRMS(centred=True)),
        "batch": (nn.Identity(), batch),
        "cosine": (UnitRMS(), nn.Identity()),
        "correlation": (batch, nn.Identity()),
    }[name]
