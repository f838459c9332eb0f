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

from common import backbones

from .attribute_tasks import PART_OF_TASK
from .bilinear import CountSketch, compact_bilinear, normalise_bilinear
from .pose_net import PoseNet
from .settings import Settings
from .skeleton import NUM_CHANNELS, NUM_FIELDS, NUM_MAPS, PARTS, part_channels

PLENARY = "plenary"


class Output(NamedTuple):
    """What the losses read."""

    embeddings: dict[str, Tensor]  # branch -> (B, size), before a neck
    identity_logits: Tensor  # (B, num_identities)
    attribute_logits: dict[str, Tensor]  # task -> (B, values)
    compared: dict[str, Tensor]  # what is compared at test time: the embeddings, the plenary one behind its neck
    pose_stages: tuple[Tensor, ...] = ()  # of each stage of the pose resolve net (B, 57, h, w), before its CPB


class Baseline(nn.Module):
    """Phase 1: the backbone's pooled feature, and identities classified from it. images: (B, 3, height, width)."""

    def __init__(self, num_identities: int, settings: Settings):
        super().__init__()
        self.backbone = backbones.build_resnet(
            settings.backbone, last_stride=settings.last_stride, pretrained=settings.pretrained
        )
        channels = self.backbone.channels[-1]
        self.neck = backbones.batch_norm_neck(channels) if settings.bnneck else nn.Identity()
        self.identity_classifier = nn.Linear(channels, num_identities)

    def forward(self, images: Tensor) -> Output:
        feature = self.backbone(images).mean((2, 3))
        compared = self.neck(feature)
        return Output({PLENARY: feature}, self.identity_classifier(compared), {}, {PLENARY: compared})

    def embed(self, images: Tensor) -> Tensor:
        """The feature that is compared at test time: (B, D), L2-normalised."""
        return side_by_side(self(images))


class FGSAM(nn.Module):
    """Phase 2, with the plenary branch alone, and phase 3, with a branch for each part. images: (B, 3, height, width).

    num_values: attribute task -> how many values it has; empty to do without attributes. The backbone has no
    pretrained weights here: it gets those of the phase before (see phases.py).

    pose_images, (B', 3, h, w): the images of which `pose_stages` are given, in place of `images`.
    """

    def __init__(self, num_identities: int, num_values: Mapping[str, int], settings: Settings, *, phase: int):
        super().__init__()
        self.backbone = backbones.build_resnet(settings.backbone, last_stride=settings.last_stride, pretrained="none")
        self.pose_net = PoseNet(settings, cpb=settings.cpb, frozen=not settings.pose_trained)
        channels = self.backbone.channels[-1]
        # Eq. 6-8, which print neither scale nor shift.
        self.backbone_norm = nn.BatchNorm2d(channels, affine=False)
        self.maps_norm = nn.BatchNorm2d(NUM_MAPS, affine=False)
        self.fields_norm = nn.BatchNorm2d(NUM_FIELDS, affine=False)
        self.backbone_sketch = CountSketch(channels, settings.bilinear_size, seed=0)

        self.unit_branches, self.pool_first = settings.unit_branches, settings.pose_pooling == "before_norm"
        parts = parts_of(num_values, settings) if phase == 3 else ()
        all_channels = list(range(NUM_CHANNELS))
        self.branches = nn.ModuleDict({PLENARY: Branch(all_channels, settings.plenary_size, settings, seed=1)})
        for seed, part in enumerate(parts, start=2):
            self.branches[part] = Branch(part_channels(part), settings.part_size, settings, seed=seed)
        self.neck = backbones.batch_norm_neck(settings.plenary_size) if settings.bnneck else nn.Identity()
        self.identity_classifier = nn.Linear(settings.plenary_size, num_identities)
        self.branch_of = {task: PART_OF_TASK[task] if parts else PLENARY for task in num_values}
        size = settings.part_size if parts else settings.plenary_size
        self.attribute_classifiers = nn.ModuleDict({task: nn.Linear(size, count) for task, count in num_values.items()})

    def forward(self, images: Tensor, pose_images: Tensor | None = None) -> Output:
        feature_map = self.backbone_norm(self.backbone(images).float())
        sketch = self.backbone_sketch(feature_map)
        stages, parsed = self.pose_net.both(images)
        pose = self.normalised_pose(parsed[-1].float(), feature_map.shape[2:])
        embeddings = {name: branch(pose, sketch) for name, branch in self.branches.items()}
        compared = embeddings | {PLENARY: self.neck(embeddings[PLENARY])}
        attribute_logits = {
            task: classifier(compared[self.branch_of[task]]) for task, classifier in self.attribute_classifiers.items()
        }
        stages = stages if pose_images is None else self.pose_net.both(pose_images)[0]
        return Output(
            embeddings, self.identity_classifier(compared[PLENARY]), attribute_logits, compared, tuple(stages)
        )

    def normalised_pose(self, maps: Tensor, cells: torch.Size) -> Tensor:
        """Eq. 7-8, and one position for each of the backbone's cells: (B, 57, h, w) -> (B, 57, H, W)."""
        if self.pool_first:
            maps = functional.adaptive_avg_pool2d(maps, cells)
        maps, fields = maps.split([NUM_MAPS, NUM_FIELDS], dim=1)
        pose = torch.cat([self.maps_norm(maps), self.fields_norm(fields)], dim=1)
        return pose if self.pool_first else functional.adaptive_avg_pool2d(pose, cells)

    def pose_maps(self, images: Tensor) -> Tensor:
        """The pose resolve net's last stage, (B, 57, height / 8, width / 8)."""
        return self.pose_net(images)[-1].float()

    def embed(self, images: Tensor) -> Tensor:
        """The feature that is compared at test time: (B, D), L2-normalised."""
        return side_by_side(self(images), unit_branches=self.unit_branches)


