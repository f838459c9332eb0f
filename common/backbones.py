"""torchvision's ResNets by stage, with the usual change for re-ID: the last stage can keep its resolution."""

import torch
import torchvision
from torch import Tensor, nn

from common.errors import UserError
from common.pretrained import load_pretrained

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


class ResNet(nn.Module):
    """torchvision's ResNet without pooling and classifier, as `stem`, `layer1` ... `layer4`, to be called in turn.

    For images (B, 3, H, W): stem and layer1 give (H/4, W/4), layer2 (H/8, W/8), layer3 (H/16, W/16), layer4 (H/32,
    W/32) or, with last_stride 1, (H/16, W/16). `channels`: those of layer1 ... layer4.
    """

    def __init__(self, network: torchvision.models.ResNet):
        super().__init__()
        self.stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        self.channels = tuple(
            (stage[-1].conv3 if hasattr(stage[-1], "conv3") else stage[-1].conv2).out_channels
            for stage in (self.layer1, self.layer2, self.layer3, self.layer4)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> layer4's map."""
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))


class InstanceBatchNorm(nn.Module):
    """IBN-a (Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net", ECCV 2018): the
    first half of the channels through instance norm, the others through batch norm, both with scale and shift.

    It replaces a batch norm and starts from its scale and shift, channel by channel: both norms give zero
    mean and unit variance, so a trained scale and shift keep their meaning. Running statistics are kept for the batch
    norm's half only; instance norm has none.
    """

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__()
        self.split = [norm.num_features // 2, norm.num_features - norm.num_features // 2]
        self.instance_norm = nn.InstanceNorm2d(self.split[0], eps=norm.eps, affine=True)
        self.batch_norm = nn.BatchNorm2d(self.split[1], eps=norm.eps, momentum=norm.momentum)
        with torch.no_grad():
            for name in ("weight", "bias"):
                first, second = getattr(norm, name).split(self.split)
                getattr(self.instance_norm, name).copy_(first)
                getattr(self.batch_norm, name).copy_(second)
            self.batch_norm.running_mean.copy_(norm.running_mean[self.split[0] :])
            self.batch_norm.running_var.copy_(norm.running_var[self.split[0] :])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        first, second = x.split(self.split, dim=1)
        return torch.cat([self.instance_norm(first), self.batch_norm(second)], dim=1)


def build_resnet(name: str, *, last_stride: int, pretrained: str, ibn: bool = False) -> ResNet:
    """Build a ResNet by stage.

    name: one of NAMES. last_stride: 1 or 2, the stride of layer4's first block (its 3x3 convolution and its shortcut).
    pretrained: "imagenet", "synthetic", "none" or a path, see pretrained.py. ibn: the first norm of each block of
    layer1, layer2 and layer3 is an InstanceBatchNorm; pretrained weights are those of the network without it, or a file
    of IBN-Net's, which has them for both norms.
    """
    if name not in NAMES:
        raise UserError(f"unknown backbone '{name}'; known: {', '.join(NAMES)}")
    network = getattr(torchvision.models, name)(weights=None)
    load_pretrained(network, name, pretrained, ibn=ibn)
    first = network.layer4[0]
    # BasicBlock strides in conv1, Bottleneck in conv2.
    strided = first.conv2 if isinstance(first, torchvision.models.resnet.Bottleneck) else first.conv1
    strided.stride = first.downsample[0].stride = (last_stride, last_stride)
    if ibn:
        for block in (*network.layer1, *network.layer2, *network.layer3):
            block.bn1 = InstanceBatchNorm(block.bn1)
    return ResNet(network)


def batch_norm_neck(size: int) -> nn.BatchNorm1d:
    """Batch norm without a learned shift: Luo et al., "A Strong Baseline and Batch Normalization Neck"."""
    neck = nn.BatchNorm1d(size)
    neck.bias.requires_grad_(False)
    return neck
