"""An Improved Deep Mutual-Attention Learning Model for Person Re-Identification.

Jamal, Jiang, Fang, Symmetry 2020. This is a Siamese ResNet, shared by the two images of a pair, with:
  - mutual attention after layer3 and after layer4 (eq. 1-8, attention.py): the product of the two images'
    self-attention maps reweights the feature maps of both;
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

from .attention import MutualAttention
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
        self.own_attention = settings.attention and settings.attention_pairing == "own"

        self.embedding = sequential_layer(channels4, E)
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(E, num_identities)  # eq. 9
        self.verifier = nn.Sequential(sequential_layer(E, E), nn.Dropout(settings.dropout), nn.Linear(E, 2))  # eq. 11
        self.embedding.apply(initialise_kaiming)
        self.verifier.apply(initialise_kaiming)
        for output in (self.classifier, self.verifier[-1]):
            nn.init.zeros_(output.bias)
            if settings.output_initialisation == "near_zero":
                nn.init.normal_(output.weight, std=0.001)  # a departure: both tasks start from uniform predictions
            else:
                initialise_kaiming(output)
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
        return Output(identity_logits, self.verification_logits(compared))

    def verification_logits(self, compared: Tensor) -> Tensor:
        """The vectors of pairs, (2B, E), before dropout -> (B, 2). After it, with two masks, a vector would differ from
        itself about as much as from any other."""
        return self.verifier(difference(*compared.chunk(2)))

    def embed(self, images: Tensor, descriptor: str | None = None) -> Tensor:
        """The descriptors that are compared at test time: (n, E). descriptor: one of `descriptors`; default: the
        setting's.

        Only `self_attended`, with the image as its own partner, and `mean_attended`, with the training set's mean
        image, contain the attention. A network without pairs' own attention has neither, and gives `plain` for them.
        """
        descriptor, maps3 = descriptor or self.descriptor, self.layer3_maps(images)
        if descriptor == "before_relu":
            return self.embedding[:-1](self.backbone.layer4(maps3).mean((2, 3)))
        if descriptor == "plain" or not self.own_attention:
            return self.plain_features(maps3)
        partner = maps3
        if descriptor == "mean_attended":  # prepared images are differences from the mean image, which itself is zero
            partner = self.layer3_maps(torch.zeros_like(images[:1])).expand_as(maps3)
        return self.attended_features(torch.cat([maps3, partner]))[: len(images)]

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Those that this network has. Attention of another pair would make an image's descriptor depend on its
        neighbours in the batch, which in a gallery are often of the same person."""
        return ("plain", "before_relu", *(("self_attended", "mean_attended") if self.own_attention else ()))

    def same_probability(self, first: Tensor, second: Tensor) -> Tensor:
        """How probably each pair shows one person: (B,) in [0, 1]."""
        return self.same_by_maps(self.layer3_maps(torch.cat([first, second])))

    def same_by_maps(self, maps3: Tensor) -> Tensor:
        """As `same_probability`, of layer3's maps of pairs (2B, C, H, W)."""
        compared = self.attended_features(maps3) if self.attention else self.plain_features(maps3)
        return self.verification_logits(compared).float().softmax(1)[:, SAME]

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
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight)