class Branch(nn.Module):
    """Some channels of the pose resolve net -> 1x1 convolution -> compact bilinear pooling with the backbone's map ->
    1x1 convolution to an embedding (Sec. III-C). seed: of the branch's count sketch."""

    def __init__(self, channels: list[int], size: int, settings: Settings, *, seed: int):
        super().__init__()
        self.register_buffer("channels", torch.tensor(channels))
        self.integrate = nn.Conv2d(len(channels), len(channels), kernel_size=1)
        self.sketch = CountSketch(len(channels), settings.bilinear_size, seed=seed)
        self.embedding = nn.Conv2d(settings.bilinear_size, size, kernel_size=1)
        # Unit variance in place of unit length is what the convolution's initialisation expects.
        self.scale = settings.bilinear_size**0.5 if settings.bilinear_scale == "unit_variance" else 1.0

    def forward(self, pose: Tensor, backbone_sketch: Tensor) -> Tensor:
        """pose: (B, 57, H, W); backbone_sketch: (B, H * W, D // 2 + 1) -> (B, size)."""
        own = self.sketch(self.integrate(pose[:, self.channels]))
        pooled = normalise_bilinear(compact_bilinear(backbone_sketch, own, self.sketch.dimension))
        return self.embedding(self.scale * pooled[:, :, None, None]).flatten(1)


def parts_of(num_values: Mapping[str, int], settings: Settings) -> tuple[str, ...]:
    """The parts that have a branch in phase 3."""
    if not settings.parts:
        return ()
    with_task = {PART_OF_TASK[task] for task in num_values}
    return PARTS if settings.taskless_branches else tuple(part for part in PARTS if part in with_task)


def side_by_side(output: Output, *, unit_branches: bool = False) -> Tensor:
    """What all branches compare in one vector, plenary first, L2-normalised: (B, D). unit_branches: each branch's own
    is L2-normalised first, so that all count alike."""
    features = [feature.float() for feature in output.compared.values()]
    if unit_branches:
        features = [functional.normalize(feature, dim=1) for feature in features]
    return functional.normalize(torch.cat(features, dim=1), dim=1)


def network_of_phase(
    phase: int, num_identities: int, num_values: Mapping[str, int], settings: Settings
) -> Baseline | FGSAM:
    """num_values: attribute task -> how many values it has; phase 1 has no attributes."""
    if phase == 1:
        return Baseline(num_identities, settings)
    return FGSAM(num_identities, num_values, settings, phase=phase)
