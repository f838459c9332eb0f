"""Compact bilinear pooling by Tensor Sketch (Gao et al., "Compact Bilinear Pooling", CVPR 2016, Algorithm 2).

Shapes: B images, P positions of a map, C channels of an input, D the output dimension, F = D // 2 + 1 frequencies.
"""

import torch
from torch import Tensor, nn


class CountSketch(nn.Module):
    """Adds each of C channels, with a random sign s, to a random one of D places h (Algorithm 2).

    The expected inner product of two sketches is that of their inputs. The draws are saved with the weights.
    """

    def __init__(self, channels: int, dimension: int, *, seed: int):
        super().__init__()
        self.dimension = dimension
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("place", torch.randint(dimension, (channels,), generator=generator))
        self.register_buffer("sign", 2.0 * torch.randint(2, (channels,), generator=generator) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the sketch of each position in the frequency domain, (B, P, F) complex64."""
        batch = x.shape[0]
        rows = x.float().flatten(2).transpose(0, 1).flatten(1) * self.sign[:, None]  # (C, B * P), to add whole rows
        sketch = rows.new_zeros(self.dimension, rows.shape[1]).index_add(0, self.place, rows)
        return torch.fft.rfft(sketch.T.contiguous()).unflatten(0, (batch, -1))


def compact_bilinear(first: Tensor, second: Tensor, dimension: int) -> Tensor:
    """The Tensor Sketch of the outer products of two inputs, summed over positions: (B, P, F) twice -> (B, D).

    A product of spectra is the circular convolution of the sketches, which is the sketch of the outer product.
    """
    return torch.fft.irfft((first * second).sum(1), n=dimension)


def normalise_bilinear(pooled: Tensor) -> Tensor:
    """Signed square root, then L2: (B, D) -> (B, D)."""
    rooted = torch.sign(pooled) * (pooled.abs() + 1e-5).sqrt()  # the root's slope is infinite at 0
    return nn.functional.normalize(rooted, dim=1)
