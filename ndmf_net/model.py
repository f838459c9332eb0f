"""Neighboring-Part Dependency Mining and Feature Fusion Network for Person Re-Identification.

Zhu, Zhou, Zhu, Ma, IEEE Access 2023. This is a ResNet with its last stride at 1, with:
  - PHAM after layer1 and after layer3 (eq. 6): channel attention for each horizontal part (PCAM, eq. 1-3), then spatial
    attention (SAM, eq. 4-5); the attended map feeds the next stage and its own NDEM;
  - NDEM on the same two maps (eq. 8): a two-layer LSTM over the sequence of parts;
  - their fusion with the backbone's feature (eq. 9-10).

Shapes: B images, C channels, H x W of a feature map, N parts, R the LSTM's hidden size, m the size of f_D.
"""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.backbones import batch_norm_neck, build_resnet
from common.devices import constant, full_precision

from .settings import Settings


class Output(NamedTuple):
    """What the losses read."""

    feature: Tensor  # (B, D), f_F or f_B, for the triplet loss
    logits: Tensor  # (B, num_identities)


class NDMFNet(nn.Module):
    """The network, from which any module can be left out as in Table 5; without all of them it is the baseline.

    images: (B, 3, height, width), normalised. ValueError: a map has fewer rows than `num_parts`.
    """

    def __init__(self, num_identities: int, settings: Settings):
        super().__init__()
        self.backbone = build_resnet(
            settings.backbone, last_stride=settings.last_stride, pretrained=settings.pretrained
        )
        channels1, _, channels3, channels4 = self.backbone.channels
        size1, size3 = ((-(-settings.height // stride), -(-settings.width // stride)) for stride in (4, 16))
        if (settings.pcam or settings.ndem) and settings.num_parts > size3[0]:
            raise ValueError(
                f"num_parts is {settings.num_parts}, but layer3's map has only {size3[0]} rows at height "
                f"{settings.height}"
            )

        self.attention1 = part_level_hybrid_attention(channels1, settings)
        self.attention3 = part_level_hybrid_attention(channels3, settings)
        self.dependency1 = self.dependency3 = self.fusion = None
        self.feature_size = channels4
        if settings.ndem:
            self.dependency1 = NeighboringPartDependency(channels1, size1, settings)
            self.dependency3 = NeighboringPartDependency(channels3, size3, settings)
            self.fusion = nn.Linear(channels4 + settings.dependency_size, settings.feature_size, bias=False)  # eq. 10
            self.feature_size = settings.feature_size
        self.neck = batch_norm_neck(self.feature_size) if settings.bnneck else nn.Identity()
        self.classifier = nn.Linear(self.feature_size, num_identities, bias=settings.classifier == "resnet")
        if settings.classifier == "normal":
            nn.init.normal_(self.classifier.weight, std=0.001)  # as Luo et al.: uniform predictions at the start

    def forward(self, images: Tensor) -> Output:
        x1, x3, x4 = self.feature_maps(images)
        feature = x4.mean((2, 3))  # f_B
        if self.fusion is not None:
            f_D = self.dependency1(x1) + self.dependency3(x3)  # eq. 9
            feature = self.fusion(torch.cat([feature, f_D], dim=1))  # eq. 10
        return Output(feature, self.classifier(self.neck(feature)))

    def embed(self, images: Tensor) -> Tensor:
        """The test feature: (B, D), L2-normalised."""
        return functional.normalize(self.neck(self(images).feature).float(), dim=1)

    def feature_map(self, images: Tensor) -> Tensor:
        """Layer4's map (B, C, h, w), shown in Fig. 8."""
        return self.feature_maps(images)[2]

    def feature_maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The maps after layer1 and layer3, attended, and after layer4."""
        x1 = self.attention1(self.backbone.layer1(self.backbone.stem(images)))
        x3 = self.attention3(self.backbone.layer3(self.backbone.layer2(x1)))
        return x1, x3, self.backbone.layer4(x3)


def part_level_hybrid_attention(channels: int, settings: Settings) -> nn.Sequential:
    """PHAM, eq. 6: SAM(PCAM(x)). Table 5's rows leave one or both out."""
    modules: dict[str, nn.Module] = {}
    if settings.pcam:
        modules["pcam"] = PartLevelChannelAttention(channels, settings.num_parts)
    if settings.sam:
        modules["sam"] = SpatialAttention()
    return nn.Sequential(OrderedDict(modules))


class PartLevelChannelAttention(nn.Module):
    """PCAM, eq. 1-3: each horizontal part has its own channel attention, sigmoid(W_i cat(GAP(x_i), GMP(x_i)))."""

    def __init__(self, channels: int, num_parts: int):
        super().__init__()
        self.num_parts = num_parts
        self.weight = nn.Parameter(torch.empty(num_parts, channels, 2 * channels))  # W_i of eq. 1, one for each part
        bound = (2 * channels) ** -0.5  # as nn.Linear does
        nn.init.uniform_(self.weight, -bound, bound)
        self.gates = nn.Identity()  # (B, C, N), seen from outside by activity.py

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W). Parts are those of torch.tensor_split where N does not divide H."""
        # Rows are pooled first: each has W pixels, so the mean of a part's row means is the part's mean.
        row_means = x.mean(3).tensor_split(self.num_parts, dim=2)
        row_maxima = x.amax(3).tensor_split(self.num_parts, dim=2)
        pooled = torch.stack(
            [
                torch.cat([mean.mean(2), maximum.amax(2)], dim=1)
                for mean, maximum in zip(row_means, row_maxima, strict=True)
            ]
        )  # (N, B, 2C)
        attention = torch.sigmoid(
            torch.bmm(pooled, self.weight.transpose(1, 2))
        )  # (N, B, C), eq. 1 for all parts at once
        part_of_row = tuple(i for i, part in enumerate(row_means) for _ in range(part.shape[2]))
        attention = self.gates(attention.permute(1, 2, 0))
        attention = attention.index_select(2, constant(part_of_row, x.device))  # (B, C, H)
        return x * attention[..., None]  # eq. 2-3


class SpatialAttention(nn.Module):
    """SAM, eq. 4-5: sigmoid(conv3x3(cat(mean over channels, maximum over channels)))."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, kernel_size=3, padding=1, bias=False)
        nn.init.zeros_(self.convolution.weight)  # ASSUMED: every gate starts at one half, whatever the seed
        self.gates = nn.Identity()  # (B, 1, H, W), seen from outside by activity.py

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        descriptors = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.gates(torch.sigmoid(self.convolution(descriptors)))


class NeighboringPartDependency(nn.Module):
    """NDEM, eq. 8: f_D = sigmoid(W cat(LSTM(phi(x)))), W in R^(m x 2NR).

    phi gives the sequence of N parts: `flatten` (each part flattened to C * rows * W, shorter parts padded with zeros
    if N does not divide H) or `pool` (each part averaged to C). size: H and W of the map.
    """

    def __init__(self, channels: int, size: tuple[int, int], settings: Settings):
        super().__init__()
        self.num_parts, self.part_features = settings.num_parts, settings.part_features
        height, width = size
        tallest = -(-height // self.num_parts)
        in_features = channels * tallest * width if self.part_features == "flatten" else channels
        R = settings.lstm_hidden_size
        # 2R for each step: either both directions of the second layer, or both layers of one direction.
        self.both_directions = settings.lstm_directions == 2
        if self.both_directions:
            self.lstm = nn.LSTM(in_features, R, num_layers=2, bidirectional=True, batch_first=True)
        else:
            self.lstm = nn.ModuleList([nn.LSTM(size, R, batch_first=True) for size in (in_features, R)])
        self.linear = nn.Linear(2 * self.num_parts * R, settings.dependency_size, bias=False)
        self._initialise_by_fan_in(settings.dependency_gain)

    def _initialise_by_fan_in(self, gain: float) -> None:
        """gain: of what reads the LSTM's states, which start at about a tenth: the second layer and W."""
        # nn.LSTM scales by 1/sqrt(R) whatever the input size; with 65,536 inputs the gates would start saturated.
        inputs = [weight for name, weight in self.lstm.named_parameters() if "weight_ih" in name]
        first = len(inputs) // 2  # weights of the first layer come first
        for weight, factor in zip([*inputs, self.linear.weight], [1.0] * first + [gain] * (first + 1), strict=True):
            bound = factor * weight.shape[1] ** -0.5
            nn.init.uniform_(weight, -bound, bound)

    def sequence(self, x: Tensor) -> Tensor:
        """phi: (B, C, H, W) -> (B, N, in_features)."""
        parts = x.tensor_split(self.num_parts, dim=2)
        if self.part_features == "pool":
            return torch.stack([part.mean((2, 3)) for part in parts], dim=1)
        tallest = parts[0].shape[2]
        padded = [functional.pad(part, (0, 0, 0, tallest - part.shape[2])) for part in parts]
        return torch.stack([part.flatten(1) for part in padded], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> f_D (B, m), each in (0, 1)."""
        with full_precision(x.device):  # in half precision many of the LSTM's gradients round to zero
            states = self.hidden_states(self.sequence(x.to(self.linear.weight.dtype)))
            return torch.sigmoid(self.linear(states.flatten(1)))

    def hidden_states(self, sequence: Tensor) -> Tensor:
        """(B, N, in_features) -> (B, N, 2R)."""
        if self.both_directions:
            return self.lstm(sequence)[0]
        first, _ = self.lstm[0](sequence)
        second, _ = self.lstm[1](first)
        return torch.cat([first, second], dim=2)
