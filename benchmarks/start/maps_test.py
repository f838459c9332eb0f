"""Which map is drawn, on a network of which every block's output is known."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from benchmarks.start.maps import last_block_map
from common.errors import UserError
from common.evaluation import LoadedRun


class Network(nn.Module):
    """A block of 3 channels, then one of 3 whose output is the features; parts of images pass through it as well."""

    def __init__(self, with_blocks: bool):
        super().__init__()
        self.first, self.second = (BasicBlock(3, 3) if with_blocks else nn.Conv2d(3, 3, 1) for _ in range(2))

    def embed(self, images):
        self.whole = self.second(self.first(images.float()))
        return self.second(torch.cat(self.whole.chunk(2, dim=2))).mean((2, 3))


def loaded(**settings):
    model = Network(**settings).eval()
    return LoadedRun(SimpleNamespace(paper="my_idea"), model, model.embed)


def test_the_last_map_of_whole_images_is_taken():
    network, images = loaded(with_blocks=True), torch.randint(0, 256, (2, 3, 8, 4), dtype=torch.uint8)
    with torch.inference_mode():
        found = last_block_map(network, images)
    assert torch.equal(found, network.model.whole)
    assert not network.model.first._forward_hooks


def test_a_network_without_residual_blocks_is_refused():
    with pytest.raises(UserError, match="my_idea: no residual block"):
        last_block_map(loaded(with_blocks=False), torch.zeros(2, 3, 8, 4, dtype=torch.uint8))
