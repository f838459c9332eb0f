"""What Table 8 counts of a network, which need not be trained."""

from dataclasses import replace

from .model import MGRe
from .scores import network_size
from .settings import Settings


def costs(settings: Settings, num_identities: int) -> dict[str, int]:
    """`network_size` of these settings. On torch's meta device it takes no memory."""
    settings = replace(settings, pretrained="none")
    return network_size(MGRe(num_identities, settings), settings)
