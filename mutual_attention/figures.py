"""The paper's figures that need trained networks: Fig. 4 (activation maps) and Fig. 5 (retrieval lists)."""

import io
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional

from common.datasets.base import Subset
from common.evaluation.figures import NUM_IDENTITIES, maps_as_json, retrieval_figure
from common.evaluation.loaded_run import LoadedRun
from common.evaluation.retrieval import random_identities
from common.images import ImageStore
from common.visualize.sheets import activation_map

from .mean_image import mean_image_of
from .train import prepared


@torch.inference_mode()
def fig4(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Layer4's activation on each network's verification path, for query images of random identities.

    With mutual attention a map depends on the partner image: here another query image of the same person. `maps`:
    (n, h, w) in [0, 1], stretched image by image; `cover`: the mean share of cells above one half.
    """
    run = next(iter(runs.values())).run
    query = run.dataset.query
    chosen = random_identities(query, NUM_IDENTITIES)
    partners = np.array([other_image(query, index) for index in chosen])
    store = ImageStore(query, run.settings.height, run.settings.width, cache=run.settings.cache)
    images = store.gather(chosen)
    maps = {}
    for method, loaded in runs.items():
        mean = mean_image_of(loaded.run)
        inputs = [prepared(batch.to(loaded.run.device), mean) for batch in (images, store.gather(partners))]
        with loaded.run.autocast():
            maps[method] = activation_map(loaded.model.feature_map(*inputs))
    draw_maps(images.permute(0, 2, 3, 1).numpy(), maps, file)
    return {
        "images": [query.samples[index].path.name for index in chosen],
        "compared_with": [query.samples[index].path.name for index in partners],
        **maps_as_json(maps),
    }


def fig5(runs: dict[str, LoadedRun], file: Path) -> dict:
    """The gallery images nearest to queries of random identities, with their Euclidean distances."""
    (loaded,) = runs.values()
    return retrieval_figure(loaded, file, cosine=False)


def other_image(subset: Subset, index: int) -> int:
    """Another image of the same person, by another camera if there is one; the image itself where there is none."""
    own = np.flatnonzero(subset.persons == subset.persons[index])
    elsewhere = own[subset.cameras[own] != subset.cameras[index]]
    return int([*elsewhere, *own[own != index], index][0])


def draw_maps(images: np.ndarray, maps: dict[str, np.ndarray], file: Path) -> None:
    """A row is a person: the image, then for each network its map alone and laid over the image, as in Fig. 4.

    images: (n, H, W, 3) uint8; maps: (n, h, w) in [0, 1] for each network.
    """
    height, width = images.shape[1:3]
    columns = {"image": images / 255}
    for method, values in maps.items():
        enlarged = functional.interpolate(torch.from_numpy(values)[:, None], (height, width), mode="bilinear")
        heat = matplotlib.colormaps["jet"](enlarged.squeeze(1).numpy())[..., :3]
        columns |= {method: heat, f"{method}\nover the image": 0.5 * heat + 0.5 * images / 255}
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(1.6 * len(columns), 1.5 * len(images) * height / width), layout="compressed")
        axes = figure.subplots(len(images), len(columns), squeeze=False)
        for column, (title, cells) in enumerate(columns.items()):
            axes[0, column].set_title(title, fontsize=9)
            for row, cell in enumerate(cells):
                axes[row, column].imshow(cell)
                axes[row, column].axis("off")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
    with Image.open(buffer) as sheet:
        sheet.convert("RGB").quantize(256).save(file, "PNG", optimize=True)  # below 300 kB
