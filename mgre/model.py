"""Learning multi-granularity features from multi-granularity regions for person re-identification.

Yang, Yang, Tian, Neurocomputing 432, 2021. This is a ResNet-IBN-a with
its last stride at 1, with:
  - location modules on the maps of stages 1 to 3 (eq. 1-2), each for its own body regions (Table 1);
  - sampling of the regions from the same maps (eq. 4-5), a residual block for each, and one for the whole image at
    stage 4;
  - an embedding for each stage (Fig. 3), whose normalised features are weighted and concatenated for the search (eq.
    6);
  - semantic guidance: stage 4's map, enlarged, added to those of stages 1 and 2 before anything reads them.

Shapes: B images, C channels, H x W of a stage's map, R regions of a stage, S stages with a feature, D its size;
boxes: (B, R, 4), x_min y_min x_max y_max in parts of the image's width and height.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck

from common.backbones import build_resnet

from .location import LocationModule
from .regions import Region, positions_of, prior_boxes, regions_of
from .sampling import sample

GUIDED_STAGES = (1, 2)  # Sec. 3.1: "the first two residual blocks lack semantic information"


class Outputs(NamedTuple):
    """What the losses read: of the stages with a feature (`feature_stages`), and of those with boxes (`box_stages`)."""

    features: list[Tensor]  # (B, D) for the triplet loss
    logits: list[Tensor]  # (B, num_identities)
    boxes: list[Tensor]  # (B, R, 4)


class MGRe(nn.Module):
    """The network, or any row of Tables 4, 5 and 7; without stages it is the baseline.

    stages: of 1, 2, 3, those with modules; whole_image_stages: of these, where the whole map stands in place of
    regions, so that there is nothing to locate and to sample; single_grained_features: the modules read stage 4's map
    instead of their own; location_only: locate, but search by the baseline's feature; pose_boxes: boxes are given, not
    located.
    """

    def __init__(
        self,
        num_identities: int,
        *,
        backbone: str,
        ibn: bool,
        last_stride: int,
        pretrained: str,
        height: int,
        width: int,
        stages: Sequence[int],
        whole_image_stages: Sequence[int],
        single_grained_features: bool,
        location_only: bool,
        pose_boxes: bool,
        semantic_guidance: bool,
        location_channels: int,
        feature_size: int,
        feature_weights: Sequence[float],
    ):
        super().__init__()
        self.backbone = build_resnet(backbone, last_stride=last_stride, pretrained=pretrained, ibn=ibn)
        self.stages, self.single_grained_features = sorted(stages), single_grained_features
        channels = dict(enumerate(self.backbone.channels, start=1))
        strides = {1: 4, 2: 8, 3: 16, 4: 16 * last_stride}
        sizes = {stage: (-(-height // stride), -(-width // stride)) for stage, stride in strides.items()}

        self.guidance, self.branches = nn.ModuleDict(), nn.ModuleDict()
        for stage in self.stages:
            source = 4 if single_grained_features else stage
            if semantic_guidance and source in GUIDED_STAGES:
                self.guidance[str(stage)] = SemanticGuidance(channels[4], channels[stage])
            self.branches[str(stage)] = Branch(
                channels[source],
                sizes[source],
                () if stage in whole_image_stages else regions_of(stage),
                located=not pose_boxes,
                sampled=not location_only,
                location_channels=location_channels,
            )
        whole_network = bool(self.stages) and not location_only
        if whole_network:
            self.branches["4"] = Branch(channels[4], sizes[4], ())
        self.feature_stages = [*self.stages, 4] if whole_network else [4]
        self.box_stages = [stage for stage in self.stages if self.branches[str(stage)].location is not None]

        self.embeddings = nn.ModuleDict()
        for stage in self.feature_stages:
            source = 4 if single_grained_features else stage
            num_maps = self.branches[str(stage)].num_maps if whole_network else 1
            out_features = feature_size if whole_network else None
            self.embeddings[str(stage)] = Embedding(channels[source] * num_maps, out_features, num_identities)
        self.feature_weights = [feature_weights[stage - 1] for stage in self.feature_stages]

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> Outputs:
        """images: (B, 3, height, width), normalised; boxes: (B, 7, 4) of all REGIONS where they are not located."""
        maps, located = self.region_maps(images, boxes)
        features = [self.embeddings[str(stage)].feature(maps[stage]) for stage in self.feature_stages]
        logits = [
            self.embeddings[str(stage)].logits(feature)
            for stage, feature in zip(self.feature_stages, features, strict=True)
        ]
        return Outputs(features, logits, [located[stage] for stage in self.box_stages])

    def embed(self, images: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Eq. 6, the feature that is compared at test time: (B, S * D)."""
        return weighted(self.stage_features(images, boxes), self.feature_weights)

    def stage_features(self, images: Tensor, boxes: Tensor | None = None) -> Tensor:
        """F-hat of eq. 6: (B, S, D), each stage's feature after its batch norm, L2-normalised."""
        maps, _ = self.region_maps(images, boxes)
        necks = []
        for stage in self.feature_stages:
            embedding = self.embeddings[str(stage)]
            necks.append(embedding.neck(embedding.feature(maps[stage])).float())
        return functional.normalize(torch.stack(necks, dim=1), dim=2)

    def locate(self, images: Tensor) -> dict[int, Tensor]:
        """The predicted boxes of each stage that locates: {stage: (B, R, 4)}."""
        stage_maps = self.stage_maps(images)
        return {stage: self.branches[str(stage)].location(stage_maps[stage]) for stage in self.box_stages}

    def region_maps(
        self, images: Tensor, boxes: Tensor | None = None
    ) -> tuple[dict[int, list[Tensor]], dict[int, Tensor]]:
        """For each stage the maps that its embedding pools, (B, C, N, M) each, and its regions' boxes (B, R, 4)."""
        stage_maps = self.stage_maps(images)
        maps, used_boxes = {4: [stage_maps[4]]}, {}
        for name, branch in self.branches.items():
            stage = int(name)
            given = None if boxes is None else boxes[:, positions_of(stage)]
            maps[stage], used_boxes[stage] = branch(stage_maps[stage], given)
        return maps, used_boxes

    def stage_maps(self, images: Tensor) -> dict[int, Tensor]:
        """What each stage's modules read: its map, guided by stage 4's; stage 4's own."""
        found, x = {}, self.backbone.stem(images)
        for stage in (1, 2, 3, 4):
            x = found[stage] = getattr(self.backbone, f"layer{stage}")(x)
        if self.single_grained_features:
            return dict.fromkeys(found, x)
        return {
            stage: self.guidance[str(stage)](own, x) if str(stage) in self.guidance else own
            for stage, own in found.items()
        }


