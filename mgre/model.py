"""Learning multi-granularity features from multi-granularity regions for person re-identification.

Yang, Yang, Tian, Neurocomputing 432, 2021. This is a ResNet-IBN-a with its last stride at 1, with:
  - location modules on the maps of stages 1 to 3 (eq. 1-2), each for its own body regions (Table 1);
  - sampling of the regions from the same maps (eq. 4-5), a residual block for each, and one for the whole image at
    stage 4;
  - an embedding for each stage (Fig. 3), whose normalised features are weighted and concatenated (eq. 6);
  - semantic guidance: stage 4's map, upsampled, is added to those of stages 1 and 2 before any module reads them.

Shapes: B images, C channels, H x W of a stage's map, R regions of a stage, S stages with a feature, D its size;
boxes: (B, R, 4), x_min y_min x_max y_max in parts of the image's width and height.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck

from common.backbones import batch_norm_neck, build_resnet

from .box_gradient import for_sampling
from .location import LocationModule
from .regions import Region, map_sizes, positions_of, prior_boxes, regions_of
from .sampling import sample
from .settings import Settings

GUIDED_STAGES = (1, 2)  # Sec. 3.1: "the first two residual blocks lack semantic information"


class Output(NamedTuple):
    """What the losses read, by stage: of those with a feature (`feature_stages`) and of those that locate
    (`box_stages`)."""

    features: dict[int, Tensor]  # (B, D), for the triplet loss
    logits: dict[int, Tensor]  # (B, num_identities)
    boxes: dict[int, Tensor]  # (B, R, 4), predicted


class MGRe(nn.Module):
    """The network, or any row of Tables 4, 5 and 7; without stages it is the baseline.

    Of the settings: `stages` have modules of their own; `whole_image_stages`, some of these, take the whole map in
    place of regions, so that there is nothing to locate and to sample; with `single_grained_features` all modules read
    stage 4's map; with `location_only` regions are located, but the baseline's feature is compared; with `pose_boxes`
    boxes are given, not located; with `fixed_boxes` they are the same for all images, those of `start_at`.
    """

    def __init__(self, num_identities: int, settings: Settings):
        super().__init__()
        self.backbone = build_resnet(
            settings.backbone, last_stride=settings.last_stride, pretrained=settings.pretrained, ibn=settings.ibn
        )
        self.stages, self.single_grained_features = sorted(settings.stages), settings.single_grained_features
        channels = dict(enumerate(self.backbone.channels, start=1))
        sizes = map_sizes(settings)

        self.guidance, self.branches = nn.ModuleDict(), nn.ModuleDict()
        for stage in self.stages:
            source = 4 if settings.single_grained_features else stage
            if settings.semantic_guidance and source in GUIDED_STAGES:
                self.guidance[str(stage)] = SemanticGuidance(channels[4], channels[stage])
            regions = () if stage in settings.whole_image_stages else regions_of(stage)
            self.branches[str(stage)] = Branch(channels[source], sizes[stage], regions, settings)
        has_stage_features = bool(self.stages) and not settings.location_only
        if has_stage_features:
            self.branches["4"] = Branch(channels[4], sizes[4], (), settings)
        self.feature_stages = [*self.stages, 4] if has_stage_features else [4]
        self.box_stages = [stage for stage in self.stages if self.branches[str(stage)].location is not None]

        self.embeddings = nn.ModuleDict()
        for stage in self.feature_stages:
            source = 4 if settings.single_grained_features else stage
            num_maps = len(self.branches[str(stage)].extraction) if has_stage_features else 1
            out_features = settings.feature_size if has_stage_features else None
            self.embeddings[str(stage)] = Embedding(channels[source] * num_maps, out_features, num_identities)
        self.feature_weights = [settings.feature_weights[stage - 1] for stage in self.feature_stages]
        self.starts_at_mean = settings.location_start == "mean"
        self.register_buffer("fixed_boxes", prior_boxes() if settings.fixed_boxes else None)

    @torch.no_grad()
    def start_at(self, boxes: Tensor) -> None:
        """The training images' mean boxes (7, 4): the fixed ones, or where location starts, if the settings say so."""
        if self.fixed_boxes is not None:
            self.fixed_boxes.copy_(boxes)
        for stage in self.box_stages if self.starts_at_mean else ():
            self.branches[str(stage)].location.start_at(boxes[positions_of(stage)])

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> Output:
        """images: (B, 3, height, width), normalised; boxes: (B, 7, 4) of all REGIONS where they are not located."""
        maps, located = self.region_maps(images, boxes)
        features = {stage: self.embeddings[str(stage)].feature(maps[stage]) for stage in self.feature_stages}
        logits = {stage: self.embeddings[str(stage)].logits(feature) for stage, feature in features.items()}
        return Output(features, logits, {stage: located[stage] for stage in self.box_stages})

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
        if boxes is None and self.fixed_boxes is not None:
            boxes = self.fixed_boxes.expand(len(images), -1, -1)
        maps, used_boxes = {4: [stage_maps[4]]}, {}
        for name, branch in self.branches.items():
            stage = int(name)
            given = boxes[:, positions_of(stage)] if boxes is not None and branch.sampled_sizes else None
            maps[stage], used_boxes[stage] = branch(stage_maps[stage], given)
        return maps, used_boxes

    def stage_maps(self, images: Tensor) -> dict[int, Tensor]:
        """What each stage's modules read: its map, guided by stage 4's where that is due."""
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
    """A shallow map plus stage 4's, brought to its channels by a 1x1 convolution and to its size by upsampling.

    The paper upsamples first, then convolves. The two commute (tested), and convolving first costs 1/16 of it at stage
    1 and 1/4 at stage 2. `upsample_first` is the paper's order, for counting its multiply-accumulates.
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
    """The location, sampling and feature extraction modules of a stage's regions; without regions, the feature
    extraction of its whole map. `location_only` has no extraction, `pose_boxes` and `fixed_boxes` have no location.

    size: (H, W) of the map.
    """

    def __init__(self, channels: int, size: tuple[int, int], regions: Sequence[Region], settings: Settings):
        super().__init__()
        self.settings = settings
        self.sampled_sizes = [region.sampled_size(*size) for region in regions]
        self.location = None
        if regions and not (settings.pose_boxes or settings.fixed_boxes):
            self.location = LocationModule(channels, size, regions, settings)
        num_maps = 0 if settings.location_only else len(regions) or 1
        # Not shared: each extracts features of another granularity. The width is ResNet's own for this many channels.
        self.extraction = nn.ModuleList(Bottleneck(channels, channels // Bottleneck.expansion) for _ in range(num_maps))

    def forward(self, x: Tensor, boxes: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """The map (B, C, H, W) and, where it does not locate, boxes (B, R, 4) -> extracted maps, and the boxes used."""
        if self.location is not None:
            boxes = self.location(x)
        if not self.extraction:
            return [], boxes
        sampled = None if boxes is None else for_sampling(boxes, self.settings)
        parts = [sample(x, sampled[:, region], size) for region, size in enumerate(self.sampled_sizes)] or [x]
        return [extract(part) for extract, part in zip(self.extraction, parts, strict=True)], boxes


class Embedding(nn.Module):
    """Fig. 3: average and maximum pooling, concatenation, a fully connected layer; batch norm and a classifier.

    The triplet loss reads the feature before the batch norm, the search compares the one after it, as with Luo et
    al.'s neck (ASSUMED). out_features None: no fully connected layer, as in the baseline.
    """

    def __init__(self, in_features: int, out_features: int | None, num_identities: int):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=False) if out_features else nn.Identity()
        size = out_features or in_features
        self.neck = batch_norm_neck(size)
        self.classifier = nn.Linear(size, num_identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)  # ASSUMED: not stated; uniform predictions at the start

    def feature(self, maps: Sequence[Tensor]) -> Tensor:
        """The regions' maps, (B, C, N, M) each -> (B, D)."""
        return self.linear(torch.cat([x.mean((2, 3)) + x.amax((2, 3)) for x in maps], dim=1))

    def logits(self, feature: Tensor) -> Tensor:
        """(B, D) -> (B, num_identities)."""
        return self.classifier(self.neck(feature))
