"""An Improved Deep Mutual-Attention Learning Model for Person Re-Identification.

Jamal, Jiang, Fang, Symmetry 2020. This is a Siamese ResNet, shared by the two images of a pair, with:
  - mutual attention after layer3 and after layer4 (eq. 1-8): the product of the two images' self-attention maps
    reweights the feature maps of both;
  - two paths from layer3 on: the plain maps go to the identification task, the attended ones to the verification task;
  - a 512-d layer shared by both paths, an identity classifier on it (eq. 9), and a verifier that reads the squared
    difference of the two images' vectors (eq. 11).

Shapes: B pairs, n images, C channels, H x W of a feature map, E the size of the descriptor (512). The images of B pairs
form one batch of 2B: all first ones, then all second ones.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.backbones import build_resnet

from .settings import Settings

SAME, DIFFERENT = 0, 1  # eq. 12: [1, 0] for the same person, [0, 1] for different ones


class Output(NamedTuple):
    """What the losses read of B pairs."""

    identity_logits: Tensor  # (2B, num_identities)
    verification_logits: Tensor  # (B, 2), SAME and DIFFERENT


class MutualAttentionNet(nn.Module):
    """The network; without `attention` it is the baseline, whose verifier reads the plain path.

    Images are (n, 3, height, width), as train.py prepares them.
    """

    def __init__(self, num_identities: int, settings: Settings):
        super().__init__()
        self.backbone = build_resnet(
            settings.backbone, last_stride=settings.last_stride, pretrained=settings.pretrained
        )
        _, _, channels3, channels4 = self.backbone.channels
        E = settings.descriptor_size
        self.attention, self.descriptor = settings.attention, settings.descriptor

        self.embedding = sequential_layer(channels4, E)
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(E, num_identities)  # eq. 9
        self.verifier = nn.Sequential(sequential_layer(E, E), nn.Dropout(settings.dropout), nn.Linear(E, 2))  # eq. 11
        self.embedding.apply(initialise_kaiming)
        self.verifier.apply(initialise_kaiming)
        for output in (self.classifier, self.verifier[-1]):
            nn.init.normal_(output.weight, std=0.001)  # ASSUMED: both tasks start from uniform predictions
            nn.init.zeros_(output.bias)
        if self.attention:
            self.attention3 = MutualAttention(channels3, settings)
            self.attention4 = MutualAttention(channels4, settings)
            self.attended_statistics = SecondStatistics(self.backbone.layer4, self.embedding)

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Both tasks on the pairs of `first` and `second`, each (B, 3, height, width)."""
        maps3 = self.layer3_maps(torch.cat([first, second]))
        plain = self.plain_features(maps3)
        identity_logits = self.classifier(self.dropout(plain))
        compared = self.attended_features(maps3) if self.attention else plain
        # Before dropout: with two masks a vector would differ from itself about as much as from any other.
        return Output(identity_logits, self.verifier(difference(*compared.chunk(2))))

    def embed(self, images: Tensor) -> Tensor:
        """The descriptors that are compared at test time: (n, E). An image on the attended path is its own partner."""
        maps3 = self.layer3_maps(images)
        if not self.attention or self.descriptor == "plain":
            return self.plain_features(maps3)
        features, _ = self.attended_features(torch.cat([maps3, maps3])).chunk(2)
        return features

    def same_probability(self, first: Tensor, second: Tensor) -> Tensor:
        """How probably each pair shows one person: (B,) in [0, 1]."""
        return self(first, second).verification_logits.float().softmax(1)[:, SAME]

    # ---------------------------------------------------------------- the two paths

    def layer3_maps(self, images: Tensor) -> Tensor:
        return self.backbone.layer3(self.backbone.layer2(self.backbone.layer1(self.backbone.stem(images))))

    def plain_features(self, maps3: Tensor) -> Tensor:
        """Layer3's maps (n, C, H, W) -> (n, E), on the path of the identification task."""
        return self.embedding(self.backbone.layer4(maps3).mean((2, 3)))

    def attended_features(self, maps3: Tensor) -> Tensor:
        """Layer3's maps of pairs (2B, C, H, W) -> (2B, E), on the path of the verification task."""
        with self.attended_statistics:
            return self.embedding(self._attended_maps4(maps3).mean((2, 3)))

    def feature_map(self, first: Tensor, second: Tensor) -> Tensor:
        """Layer4's maps (B, C, H, W) of the first images, on the path of the verification task."""
        maps3 = self.layer3_maps(torch.cat([first, second]))
        if not self.attention:
            return self.backbone.layer4(maps3)[: len(first)]
        with self.attended_statistics:
            return self._attended_maps4(maps3)[: len(first)]

    def _attended_maps4(self, maps3: Tensor) -> Tensor:
        attended3 = torch.cat(self.attention3(*maps3.chunk(2)))
        return torch.cat(self.attention4(*self.backbone.layer4(attended3).chunk(2)))


