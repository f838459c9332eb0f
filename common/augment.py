"""Augmentation of a whole batch, on the batch's own device, from a seeded generator.

Legend: images (B, C, H, W), uint8 as decoded or float as normalised. Each paper chooses which of these it uses, in
which order and with which settings. Random draws are made on the CPU, so that a seed gives the same batch on every
device. Crops and flips copy one slice per image, which on a CPU is several times as fast as one gather over all pixels
(measured).
"""

import math

import numpy as np
import torch
from torch import Tensor

from common.devices import constant, to_device

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


def batch_generator(seed: int, epoch: int, step: int, rank: int = 0) -> torch.Generator:
    """The generator for one training step of one process; it depends on (seed, epoch, step, rank) only."""
    # Hashed: torch's CPU generator reads only the low 32 bits of its seed.
    # step + 1: with a last 0 the sequence is that of [seed, epoch], which seeds torch's own generator.
    state = np.random.SeedSequence([seed, epoch, step + 1], spawn_key=(rank,) if rank else ()).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


def normalise(images: Tensor, mean: tuple = IMAGENET_MEAN, std: tuple = IMAGENET_STD) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 (x / 255 - mean) / std, channel by channel."""
    scale = constant(tuple(1 / (255 * s) for s in std), images.device).view(1, 3, 1, 1)
    shift = constant(tuple(-m / s for m, s in zip(mean, std, strict=True)), images.device).view(1, 3, 1, 1)
    return images.to(torch.float32).mul_(scale).add_(shift)


def choose(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """(count,) bool on the CPU, each true with the given probability."""
    return torch.rand(count, generator=generator) < probability


def random_flip(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with the given probability."""
    return flip(images, choose(len(images), probability, generator))


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images, (B,) bool, left to right. Annotations of the images (joints) must be mirrored too."""
    flipped = images.clone()
    for index in chosen.nonzero().squeeze(1).tolist():
        flipped[index] = images[index].flip(2)
    return flipped


def gray(images: Tensor, weights: Tensor | None = None) -> Tensor:
    """Replace all three channels by their weighted sum: luma (ITU-R BT.601), unless weights, (B, 3), are given."""
    weights = constant(LUMA, images.device) if weights is None else to_device(weights, images.device)
    mixed = (images.float() * weights.view(-1, 3, 1, 1)).sum(1, keepdim=True)
    mixed = mixed if images.is_floating_point() else mixed.round()
    return mixed.to(images.dtype).expand(-1, 3, -1, -1).contiguous()


def random_channel_mix(images: Tensor, generator: torch.Generator) -> Tensor:
    """Gray images, each with its own weights, drawn uniformly from the positive weights that sum to 1."""
    weights = -torch.rand(len(images), 3, generator=generator).clamp_min(1e-6).log()  # a flat Dirichlet distribution
    return gray(images, weights / weights.sum(1, keepdim=True))


def random_tone(images: Tensor, gamma_spread: float, gain_spread: float, generator: torch.Generator) -> Tensor:
    """Change the exposure of each image at random: v becomes min(1, gain * v ** gamma), for v in [0, 1].

    log gamma and log gain are normal with mean 0; the spreads are their standard deviations. images: uint8.
    """
    if gamma_spread == gain_spread == 0:
        return images
    draws = torch.randn(2, len(images), 1, generator=generator)
    gamma, gain = (gamma_spread * draws[0]).exp(), (gain_spread * draws[1]).exp()
    tables = (gain * torch.linspace(0, 1, 256) ** gamma * 255).clamp(max=255).round().to(images.dtype)  # (B, 256)
    tables = to_device(tables, images.device)
    return torch.stack([table[image.long()] for table, image in zip(tables, images, strict=True)])


def pad_and_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad each image with `padding` zeros on every side and crop it to its original size at a random position."""
    if padding == 0:
        return images
    height, width = images.shape[2:]
    offsets = (torch.randint(0, 2 * padding + 1, (2, len(images)), generator=generator) - padding).T.tolist()
    cropped = torch.zeros_like(images)
    for target, image, (top, left) in zip(cropped, images, offsets, strict=True):
        rows, columns = slice(max(0, top), height + min(0, top)), slice(max(0, left), width + min(0, left))
        target_rows = slice(max(0, -top), height - max(0, top))
        target_columns = slice(max(0, -left), width - max(0, left))
        target[:, target_rows, target_columns] = image[:, rows, columns]
    return cropped


def random_erasing(
    images: Tensor,
    probability: float,
    generator: torch.Generator,
    *,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    value: float = 0.0,
) -> Tensor:
    """Random erasing (Zhong et al., AAAI 2020): one rectangle of each chosen image is set to `value`, in place.

    area: the rectangle's share of the image, drawn uniformly; aspect: height / width, drawn uniformly in the logarithm.
    A rectangle that does not fit is cut to the image's height or width. With normalised images, 0 is the mean colour.
    """
    batch, _, height, width = images.shape
    draws = torch.rand(5, batch, generator=generator)
    target_area = (area[0] + draws[1] * (area[1] - area[0])) * height * width
    ratio = torch.exp(math.log(aspect[0]) + draws[2] * (math.log(aspect[1]) - math.log(aspect[0])))
    erased_height = (target_area * ratio).sqrt().round().clamp(1, height)
    erased_width = (target_area / ratio).sqrt().round().clamp(1, width)
    top = (draws[3] * (height - erased_height + 1)).floor()
    left = (draws[4] * (width - erased_width + 1)).floor()
    chosen = (draws[0] < probability).nonzero().squeeze(1)
    for index in chosen.tolist():
        row, column = int(top[index]), int(left[index])
        images[index, :, row : row + int(erased_height[index]), column : column + int(erased_width[index])] = value
    return images
