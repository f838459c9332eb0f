"""The pose resolve net (PRN, Sec. III-A): a VGG-19 front and three refinement stages of two streams, each stage
followed by a channel parse block (CPB).

From Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017. Shapes: B images,
h x w cells of a map, an eighth of the image's height and width.
"""

import torch
import torchvision
from torch import Tensor, nn

from common.errors import UserError

from .settings import PoseSettings
from .skeleton import NUM_CHANNELS, NUM_FIELDS, NUM_MAPS

STRIDE = 8  # pixels of an image in a cell of the maps

_VGG = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512, 512)  # VGG-19's first 10 convolutions
_FEATURES, _HIDDEN, _WIDE = 128, 128, 512  # channels that the stages read, and of their layers: Cao et al.
_CPB_REDUCTION = 4  # of channels inside a CPB; ASSUMED: squeeze-and-excitation's 16 would leave 3 of 57


class PoseNet(nn.Module):
    """images (B, 3, H, W), normalised -> of each stage (B, 57, H/8, W/8): 19 confidence maps, then 38 field channels.

    settings: pose_width_factor scales the hidden channels; pose_batch_norm puts batch norm after each 3x3 and 7x7
    convolution (neither VGG-19 nor Cao et al. have it; meant for training from scratch). cpb: with channel parse
    blocks, as from phase 2 on; frozen: all but these are never trained; pretrained: the VGG-19 front's weights,
    `imagenet` or `none`.
    """

    def __init__(self, settings: PoseSettings, *, cpb: bool, frozen: bool = False, pretrained: str = "none"):
        super().__init__()
        self.frozen = frozen
        width, batch_norm = settings.pose_width_factor, settings.pose_batch_norm
        features, hidden, wide = (round(width * channels) for channels in (_FEATURES, _HIDDEN, _WIDE))
        self.front = _vgg_front(width, batch_norm)
        if pretrained != "none":
            _load_vgg(self.front, width, batch_norm)
        self.adaptor = nn.Sequential(  # two more convolutions to fewer channels, Cao et al.
            *_convolution(round(width * 512), 2 * features, 3, batch_norm),
            *_convolution(2 * features, features, 3, batch_norm),
        )
        inputs = [features, features + NUM_CHANNELS, features + NUM_CHANNELS]
        sizes = [(3, 3, wide), (7, 5, hidden), (7, 5, hidden)]  # kernel, number and last layer's width, Cao et al.
        self.stages = nn.ModuleList(
            nn.ModuleDict(
                {
                    "maps": _stream(channels, hidden, *size, NUM_MAPS, batch_norm),  # S1
                    "fields": _stream(channels, hidden, *size, NUM_FIELDS, batch_norm),  # S2
                }
            )
            for channels, size in zip(inputs, sizes, strict=True)
        )
        self.parse = nn.ModuleList(
            ChannelParseBlock(NUM_CHANNELS, _CPB_REDUCTION) if cpb else nn.Identity() for _ in self.stages
        )
        for part in self.phase_0_parts():
            part.requires_grad_(not frozen)

    def phase_0_parts(self) -> list[nn.Module]:
        """What phase 0 trains: all but the channel parse blocks."""
        return [self.front, self.adaptor, self.stages]

    def train(self, mode: bool = True) -> "PoseNet":
        """Frozen parts stay in evaluation mode: their batch norms keep their statistics."""
        super().train(mode)
        for part in self.phase_0_parts():
            part.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.both(images)[1]

    def both(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The stages' outputs before and after their channel parse blocks."""
        features = self.adaptor(self.front(images))
        stages: list[Tensor] = []
        parsed: list[Tensor] = []
        for stage, parse in zip(self.stages, self.parse, strict=True):
            inputs = torch.cat([features, parsed[-1]], dim=1) if parsed else features
            stages.append(torch.cat([stage["maps"](inputs), stage["fields"](inputs)], dim=1))
            parsed.append(parse(stages[-1]))
        return stages, parsed


class ChannelParseBlock(nn.Module):
    """CPB, Fig. 4: squeeze-and-excitation (Hu et al., CVPR 2018) by 1x1 convolutions in place of linear layers."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, kernel_size=1)
        self.excite = nn.Conv2d(channels // reduction, channels, kernel_size=1)
        self.gates = nn.Identity()  # where the weights are watched
        # Weights start near 0.95: the blocks are added to a net that was trained without them.
        nn.init.constant_(self.excite.bias, 3.0)

    def weights(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 1, 1), each in (0, 1)."""
        squeezed = self.squeeze(x.mean((2, 3), keepdim=True))
        return self.gates(torch.sigmoid(self.excite(torch.relu(squeezed))))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        return x * self.weights(x)


def _convolution(inputs: int, outputs: int, kernel: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not batch_norm)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    if not batch_norm:
        nn.init.zeros_(convolution.bias)
    return [convolution, *([nn.BatchNorm2d(outputs)] if batch_norm else []), nn.ReLU(inplace=True)]


def _stream(
    inputs: int, hidden: int, kernel: int, number: int, last: int, outputs: int, batch_norm: bool
) -> nn.Sequential:
    """`number` convolutions of size `kernel`, then 1x1 convolutions to `last` and to `outputs` channels."""
    layers = []
    for position in range(number):
        layers += _convolution(inputs if position == 0 else hidden, hidden, kernel, batch_norm)
    output = nn.Conv2d(last, outputs, kernel_size=1)
    nn.init.normal_(output.weight, std=0.01)  # Cao et al.: outputs start near 0, as most of the maps are
    nn.init.zeros_(output.bias)
    return nn.Sequential(*layers, *_convolution(hidden, last, 1, False), output)


def _vgg_front(width: float, batch_norm: bool) -> nn.Sequential:
    layers, channels = [], 3
    for size in _VGG:
        if size == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += _convolution(channels, round(width * size), 3, batch_norm)
            channels = round(width * size)
    return nn.Sequential(*layers)


def _load_vgg(front: nn.Sequential, width: float, batch_norm: bool) -> None:
    """torchvision's ImageNet weights of vgg19 into the front, which has the same layers in the same order."""
    if width != 1 or batch_norm:
        raise UserError(
            "pose_pretrained: imagenet needs pose_width_factor 1 and pose_batch_norm false, as VGG-19 is, or set "
            "pose_pretrained=none"
        )
    weights = torchvision.models.VGG19_Weights.IMAGENET1K_V1
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"pose_pretrained: imagenet needs {weights.url}, and it could not be fetched ({error}).\n"
            f"       Fetch it on a machine that can and put it into {torch.hub.get_dir()}/checkpoints,\n"
            "       or train from scratch (--set pose_pretrained=none pose_batch_norm=true)"
        ) from None
    front.load_state_dict({name: state[f"features.{name}"] for name in front.state_dict()})
