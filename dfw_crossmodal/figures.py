"""The paper's figures that need trained networks: Fig. 1 (heat maps) and Fig. 6 (retrieval in both directions)."""

from pathlib import Path

import numpy as np
import torch

from common.datasets.base import Search
from common.evaluation import extract_searches
from common.evaluation.loaded_run import LoadedRun
from common.evaluation.retrieval import nearest_images, random_identities
from common.images import ImageStore
from common.visualize import sheets

from .train import prepared

NUM_IDENTITIES = 3  # of Fig. 1, each in both modalities
NUM_QUERIES = 5  # of Fig. 6, in each direction (Sec. 4.7)
TOP = 10


@torch.inference_mode()
def fig1(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Each network's last feature map, on a visible and an infrared image of each of some random identities.

    `images`: {name, modality, person}; `maps`: for each network (n, h, w) in [0, 1], stretched image by image; `cover`:
    for each network and modality the mean share of cells above one half.
    """
    run = next(iter(runs.values())).run
    subsets = [search.query for search in both_directions(run.dataset.searches)]
    in_both = np.intersect1d(*(subset.persons for subset in subsets))
    shown, images = [], []
    maps, cover = {method: [] for method in runs}, {method: {} for method in runs}
    for subset in subsets:
        modality = subset.samples[0].modality
        chosen = random_identities(subset, NUM_IDENTITIES, among=np.isin(subset.persons, in_both))
        samples = [subset.samples[index] for index in chosen]
        shown += [
            {"name": name_in(run.dataset.folder, sample.path), "modality": modality, "person": sample.person}
            for sample in samples
        ]
        store = ImageStore(subset, run.settings.height, run.settings.width, cache=run.settings.cache)
        images.append(store.gather(chosen))
        for method, loaded in runs.items():
            values = last_map(loaded, images[-1], modality)
            maps[method].append(values)
            cover[method][modality] = round(float((values > 0.5).mean()), 3)

    in_turn = np.arange(len(shown)).reshape(2, -1).T.ravel()  # an identity's two images one below the other
    maps = {method: np.concatenate(halves)[in_turn] for method, halves in maps.items()}
    sheets.heat_map_sheet(torch.cat(images)[in_turn], maps, file, height=144)
    modalities = next(iter(cover.values()))
    headers = [f"part of the map above half of its range (mean over the {modality} images)" for modality in modalities]
    rows = [[method, *(f"{share:.0%}" for share in shares.values())] for method, shares in cover.items()]
    return {
        "images": [shown[position] for position in in_turn],
        "cover": cover,
        "maps": {method: np.round(values.astype(float), 2).tolist() for method, values in maps.items()},
        "table": {"headers": ["Network", *headers], "rows": rows},
    }


def fig6(runs: dict[str, LoadedRun], file: Path) -> dict:
    """The gallery images nearest to random queries: visible queries among infrared images, then the other way.

    `queries`: {direction, name, ranked, correct, similarity}, the last three for each of the gallery images.
    """
    (loaded,) = runs.values()
    folder, searches = loaded.run.dataset.folder, both_directions(loaded.run.dataset.searches)
    features = extract_searches(loaded.embed, searches, loaded.run.settings)
    chosen = [random_identities(search.query, NUM_QUERIES, among=may_be_shown(search)) for search in searches]
    found = [
        nearest_images(search, features[search.query.name], features[search.gallery.name], positions, TOP)
        for search, positions in zip(searches, chosen, strict=True)
    ]
    top = min(ranked.shape[1] for ranked, _ in found)  # below TOP where the gallery is tiny
    queries = []
    for search, positions, (ranked, distances) in zip(searches, chosen, found, strict=True):
        similarities = np.round(1 - distances.astype(float) ** 2 / 2, 5)  # the cosines of unit vectors
        for row, index in enumerate(positions):
            order = ranked[row, :top]
            queries.append(
                {
                    "direction": search.name,
                    "name": name_in(folder, search.query.samples[index].path),
                    "ranked": [name_in(folder, search.gallery.samples[position].path) for position in order],
                    "correct": (search.gallery.persons[order] == search.query.persons[index]).tolist(),
                    "similarity": similarities[row, :top].tolist(),
                }
            )
    sheets.retrieval_sheet(
        [folder / query["name"] for query in queries],
        [[folder / name for name in query["ranked"]] for query in queries],
        [query["correct"] for query in queries],
        file,
        scores=[query["similarity"] for query in queries],
        height=96,
    )
    rows = [[query["direction"].replace("_", " "), query["name"], str(sum(query["correct"]))] for query in queries]
    return {"queries": queries, "table": {"headers": ["Search", "Query", f"correct in top {top}"], "rows": rows}}


def last_map(loaded: LoadedRun, images: torch.Tensor, modality: str) -> np.ndarray:
    """Uint8 images (n, 3, H, W) of one modality -> (n, h, w); with SLN, of both sub-networks' channels together."""
    with loaded.run.autocast():
        maps = loaded.model.feature_maps(prepared(images.to(loaded.run.device), loaded.run.settings), modality)
    return sheets.activation_map(torch.cat(maps, dim=1))


def both_directions(searches: tuple[Search, ...]) -> tuple[Search, Search]:
    """Visible queries among infrared images, and the other way; the data set's own searches where it has them.

    SYSU-MM01's protocol has infrared queries only. For the other direction all infrared images of the test identities
    are the gallery.
    """
    by_modality = {search.query.samples[0].modality == "visible": search for search in reversed(searches)}
    infrared = by_modality[False]
    visible = by_modality.get(True) or Search(
        "visible_to_infrared", infrared.gallery, infrared.query, infrared.protocol
    )
    return visible, infrared


def may_be_shown(search: Search) -> np.ndarray:
    """Queries that the gallery has a match for, (n,) bool."""
    allowed = np.isin(search.query.persons, search.gallery.persons)
    if search.protocol == "sysu_mm01":
        # Infrared camera 3 stands where visible camera 2 does. The protocol knows this for queries of camera 3 only.
        allowed &= search.query.cameras != 2
    return allowed


def name_in(folder: Path, path: Path) -> str:
    """SYSU-MM01's file names alone are ambiguous."""
    return path.relative_to(folder).as_posix()
