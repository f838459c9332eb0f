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
from common.evaluation.figures import maps_as_json, random_images, retrieval_figure
from common.evaluation.loaded_run import LoadedRun
from common.images import ImageStore

from .mean_image import mean_image_of, prepared

NUM_AVERAGED = 256  # query images, at most, over which a mean map is taken


@torch.inference_mode()
def fig4(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Layer4's activation on each network's verification path, for query images of random identities.

    With mutual attention a map depends on the partner image: here another query image of the same person. Each
    network's mean map over query images is subtracted: maps as they are peak in the same cell for most images. `maps`:
    (n, h, w) in [0, 1], stretched image by image; `cover`: the mean share of cells above one half; `same_peak`: the
    largest share of images whose maps peak in one cell, before and after subtracting.
    """
    query = next(iter(runs.values())).run.dataset.query
    shown = random_images(next(iter(runs.values())).run, query)
    averaged = np.arange(len(query))[:: -(-len(query) // NUM_AVERAGED)]
    maps, same_peak = {}, {}
    for method, loaded in runs.items():
        energies = energy_maps(loaded, query, averaged)
        mean = energies.mean(0)
        same_peak[method] = {"before": share_of_same_peak(energies), "after": share_of_same_peak(energies - mean)}
        maps[method] = stretched(energy_maps(loaded, query, shown.positions) - mean)
    draw_maps(shown.pixels.permute(0, 2, 3, 1).numpy(), maps, file)
    found = maps_as_json(maps)
    found["table"]["headers"] += ["maps that peak in the same cell", "after subtracting the mean map"]
    for row, shares in zip(found["table"]["rows"], same_peak.values(), strict=True):
        row += [f"{share:.0%}" for share in shares.values()]
    names = [query.samples[other_image(query, index)].path.name for index in shown.positions]
    return {"images": shown.names, "compared_with": names, "same_peak": same_peak, **found}


def energy_maps(loaded: LoadedRun, query: Subset, positions: np.ndarray) -> np.ndarray:
    """Root of the sum of squares over layer4's channels, each image beside `other_image`: (n, h, w) float32."""
    run, mean, maps = loaded.run, mean_image_of(loaded.run), []
    store = ImageStore(query, run.settings.height, run.settings.width, cache=run.settings.cache)
    for part in np.array_split(positions, -(-len(positions) // 64)):
        partners = np.array([other_image(query, index) for index in part])
        inputs = [prepared(run.to_device(store.gather(batch)), mean) for batch in (part, partners)]
        with run.autocast():
            features = loaded.model.feature_map(*inputs)
        maps.append(torch.linalg.vector_norm(features.float(), dim=1).cpu())
    return torch.cat(maps).numpy()


def share_of_same_peak(maps: np.ndarray) -> float:
    """The share of maps (n, h, w) whose largest cell is the one that is largest most often."""
    return float(np.bincount(maps.reshape(len(maps), -1).argmax(1)).max() / len(maps))


def stretched(maps: np.ndarray) -> np.ndarray:
    """(n, h, w) to [0, 1], map by map; a constant one to 0."""
    low, high = (reduce(maps, axis=(1, 2), keepdims=True) for reduce in (np.min, np.max))
    return (maps - low) / np.maximum(high - low, 1e-12)


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
