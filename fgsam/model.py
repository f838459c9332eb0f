"""Fine-Grained Spatial Alignment Model for Person Re-Identification With Focal Triplet Loss.

Zhou, Zhong, Lan, Sun, Zhang, Zhang, Ji, IEEE TIP 29, 2020, https://doi.org/10.1109/TIP.2020.3004267. This is a ResNet
that becomes FGSAM in three phases (Sec. IV-B):
  - phase 1, the baseline: its pooled feature and an identity classifier;
  - phase 2, the intermediate model: the pose resolve net beside it, both fused by compact bilinear pooling in one
    branch of all channels, and attribute classifiers;
  - phase 3, the locally reinforced alignment mode (LRAM): six more branches, each with a body part's channels, that
    classify the attributes of their part.

Shapes: B images, C channels of the backbone's last map, H x W its cells, D the compact bilinear dimension.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.backbones import build_resnet

from .attribute_tasks import PART_OF_TASK
from .bilinear import CountSketch, compact_bilinear, normalise_bilinear
from .pose_net import PoseNet
from .skeleton import NUM_CHANNELS, NUM_FIELDS, NUM_MAPS, PARTS, part_channels

PLENARY = "plenary"


class Outputs(NamedTuple):
    """embeddings: branch -> (B, size); identity_logits: (B, identities); attribute_logits: task -> (B, values)."""

    embeddings: dict[str, Tensor]
    identity_logits: Tensor
    attribute_logits: dict[str, Tensor]


class Baseline(nn.Module):
    """Phase 1: the backbone's pooled feature, and identities classified from it. images: (B, 3, height, width)."""

    def __init__(self, num_identities: int, *, backbone: str, last_stride: int, pretrained: str, bnneck: bool):
        super().__init__()
        self.backbone = build_resnet(backbone, last_stride=last_stride, pretrained=pretrained)
        self.neck = batch_norm_neck(self.backbone.channels[-1]) if bnneck else nn.Identity()
        self.identity_classifier = nn.Linear(self.backbone.channels[-1], num_identities)

    def forward(self, images: Tensor) -> Outputs:
        feature = self.neck(self.backbone(images).mean((2, 3)))
        return Outputs({PLENARY: feature}, self.identity_classifier(feature), {})

    def embed(self, images: Tensor) -> Tensor:
        return test_feature(self(images))


class FGSAM(nn.Module):
    """Phase 2, of the plenary branch alone, and phase 3, with a branch for each part. images: (B, 3, height, width).

    num_values: attribute task -> how many values it has; none to do without attributes.
    """

    def __init__(
        self,
        num_identities: int,
        num_values: Mapping[str, int],
        *,
        phase: int,
        backbone: str,
        last_stride: int,
        pretrained: str,
        bnneck: bool,
        pose_width_factor: float,
        pose_batch_norm: bool,
        cpb: bool,
        bilinear_size: int,
        plenary_size: int,
        part_size: int,
    ):
        super().__init__()
        self.backbone = build_resnet(backbone, last_stride=last_stride, pretrained=pretrained)
        self.pose_net = PoseNet(width=pose_width_factor, batch_norm=pose_batch_norm, cpb=cpb)
        channels = self.backbone.channels[-1]
        # Eq. 6-8, which print neither scale nor shift.
        self.backbone_norm = nn.BatchNorm2d(channels, affine=False)
        self.maps_norm = nn.BatchNorm2d(NUM_MAPS, affine=False)
        self.fields_norm = nn.BatchNorm2d(NUM_FIELDS, affine=False)
        self.backbone_sketch = CountSketch(channels, bilinear_size, seed=0)

        parts = PARTS if phase == 3 else ()
        self.branches = nn.ModuleDict({PLENARY: Branch(list(range(NUM_CHANNELS)), bilinear_size, plenary_size, seed=1)})
        for seed, part in enumerate(parts, start=2):
            self.branches[part] = Branch(part_channels(part), bilinear_size, part_size, seed=seed)
        self.neck = batch_norm_neck(plenary_size) if bnneck else nn.Identity()
        self.identity_classifier = nn.Linear(plenary_size, num_identities)
        self.branch_of = {task: PART_OF_TASK[task] if parts else PLENARY for task in num_values}
        self.attribute_classifiers = nn.ModuleDict(
            {task: nn.Linear(part_size if parts else plenary_size, count) for task, count in num_values.items()}
        )

    def forward(self, images: Tensor) -> Outputs:
        feature_map = self.backbone_norm(self.backbone(images).float())
        sketch = self.backbone_sketch(feature_map)
        maps, fields = self.pose_maps(images).split([NUM_MAPS, NUM_FIELDS], dim=1)
        pose = torch.cat([self.maps_norm(maps), self.fields_norm(fields)], dim=1)
        pose = functional.adaptive_avg_pool2d(pose, feature_map.shape[2:])  # one position for each of the backbone's
        embeddings = {name: branch(pose, sketch) for name, branch in self.branches.items()}
        embeddings[PLENARY] = self.neck(embeddings[PLENARY])
        attribute_logits = {
            task: classifier(embeddings[self.branch_of[task]])
            for task, classifier in self.attribute_classifiers.items()
        }
        return Outputs(embeddings, self.identity_classifier(embeddings[PLENARY]), attribute_logits)

    def pose_maps(self, images: Tensor) -> Tensor:
        """What the pose resolve net's last stage gives, (B, 57, height / 8, width / 8)."""
        return self.pose_net(images)[-1].float()

    def embed(self, images: Tensor) -> Tensor:
        return test_feature(self(images))


class Branch(nn.Module):
    """Some channels of the pose resolve net -> 1x1 convolution -> compact bilinear pooling with the backbone's map ->
    1x1 convolution to an embedding (Sec. III-C)."""

    def __init__(self, channels: list[int], bilinear_size: int, size: int, *, seed: int):
        super().__init__()
        self.register_buffer("channels", torch.tensor(channels))
        self.integrate = nn.Conv2d(len(channels), len(channels), kernel_size=1)
        self.sketch = CountSketch(len(channels), bilinear_size, seed=seed)
        self.embedding = nn.Conv2d(bilinear_size, size, kernel_size=1)

    def forward(self, pose: Tensor, backbone_sketch: Tensor) -> Tensor:
        """pose: (B, 57, H, W); backbone_sketch: (B, H * W, D // 2 + 1) -> (B, size)."""
        own = self.sketch(self.integrate(pose[:, self.channels]))
        pooled = normalise_bilinear(compact_bilinear(backbone_sketch, own, self.sketch.dimension))
        # Of unit variance, not of unit length, for the convolution to start as any does.
        pooled = pooled * self.sketch.dimension**0.5
        return self.embedding(pooled[:, :, None, None]).flatten(1)


def test_feature(outputs: Outputs) -> Tensor:
    """The branches' embeddings side by side, plenary first, L2-normalised: (B, D)."""
    return functional.normalize(torch.cat(list(outputs.embeddings.values()), dim=1).float(), dim=1)


def batch_norm_neck(size: int) -> nn.BatchNorm1d:
    """Luo et al., "A Strong Baseline and Batch Normalization Neck": batch norm without a learned shift."""
    neck = nn.BatchNorm1d(size)
    neck.bias.requires_grad_(False)
    return neck
