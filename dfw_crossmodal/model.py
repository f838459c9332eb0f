"""Dynamic Feature Weakening for Cross-Modality Person Re-Identification (COMPELECENG-D-23-00104R1, 2023).

This is a ResNet with its last stride at 1, with:
  - two streams (Sec. 3.1): a stem and a layer1 for each modality, layer2 to layer4 shared;
  - dynamic feature weakening (DFW, Sec. 3.2) after the shared layer2 and layer3;
  - a segmented learning network (SLN, Sec. 3.3): two copies of layer4, which look at different parts of the person.

Shapes: b images of each modality, B = 2b, R sub-networks (2 with SLN, else 1), C channels of layer4, h x w of its map.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from common import complexity
from common.backbones import batch_norm_neck, build_resnet

from .settings import Settings
from .weakening import DynamicFeatureWeakening

STAGES = ("layer2", "layer3")  # shared by both modalities, before layer4

STREAMS = {"visible": "visible_stream", "infrared": "infrared_stream", "thermal": "infrared_stream"}

GEM_FLOOR = 1e-6  # GeM takes roots: smaller activations count as this


class Output(NamedTuple):
    """What the losses read, for each sub-network: visible images first, then infrared ones."""

    features: Tensor  # (R, B, C), pooled
    logits: Tensor  # (R, B, num_identities)
    maps: Tensor  # (R, B, h, w), eq. 4, as in `attention`


class CrossModalityNet(nn.Module):
    """The network with any of its modules left out, as in Table 1; without any it is the baseline.

    Images: (b, 3, height, width), normalised; infrared ones have three equal channels.
    """

    def __init__(self, num_identities: int, settings: Settings):
        super().__init__()
        network = build_resnet(settings.backbone, last_stride=settings.last_stride, pretrained=settings.pretrained)
        self.visible_stream = nn.Sequential(network.stem, network.layer1)
        self.infrared_stream = copy.deepcopy(self.visible_stream)
        self.layer2, self.layer3 = network.layer2, network.layer3
        self.weakening = nn.ModuleDict(
            {stage: feature_weakening(settings) for stage in settings.dfw_after} if settings.dfw else {}
        )
        self.sub_networks = segments(network.layer4, settings)
        self.gem_power = settings.gem_power
        self.before_centres = feature_weakening(settings) if settings.overlap_map == "weakened" else nn.Identity()

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
        return Output(torch.stack(features), torch.stack(logits), self.attention(maps))

    def embed(self, images: Tensor, modality: str) -> Tensor:
        """The feature that is compared at test time: the sub-networks' side by side, (B, R * C), L2-normalised.

        images: (B, 3, H, W), all of one modality: `visible`, `infrared` or `thermal`. ValueError: another name.
        """
        features = [
            neck(self.pooled(F_s)) for neck, F_s in zip(self.necks, self.feature_maps(images, modality), strict=True)
        ]
        return functional.normalize(torch.cat(features, dim=1).float(), dim=1)

    def feature_maps(self, images: Tensor, modality: str) -> list[Tensor]:
        """Each sub-network's map (B, C, h, w) of images of one modality; modality as in `embed`."""
        if modality not in STREAMS:
            raise ValueError(f"a modality is one of {', '.join(STREAMS)}, not {modality!r}")
        return self.shared_maps(getattr(self, STREAMS[modality])(images))

    def shared_maps(self, x: Tensor) -> list[Tensor]:
        """From layer1's maps of either modality to each sub-network's (eq. 4's F_s), (B, C, h, w) each."""
        for stage in STAGES:
            x = getattr(self, stage)(x)
            if stage in self.weakening:
                x = self.weakening[stage](x)
        return [layer4(x) for layer4 in self.sub_networks]

    def attention(self, maps: list[Tensor]) -> Tensor:
        """Eq. 4: each sub-network's map F_s (B, C, h, w), pooled over its channels -> (R, B, h, w).

        With overlap_map `weakened`, F_s is weakened before, as by DFW.
        """
        return torch.stack([generalised_mean(self.before_centres(F_s), self.gem_power, dim=(1,)) for F_s in maps])

    def pooled(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C)."""
        return generalised_mean(features, self.gem_power, dim=(2, 3))

    def parameters_from_backbone(self) -> list[nn.Parameter]:
        """Those that a pretrained ResNet brings: all but the necks' and the classifiers'."""
        new = {id(parameter) for part in (self.necks, self.classifiers) for parameter in part.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in new]


def feature_weakening(settings: Settings) -> DynamicFeatureWeakening:
    return DynamicFeatureWeakening(
        settings.dfw_form, alpha=settings.dfw_alpha, beta=settings.dfw_beta, gate=settings.dfw_gate
    )


def segments(layer4: nn.Module, settings: Settings) -> nn.ModuleList:
    """Sec. 3.3: layer4 once or, with SLN, twice.

    Equal copies would get equal gradients and stay equal: the second one starts with noise on its convolutions, of
    `sln_noise` times the standard deviation of each one's weights.
    """
    if not settings.sln:
        return nn.ModuleList([layer4])
    second = copy.deepcopy(layer4)
    with torch.no_grad():
        for parameter in second.parameters():
            if parameter.ndim == 4:
                parameter += settings.sln_noise * parameter.std() * torch.randn_like(parameter)
    return nn.ModuleList([layer4, second])


def generalised_mean(features: Tensor, power: float, *, dim: tuple[int, ...]) -> Tensor:
    """GeM (Radenovic et al., TPAMI 2019): the mean at power 1, towards the maximum as the power grows. float32."""
    return features.float().clamp(min=GEM_FLOOR).pow(power).mean(dim).pow(1 / power)


def model_size(model: CrossModalityNet, settings: Settings) -> dict[str, int]:
    """What Table 2 counts, without the classifiers, which do not run at test time: parameters, and multiply-accumulates
    of a visible and an infrared image together; `macs`: of one image, the same for either."""
    image = torch.empty(1, 3, settings.height, settings.width)
    in_classifiers = sum(classifier.weight.numel() for classifier in model.classifiers)
    macs_pair = complexity.count_macs(model, image, image) - 2 * in_classifiers
    num_parameters = complexity.count_parameters(model) - complexity.count_parameters(model.classifiers)
    return {"num_parameters": num_parameters, "macs_pair": macs_pair, "macs": macs_pair // 2}
