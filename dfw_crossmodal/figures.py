"""The figures that need trained networks: Fig. 1 (heat maps), Fig. 6 (retrieval in both directions), and what each
module carries."""

from pathlib import Path

import numpy as np
import torch

from common.datasets.base import Search
from common.evaluation import LoadedRun, extract_searches, retrieval
from common.evaluation.carried import carried_figure
from common.images import ImageStore
from common.visualize import sheets

from .activity import carriers_of, overlap_of
from .train import prepared

NUM_IDENTITIES = 3  # of Fig. 1, each in both modalities
NUM_QUERIES = 5  # of Fig. 6, in each direction (Sec. 4.7)
TOP = 10
PARTS = ("(a)", "(b)")  # of Fig. 6


def carried(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Scores of the trained network with a module's output replaced."""
    (loaded,) = runs.values()
    return carried_figure(loaded, carriers_of(loaded.model), file)


@torch.inference_mode()
def fig1(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Each network's last feature map, with SLN each sub-network's, on images of random identities in both modalities.

    `images`: {name, modality, person}; `maps`: for each column (n, h, w) in [0, 1], stretched image by image; `cover`:
    for each column and modality the mean share of cells above one half; `overlap`: {network with SLN: the mean
    intersection over union of its sub-networks' cells above one half}.
    """
    run = next(iter(runs.values())).run
    subsets = [search.query for search in both_directions(run.dataset.searches)]
    in_both = np.intersect1d(*(subset.persons for subset in subsets))
    shown, images, maps = [], [], []
    cover: dict[str, dict[str, float]] = {}
    for subset in subsets:
        modality = subset.samples[0].modality
        chosen = retrieval.random_identities(subset, NUM_IDENTITIES, among=np.isin(subset.persons, in_both))
        samples = [subset.samples[index] for index in chosen]
        shown += [
            {"name": name_in(run.dataset.folder, sample.path), "modality": modality, "person": sample.person}
            for sample in samples
        ]
        store = ImageStore(subset, run.settings.height, run.settings.width, cache=run.settings.cache)
        images.append(store.gather(chosen))
        maps.append({})
        for method, loaded in runs.items():
            maps[-1] |= last_maps(method, loaded, images[-1], modality)
        for column, values in maps[-1].items():
            cover.setdefault(column, {})[modality] = round(float((values > 0.5).mean()), 3)

    in_turn = np.arange(len(shown)).reshape(2, -1).T.ravel()  # an identity's two images one below the other
    maps = {column: np.concatenate([half[column] for half in maps])[in_turn] for column in maps[0]}
    sheets.heat_map_sheet(torch.cat(images)[in_turn], maps, file, height=144)
    overlap = {
        method: round(overlap_of(*(torch.from_numpy(maps[column]) for column in columns_of(method, loaded))), 3)
        for method, loaded in runs.items()
        if loaded.run.settings.sln
    }
    modalities = next(iter(cover.values()))
    headers = [f"part of the map above half of its range (mean over the {modality} images)" for modality in modalities]
    rows = [[column, *(f"{share:.0%}" for share in shares.values())] for column, shares in cover.items()]
    if overlap:
        headers.append("intersection over union of both sub-networks' parts")
        of_column = {column: method for method in overlap for column in columns_of(method, runs[method])}
        rows = [[*row, f"{overlap[of_column[row[0]]]:.0%}" if row[0] in of_column else "–"] for row in rows]
    return {
        "images": [shown[position] for position in in_turn],
        "cover": cover,
        "overlap": overlap,
        "maps": {column: np.round(values.astype(float), 2).tolist() for column, values in maps.items()},
        "table": {"headers": ["Network", *headers], "rows": rows},
    }


def fig6(runs: dict[str, LoadedRun], file: Path) -> dict:
    """The gallery images nearest to random queries: visible queries among infrared images, then the other way.

    `queries`: {direction, name, ranked, correct, similarity}, the last three for each of the gallery images.
    """
    (loaded,) = runs.values()
    folder, searches = loaded.run.dataset.folder, both_directions(loaded.run.dataset.searches)
    features = extract_searches(loaded.embed, searches, loaded.run.settings)
    chosen = [retrieval.random_identities(search.query, NUM_QUERIES, among=may_be_shown(search)) for search in searches]
    found = [
        retrieval.nearest_images(search, features[search.query.name], features[search.gallery.name], positions, TOP)
        for search, positions in zip(searches, chosen, strict=True)
    ]
    top = min(ranked.shape[1] for ranked, _ in found)  # below TOP where the gallery is tiny
    queries, headings = [], {}
    for part, search, positions, (ranked, distances) in zip(PARTS, searches, chosen, found, strict=True):
        headings[len(queries)] = f"{part} {title_of(search)}"
        similarities = np.round(1 - distances.astype(float) ** 2 / 2, 5)  # the cosines of unit vectors
        for row, index in enumerate(positions):
            order = ranked[row, :top]
            queries.append(
                {
                    "direction": f"{part} {title_of(search)}",
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
        headings=headings,
        height=96,
    )
    rows = [[query["direction"], query["name"], str(sum(query["correct"]))] for query in queries]
    return {"queries": queries, "table": {"headers": ["Search", "Query", f"correct in top {top}"], "rows": rows}}


def title_of(search: Search) -> str:
    """`infrared to visible`, whatever the protocol calls it."""
    query, gallery = (subset.samples[0].modality for subset in (search.query, search.gallery))
    return f"{query} to {gallery}"


def columns_of(method: str, loaded: LoadedRun) -> list[str]:
    """The columns of Fig. 1 that show a network: one, or one for each of its sub-networks."""
    count = len(loaded.model.sub_networks)
    return [method] if count == 1 else [f"{method}, {number}" for number in range(1, count + 1)]


def last_maps(method: str, loaded: LoadedRun, images: torch.Tensor, modality: str) -> dict[str, np.ndarray]:
    """Uint8 images (n, 3, H, W) of one modality -> {column: (n, h, w) in [0, 1]}."""
    with loaded.run.autocast():
        maps = loaded.model.feature_maps(prepared(images.to(loaded.run.device), loaded.run.settings), modality)
    return {column: sheets.activation_map(F_s) for column, F_s in zip(columns_of(method, loaded), maps, strict=True)}


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
