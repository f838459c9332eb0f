"""What Table 2 counts of a network, which need not be trained."""

from dataclasses import replace

from .model import CrossModalityNet, model_size
from .settings import Settings


def costs(settings: Settings, num_identities: int) -> dict[str, int]:
    """`model_size` of these settings. On torch's meta device it takes no memory."""
    settings = replace(settings, pretrained="none")
    return model_size(CrossModalityNet(num_identities, settings), settings)
