"""Fig. 4 and Fig. 5, drawn from trained networks; each returns the data behind the picture.

Shapes: n people, h x w cells of a map.
"""

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
from common.evaluation import extract_searches, nearest_answers
from common.images import ImageStore
from common.visualize import activation_map, retrieval_sheet

from .evaluate import LoadedRun
from .mean_image import centred, mean_image_of

NUM_PEOPLE, TOP = 6, 10


def fig4(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Layer4's activation for query images, alone and laid over the image, as each network's verifier has it.

    With mutual attention a map depends on the image that it is compared with: here another query image of the same
    person. `maps`: (n, h, w) in [0, 1], stretched image by image; `cover`: the mean share of cells above one half.
    """
    run = next(iter(runs.values())).run
    query = run.dataset.query
    chosen = random_people(query)
    partners = np.array([other_image(query, index) for index in chosen])
    store = ImageStore(query, run.config.height, run.config.width, cache=run.config.cache)
    images = store.gather(chosen)
    maps = {}
    for method, loaded in runs.items():
        mean = mean_image_of(loaded.run)
        inputs = [centred(store.gather(indices).to(loaded.run.device), mean) for indices in (chosen, partners)]
        with torch.inference_mode(), loaded.run.autocast():
            maps[method] = activation_map(loaded.model.feature_map(*inputs))
    _draw_maps(images.permute(0, 2, 3, 1).numpy(), maps, file)
    return {
        "images": [query.samples[index].path.name for index in chosen],
        "compared_with": [query.samples[index].path.name for index in partners],
        "cover": {method: round(float((values > 0.5).mean()), 3) for method, values in maps.items()},
        "maps": {method: np.round(values.astype(float), 2).tolist() for method, values in maps.items()},
    }


def fig5(runs: dict[str, LoadedRun], file: Path) -> dict:
    """The gallery images nearest to random people's queries, with their Euclidean distances."""
    (loaded,) = runs.values()
    config, search = loaded.run.config, loaded.run.dataset.searches[0]
    query, gallery = search.query, search.gallery
    features = extract_searches(loaded.embed, (search,), config.height, config.width, cache=config.cache)
    chosen = random_people(query)
    answers, distances = nearest_answers(search, features[query.name], features[gallery.name], chosen, TOP)
    correct = gallery.persons[answers] == query.persons[chosen][:, None]
    retrieval_sheet(
        [query.samples[index].path for index in chosen],
        [[gallery.samples[answer].path for answer in row] for row in answers],
        correct,
        file,
        scores=distances,
    )
    queries = [
        {
            "name": query.samples[index].path.name,
            "ranked": [gallery.samples[answer].path.name for answer in row],
            "correct": right.tolist(),
            "distance": np.round(apart.astype(float), 3).tolist(),
        }
        for index, row, right, apart in zip(chosen, answers, correct, distances, strict=True)
    ]
    return {"queries": queries}


def random_people(query: Subset) -> np.ndarray:
    """Positions of one image each of NUM_PEOPLE random people, the same for every network: (n,)."""
    generator = np.random.default_rng(0)
    persons = np.unique(query.persons)
    chosen = generator.choice(persons, min(NUM_PEOPLE, len(persons)), replace=False)
    return np.array([generator.choice(np.flatnonzero(query.persons == person)) for person in sorted(chosen)])


def other_image(query: Subset, index: int) -> int:
    """Another image of the same person, by another camera if there is one; the image itself where there is none."""
    own = np.flatnonzero(query.persons == query.persons[index])
    elsewhere = own[query.cameras[own] != query.cameras[index]]
    return int([*elsewhere, *own[own != index], index][0])


def _draw_maps(images: np.ndarray, maps: dict[str, np.ndarray], file: Path) -> None:
    """A row is a person: the image (H, W, 3) uint8, then for each network its map and the map over the image."""
    height, width = images.shape[1:3]
    columns = {"image": images / 255}
    for method, values in maps.items():
        enlarged = functional.interpolate(torch.from_numpy(values)[:, None], (height, width), mode="bilinear")
        heat = matplotlib.colormaps["jet"](enlarged.squeeze(1).numpy())[..., :3]
        columns |= {method: heat, f"{method}, over the image": 0.5 * heat + 0.5 * images / 255}
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(1.6 * len(columns), 1.5 * len(images) * height / width), layout="compressed")
        axes = figure.subplots(len(images), len(columns), squeeze=False)
        for column, (title, pictures) in enumerate(columns.items()):
            axes[0, column].set_title(title.replace(", ", "\n"), fontsize=9)
            for row, picture in enumerate(pictures):
                axes[row, column].imshow(picture)
                axes[row, column].axis("off")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
    with Image.open(buffer) as picture:
        picture.convert("RGB").quantize(256).save(file, "PNG", optimize=True)  # below 300 kB