class MutualAttention(nn.Module):
    """The maps of two images, reweighted by what is active in both (eq. 1-8)."""

    def __init__(self, channels: int, settings: Settings):
        super().__init__()
        self.channel_convolution = nn.Conv2d(channels, channels, kernel_size=1, bias=False)  # eq. 3
        self.self_convolution = nn.Conv2d(channels, channels, kernel_size=1, bias=False)  # eq. 4
        self.mutual_convolution = nn.Conv2d(channels, channels, kernel_size=1, bias=False)  # eq. 6
        self.activation = {"sigmoid": nn.Sigmoid(), "none": nn.Identity()}[settings.activation]
        self.apply(initialise_kaiming)

    def self_attention(self, f: Tensor) -> Tensor:
        """SA of eq. 4, from one image's map: (B, C, H, W) -> (B, C, H, W)."""
        SPA = f.mean(1, keepdim=True)  # eq. 1: (B, 1, H, W)
        Q = f.mean((2, 3), keepdim=True)  # eq. 2: (B, C, 1, 1)
        CA = self.channel_convolution(Q)  # eq. 3
        return self.self_convolution(SPA * CA)  # eq. 4

    def mutual_map(self, f1: Tensor, f2: Tensor) -> Tensor:
        """MA of eq. 5-6, the same for both images: (B, C, H, W)."""
        return self.activation(self.mutual_convolution(self.self_attention(f1) * self.self_attention(f2)))

    def forward(self, f1: Tensor, f2: Tensor) -> tuple[Tensor, Tensor]:
        """F1 and F2 of eq. 7-8: two (B, C, H, W)."""
        MA = self.mutual_map(f1, f2)
        return f1 * MA + f1, f2 * MA + f2


class SecondStatistics(nn.Module):
    """A second set of running statistics for the batch norms of some modules, used inside `with`.

    The attended path goes through the same layers as the plain one, but its maps are larger (by 1 + MA). Each path has
    running statistics of its own, so that at test time it is normalised as in training.
    """

    def __init__(self, *modules: nn.Module):
        super().__init__()
        norms = [part for module in modules for part in module.modules() if hasattr(part, "running_mean")]
        self.norms = tuple(norms)  # not a ModuleList: the state dict would hold their weights twice
        self.second = nn.ModuleList(nn.BatchNorm1d(norm.num_features, affine=False) for norm in norms)

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    def _swap(self) -> None:
        for norm, second in zip(self.norms, self.second, strict=True):
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                here, there = getattr(norm, name), getattr(second, name)
                setattr(norm, name, there)
                setattr(second, name, here)


class DescriptorPath(nn.Module):
    """The network as at test time: images (n, 3, height, width) -> descriptors (n, E)."""

    def __init__(self, network: MutualAttentionNet):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.embed(images)


def difference(first: Tensor, second: Tensor) -> Tensor:
    """f_d of eq. 11, the squared differences that a Euclidean distance sums: (B, E) each -> (B, E)."""
    return (first - second).square()


def sequential_layer(in_features: int, out_features: int) -> nn.Sequential:
    """Sec. 4's "sequential layer", without its dropout: the verifier compares the vectors before dropout."""
    return nn.Sequential(nn.Linear(in_features, out_features, bias=False), nn.BatchNorm1d(out_features), nn.ReLU())


def initialise_kaiming(module: nn.Module) -> None:
    """He et al.'s initialisation, of the new layers (Sec. 5.1)."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
