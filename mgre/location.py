"""The location module: where a stage's body regions are (eq. 1), as boxes (eq. 2).

Shapes: B images, C channels, H x W of the stage's map, R regions; boxes: (B, R, 4), x_min y_min x_max y_max in parts of
the map's width and height, which are parts of the image's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .regions import Region, prior_boxes
from .settings import Settings


class LocationModule(nn.Module):
    """Eq. 1: convolution, ReLU, batch norm, max pooling and a fully connected layer on the flattened map.

    It predicts (atanh dC_x, atanh dC_y, log l_1, log l_2) of each region. Training starts at Table 1's boxes: the
    predefined centre, with the sampled map's width and height for l_1 and l_2; or where `start_at` puts it.
    size: (H, W) of the map.
    """

    def __init__(self, channels: int, size: tuple[int, int], regions: Sequence[Region], settings: Settings):
        super().__init__()
        self.height, self.width = height, width = size
        hidden_channels = settings.location_channels
        self.block = nn.Sequential(
            nn.Conv2d(channels, hidden_channels, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(hidden_channels),
            nn.MaxPool2d(2),
        )
        in_features = hidden_channels * (height // 2) * (width // 2)
        self.scale = settings.location_input_scale * in_features**-0.5
        self.linear = nn.Linear(in_features, 4 * len(regions))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("centres", torch.tensor([region.centre for region in regions]), persistent=False)
        self.register_buffer("prior", torch.empty(len(regions), 4))  # kept in checkpoints: it may have been moved
        self.start_at(prior_boxes(regions))

    def start_at(self, boxes: Tensor) -> None:
        """Boxes (R, 4) that it predicts while the last layer is zero."""
        low, high = boxes.to(self.centres).split(2, dim=1)
        lengths = (high - low) * self.centres.new_tensor([self.width, self.height])
        self.prior.copy_(torch.cat([((low + high) / 2 - self.centres).atanh(), lengths.log()], dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> boxes (B, R, 4)."""
        # Scaled: Adam moves every weight by the learning rate, and summed over tens of thousands of inputs its first
        # step would throw the boxes out of the image.
        change = self.linear(self.block(x).flatten(1) * self.scale).float()
        # The prior is not the layer's bias, so that weight decay pulls towards the start and not towards boxes of one
        # cell; it is added in float32, because bf16 would round the sides of a box.
        parameters = change.unflatten(1, (-1, 4)) + self.prior
        return boxes_of(parameters, self.centres, self.height, self.width)


def boxes_of(parameters: Tensor, centres: Tensor, height: int, width: int) -> Tensor:
    """Eq. 2, divided by the map's size.

    parameters: (B, R, 4), eq. 1's atanh dC_x, atanh dC_y, log l_1, log l_2; centres: (R, 2), C_x C_y in (0, 1).
    """
    middle = centres + parameters[..., :2].tanh()
    across, down = parameters[..., 2:].exp().split(1, dim=-1)
    half = torch.cat([across / (2 * width), down / (2 * height)], dim=-1)
    return torch.cat([middle - half, middle + half], dim=-1)
