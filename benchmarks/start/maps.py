"""Heat maps of the last residual block of any paper's network: what the starting weights change in where it looks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck

from common.errors import UserError
from common.evaluation import Embed, LoadedRun
from common.evaluation.figures import heat_map_figure


def start_maps(runs: dict[str, LoadedRun], file: Path) -> dict[str, Any]:
    """The figure of the documents `start_maps` of all papers, as `heat_map_figure` returns it."""
    return heat_map_figure(runs, file, last_block_map, less_mean=True)


def last_block_map(loaded: LoadedRun, images: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 -> (n, C, h, w): the last map of whole images that a residual block puts out while the network
    embeds them, of those with the most channels. UserError: the network has no such block."""
    outputs: list[Tensor] = []
    blocks = [module for module in loaded.model.modules() if isinstance(module, BasicBlock | Bottleneck)]
    hooks = [block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)) for block in blocks]
    try:
        embed_of(loaded)(images.cpu())
    finally:
        for hook in hooks:
            hook.remove()
    whole = [output for output in outputs if len(output) == len(images)]
    if not whole:
        raise UserError(f"{loaded.run.paper}: no residual block of torchvision puts out a map of whole images")
    channels = max(output.shape[1] for output in whole)
    return [output for output in whole if output.shape[1] == channels][-1]


def embed_of(loaded: LoadedRun) -> Embed:
    """The embedding of the query images."""
    if isinstance(loaded.embed, Mapping):
        return loaded.embed[loaded.run.dataset.query.samples[0].modality]
    return loaded.embed
