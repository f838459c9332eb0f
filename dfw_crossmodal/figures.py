"""The pictures that need trained networks: Fig. 1 (heat maps) and Fig. 6 (retrieval in both directions).

Each function is named after its document in benchmarks/specs/dfw_crossmodal.yaml, takes the document's rows as loaded
runs and a PNG file to write, and returns what was drawn as plain numbers and names; `table` is what the page prints.
"""

from pathlib import Path

import numpy as np
import torch

from common.datasets.base import DataSet, Search, Subset
from common.evaluation import extract_searches, nearest_answers
from common.images import ImageStore
from common.visualize import activation_map, heat_map_sheet, retrieval_sheet

from .evaluate import LoadedRun
from .train import prepared

NUM_PEOPLE = 3  # of Fig. 1, each in both modalities
NUM_QUERIES = 5  # of Fig. 6, in each direction (Sec. 4.7)
TOP = 10


@torch.inference_mode()
def fig1(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Where each network's last map is active, on a visible and on an infrared image of each of some random people.

    Returns `images`: {name, modality, person}; `maps`: for each network (n, h, w) in [0, 1], stretched image by image;
    `cover`: for each network and modality the mean share of cells above one half.
    """
    first = next(iter(runs.values())).run
    images, maps = [], {method: [] for method in runs}
    shown = []
    for subset, indices in people_in_both(first.dataset):
        modality = subset.samples[0].modality
        store = ImageStore(subset, first.config.height, first.config.width, cache=first.config.cache)
        pixels = store.gather(indices)
        images.append(pixels)
        shown += [
            {"name": name_of(first.dataset, subset, i), "modality": modality, "person": int(subset.persons[i])}
            for i in indices
        ]
        for method, loaded in runs.items():
            run = loaded.run
            inputs = prepared(pixels.to(run.device), run.config)
            with run.autocast():
                # With SLN, both sub-networks' channels: what either looks at.
                features = torch.cat(loaded.model.feature_maps(inputs, modality), dim=1)
            maps[method].append(activation_map(features))

    count = len(images[0])
    order = [half * count + person for person in range(count) for half in (0, 1)]  # a person's two images in turn
    shown = [shown[i] for i in order]
    maps = {method: np.concatenate(halves)[order] for method, halves in maps.items()}
    heat_map_sheet(torch.cat(images)[order], maps, file, height=144)
    cover = {
        method: {
            modality: round(float((values[[image["modality"] == modality for image in shown]] > 0.5).mean()), 3)
            for modality in dict.fromkeys(image["modality"] for image in shown)
        }
        for method, values in maps.items()
    }
    modalities = list(next(iter(cover.values())))
    return {
        "images": shown,
        "cover": cover,
        "maps": {method: np.round(values.astype(float), 2).tolist() for method, values in maps.items()},
        "table": {
            "headers": ["part of the map above half of its maximum", *modalities],
            "rows": [[method, *(f"{shares[m]:.0%}" for m in modalities)] for method, shares in cover.items()],
        },
    }


def fig6(runs: dict[str, LoadedRun], file: Path) -> dict:
    """The ten images nearest to random queries: first visible queries among infrared images, then the other way.

    Returns `queries`: {direction, name, ranked, correct, similarity}, the last three for each of the ten answers.
    """
    (loaded,) = runs.values()
    run, config = loaded.run, loaded.run.config
    searches = both_directions(run.dataset)
    features = extract_searches(loaded.embed, searches, config.height, config.width, cache=config.cache)
    chosen_of = {search.name: random_queries(search) for search in searches}
    found = {
        search.name: nearest_answers(
            search, features[search.query.name], features[search.gallery.name], chosen_of[search.name], TOP
        )
        for search in searches
    }
    shown = min(answers.shape[1] for answers, _ in found.values())  # on tiny data fewer than ten are admitted
    queries, query_paths, answer_paths = [], [], []
    for search in searches:
        query, gallery, chosen = search.query, search.gallery, chosen_of[search.name]
        answers, distances = (values[:, :shown] for values in found[search.name])
        for index, order, distance in zip(chosen, answers, distances.astype(float), strict=True):
            queries.append(
                {
                    "direction": search.name,
                    "name": name_of(run.dataset, query, index),
                    "ranked": [name_of(run.dataset, gallery, answer) for answer in order],
                    "correct": (gallery.persons[order] == query.persons[index]).tolist(),
                    "similarity": np.round(1 - distance**2 / 2, 5).tolist(),  # the cosine of unit vectors
                }
            )
            query_paths.append(query.samples[index].path)
            answer_paths.append([gallery.samples[answer].path for answer in order])
    retrieval_sheet(
        query_paths,
        answer_paths,
        [entry["correct"] for entry in queries],
        file,
        scores=[entry["similarity"] for entry in queries],
        height=96,
    )
    rows = [
        [entry["direction"].replace("_", " "), entry["name"], str(sum(entry["correct"])), str(len(entry["correct"]))]
        for entry in queries
    ]
    headers = ["direction", "query", "right among the nearest", "shown"]
    return {"queries": queries, "table": {"headers": headers, "rows": rows}}


def both_directions(dataset: DataSet) -> tuple[Search, Search]:
    """Visible queries among infrared images, and the other way; the data set's own searches where it has them.

    SYSU-MM01's protocol looks for infrared queries only. For the other direction all infrared images of the test
    identities are the gallery.
    """
    by_modality = {search.query.samples[0].modality == "visible": search for search in reversed(dataset.searches)}
    infrared = by_modality[False]
    visible = by_modality.get(True) or Search(
        "visible_to_infrared", infrared.gallery, infrared.query, infrared.protocol
    )
    return visible, infrared


def random_queries(search: Search) -> np.ndarray:
    """One query of each of NUM_QUERIES random people, (n,), by the order of the people."""
    generator = np.random.default_rng(0)
    candidates = np.isin(search.query.persons, search.gallery.persons)
    if search.protocol == "sysu_mm01":
        # Infrared camera 3 stands where visible camera 2 does. The protocol knows this for queries of camera 3 only.
        candidates &= search.query.cameras != 2
    persons = np.unique(search.query.persons[candidates])
    persons = np.sort(generator.choice(persons, min(NUM_QUERIES, len(persons)), replace=False))
    return np.array([generator.choice(np.flatnonzero(candidates & (search.query.persons == p))) for p in persons])


def people_in_both(dataset: DataSet) -> list[tuple[Subset, np.ndarray]]:
    """Random people's images: a visible and an infrared subset, each with one position for each of the same people."""
    generator = np.random.default_rng(0)
    visible, infrared = (search.query for search in both_directions(dataset))
    persons = np.intersect1d(visible.persons, infrared.persons)
    persons = np.sort(generator.choice(persons, min(NUM_PEOPLE, len(persons)), replace=False))
    return [
        (subset, np.array([generator.choice(np.flatnonzero(subset.persons == person)) for person in persons]))
        for subset in (visible, infrared)
    ]


def name_of(dataset: DataSet, subset: Subset, index: int) -> str:
    """An image's path in its data set: SYSU-MM01's file names alone are ambiguous."""
    return subset.samples[index].path.relative_to(dataset.folder).as_posix()
