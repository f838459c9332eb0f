"""Dynamic Feature Weakening for Cross-Modality Person Re-Identification (COMPELECENG-D-23-00104R1, 2023).

This is a ResNet with its last stride at 1, with:
  - two streams (Sec. 3.1): a stem and a layer1 for each modality, layer2 to layer4 shared;
  - dynamic feature weakening (DFW, Sec. 3.2) between the shared stages;
  - a segmented learning network (SLN, Sec. 3.3): layer4 twice, whose copies look at different parts of the person.

Shapes: b images of each modality, B = 2b, R sub-networks (2 with SLN, else 1), C channels of layer4, h x w of its map.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.backbones import ResNet, build_resnet
from common.complexity import count_macs, count_parameters

from .weakening import DynamicFeatureWeakening

STAGES = ("layer2", "layer3")  # the shared stages that layer4 reads

GEM_FLOOR = 1e-6  # GeM takes roots: smaller activations count as this


class Output(NamedTuple):
    """What the losses read, for each sub-network: visible images first, then infrared ones."""

    features: Tensor  # (R, B, C), pooled
    logits: Tensor  # (R, B, num_identities)
    maps: Tensor  # (R, B, h, w), eq. 4: pooled over the channels


class CrossModalityNet(nn.Module):
    """The network with any of its modules left out, as in Table 1; without any it is the baseline.

    dfw: the weakening module, or None; it has no parameters, so that one serves in all places. dfw_after: the stages
    behind which it stands. sln_noise: what is added to the second layer4's convolutions, in standard deviations of each
    one's weights. Images: (b, 3, height, width), normalised; infrared ones have three equal channels.
    """

    def __init__(
        self,
        num_identities: int,
        *,
        backbone: str,
        last_stride: int,
        pretrained: str,
        dfw: DynamicFeatureWeakening | None,
        dfw_after: Sequence[str],
        sln: bool,
        sln_noise: float,
        gem_power: float,
    ):
        super().__init__()
        network = build_resnet(backbone, last_stride=last_stride, pretrained=pretrained)
        self.visible_stream = nn.Sequential(network.stem, network.layer1)
        self.infrared_stream = copy.deepcopy(self.visible_stream)
        self.layer2, self.layer3 = network.layer2, network.layer3
        self.weakening = nn.ModuleDict({stage: dfw for stage in STAGES if dfw is not None and stage in dfw_after})
        self.sub_networks = nn.ModuleList(segments(network, sln, sln_noise))  # layer4, once or twice
        self.gem_power = gem_power

        channels = network.channels[-1]
        self.necks = nn.ModuleList(batch_norm_neck(channels) for _ in self.sub_networks)
        self.classifiers = nn.ModuleList(nn.Linear(channels, num_identities, bias=False) for _ in self.sub_networks)
        for classifier in self.classifiers:
            nn.init.normal_(classifier.weight, std=0.001)  # ASSUMED: not stated; uniform predictions at the start

    def forward(self, visible: Tensor, infrared: Tensor) -> Output:
        """b visible and b infrared images -> what the losses read of all of them."""
        maps = self.shared_maps(torch.cat([self.visible_stream(visible), self.infrared_stream(infrared)]))
        features = [self.pooled(F_s) for F_s in maps]
        logits = [
            classifier(neck(feature))
            for classifier, neck, feature in zip(self.classifiers, self.necks, features, strict=True)
        ]
        attention = [generalised_mean(F_s, self.gem_power, dim=(1,)) for F_s in maps]  # eq. 4
        return Output(torch.stack(features), torch.stack(logits), torch.stack(attention))

    def embed(self, images: Tensor, modality: str) -> Tensor:
        """The feature that is compared at test time: the sub-networks' side by side, (B, R * C), L2-normalised.

        images: (B, 3, H, W), all of one modality: `visible`, or any other name for infrared ones.
        """
        features = [
            neck(self.pooled(F_s)) for neck, F_s in zip(self.necks, self.feature_maps(images, modality), strict=True)
        ]
        return functional.normalize(torch.cat(features, dim=1).float(), dim=1)

    def feature_maps(self, images: Tensor, modality: str) -> list[Tensor]:
        """Each sub-network's map (B, C, h, w) of images of one modality; modality as in `embed`."""
        stream = self.visible_stream if modality == "visible" else self.infrared_stream
        return self.shared_maps(stream(images))

    def shared_maps(self, x: Tensor) -> list[Tensor]:
        """From layer1's maps of either modality to each sub-network's (eq. 4's F_s), (B, C, h, w) each."""
        for stage in STAGES:
            x = getattr(self, stage)(x)
            if stage in self.weakening:
                x = self.weakening[stage](x)
        return [layer4(x) for layer4 in self.sub_networks]

    def pooled(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C)."""
        return generalised_mean(features, self.gem_power, dim=(2, 3))

    def parameters_from_backbone(self) -> list[nn.Parameter]:
        """Those that a pretrained ResNet brings: all but the necks' and the classifiers'."""
        new = {id(parameter) for part in (self.necks, self.classifiers) for parameter in part.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in new]


def segments(network: ResNet, sln: bool, noise: float) -> list[nn.Module]:
    """Sec. 3.3: layer4 once or, with SLN, twice.

    Equal copies would have equal gradients, and their centres would coincide for ever: the second one starts with
    noise on its convolutions.
    """
    if not sln:
        return [network.layer4]
    second = copy.deepcopy(network.layer4)
    with torch.no_grad():
        for parameter in second.parameters():
            if parameter.ndim == 4:
                parameter += noise * parameter.std() * torch.randn_like(parameter)
    return [network.layer4, second]


def generalised_mean(features: Tensor, power: float, *, dim: tuple[int, ...]) -> Tensor:
    """GeM (Radenovic et al., TPAMI 2019): the mean at power 1, towards the maximum as the power grows. float32."""
    return features.float().clamp(min=GEM_FLOOR).pow(power).mean(dim).pow(1 / power)


def batch_norm_neck(size: int) -> nn.BatchNorm1d:
    """Luo et al., "A Strong Baseline and Batch Normalization Neck": batch norm without a learned shift."""
    neck = nn.BatchNorm1d(size)
    neck.bias.requires_grad_(False)
    return neck


def model_size(model: CrossModalityNet, height: int, width: int) -> dict[str, int]:
    """What Table 2 counts: parameters without the classifiers, which do not run at test time, and multiply-accumulates
    of a visible and an infrared image together; `macs`: of one image, the same for either."""
    image = torch.empty(1, 3, height, width)
    macs_pair = count_macs(model, image, image)
    num_parameters = count_parameters(model) - count_parameters(model.classifiers)
    return {"num_parameters": num_parameters, "macs_pair": macs_pair, "macs": macs_pair // 2}