def weighted(stage_features: Tensor, weights: Sequence[float]) -> Tensor:
    """Eq. 6: (B, S, D) and S weights lambda^F -> (B, S * D)."""
    return (stage_features * stage_features.new_tensor(weights)[:, None]).flatten(1)


class SemanticGuidance(nn.Module):
    """A shallow map plus stage 4's, with as many channels by a 1x1 convolution and as many pixels by upsampling.

    The paper enlarges first and convolves then. The two commute (tested), and the other order costs 1/16 at stage 1 and
    1/4 at stage 2; `upsample_first` takes the paper's, for counting.
    """

    upsample_first = False

    def __init__(self, last_channels: int, channels: int):
        super().__init__()
        self.convolution = nn.Conv2d(last_channels, channels, kernel_size=1, bias=False)

    def forward(self, x: Tensor, last: Tensor) -> Tensor:
        """(B, C, H, W) and stage 4's (B, C4, h, w) -> (B, C, H, W)."""
        enlarge = {"size": x.shape[2:], "mode": "bilinear", "align_corners": False}
        if self.upsample_first:
            return x + self.convolution(functional.interpolate(last, **enlarge))
        return x + functional.interpolate(self.convolution(last), **enlarge)


class Branch(nn.Module):
    """A stage's location, sampling and feature extraction modules; without regions, feature extraction of the whole
    map.

    size: (H, W) of the map; located: whether it predicts the boxes; sampled: whether it has features at all.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        regions: Sequence[Region],
        *,
        located: bool = True,
        sampled: bool = True,
        location_channels: int = 0,
    ):
        super().__init__()
        self.sampled_sizes = [region.sampled_size(*size) for region in regions]
        self.num_maps = len(regions) or 1
        self.location = None
        if regions and located:
            self.location = LocationModule(channels, *size, regions, hidden_channels=location_channels)
        # Not shared: each extracts features of another granularity. The width is ResNet's own for this many channels.
        self.extraction = nn.ModuleList(
            Bottleneck(channels, channels // Bottleneck.expansion) for _ in range(self.num_maps if sampled else 0)
        )

    def forward(self, x: Tensor, boxes: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """The map (B, C, H, W) and, where it does not locate, boxes (B, R, 4) -> extracted maps, and the boxes used."""
        if self.location is not None:
            boxes = self.location(x)
        parts = [x]
        if self.sampled_sizes and self.extraction:
            parts = [sample(x, boxes[:, region], size) for region, size in enumerate(self.sampled_sizes)]
        if not self.extraction:
            return [], boxes
        return [extract(part) for extract, part in zip(self.extraction, parts, strict=True)], boxes


class Embedding(nn.Module):
    """Fig. 3: average and maximum pooling, concatenation, a fully connected layer; batch norm and a classifier.

    The triplet loss reads the feature before the batch norm, the search the one after it, as Luo et al.'s "batch
    normalization neck" has it (ASSUMED). out_features None: no fully connected layer, as the baseline.
    """

    def __init__(self, in_features: int, out_features: int | None, num_identities: int):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False) if out_features else nn.Identity()
        size = out_features or in_features
        self.neck = nn.BatchNorm1d(size)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(size, num_identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)  # ASSUMED: not stated; uniform predictions at the start

    def feature(self, maps: Sequence[Tensor]) -> Tensor:
        """The regions' maps, (B, C, N, M) each -> (B, D)."""
        return self.linear(torch.cat([x.mean((2, 3)) + x.amax((2, 3)) for x in maps], dim=1))

    def logits(self, feature: Tensor) -> Tensor:
        """(B, D) -> (B, num_identities)."""
        return self.classifier(self.neck(feature))


def boxes_from_poses(targets: Tensor, known: Tensor) -> Tensor:
    """(B, 7, 4) for a network without location modules: Table 1's box where a region has no joints."""
    return torch.where(known[..., None], targets, prior_boxes().to(targets))
