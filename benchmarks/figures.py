"""The pictures of a page. Sweeps and curves are drawn from records; heat maps and rankings need the trained networks,
and leave their data as JSON beside the picture, so that pages and tests can read what was drawn.

A picture is `<document>-<kind of data>.png` in the folder beside the page.
"""

import importlib
import json
from pathlib import Path

import numpy as np
import torch

from common import augment
from common.datasets.base import DataSet
from common.evaluation import extract_searches, nearest_answers
from common.images import ImageStore
from common.runs import read_json, write_text
from common.visualize import activation_map, heat_map_sheet, line_figure, retrieval_sheet

from .plan import Plan, PlannedRun
from .records import Source
from .spec import UNITS, Document, Paper

NUM_PEOPLE = 6  # rows of a heat-map sheet and of a retrieval sheet
TOP = 10
MAX_TICKS = 13


# ------------------------------------------------------------------ from records


def draw_from_records(paper: Paper, sources: list[Source], folder: Path) -> None:
    """Every sweep and every set of curves, for each source that has records of it."""
    for document in paper.documents:
        for source in sources:
            file = folder / f"{document.id}-{source.kind}.png"
            if document.kind == "sweep" and source.covers(document):
                draw_sweep(document, source, file)
            if document.kind == "curves" and source.covers(document):
                draw_curves(document, source, file)


def draw_sweep(document: Document, source: Source, file: Path) -> None:
    """Scores over the values of the sweep, with standard deviations; a missing run is a gap."""
    rows = [row for row in document.rows if row.fits(source.kind)]
    series, deviations = {}, {}
    for column in document.columns:
        factor = UNITS[column.unit][0]
        summaries = [source.summary(document, row, column) for row in rows]
        series[column.title] = [summary and summary.mean * factor for summary in summaries]
        deviations[column.title] = [summary and (summary.deviation or 0) * factor for summary in summaries]
    if all(sum(value is not None for value in values) < 2 for values in series.values()):
        return  # a sweep of one value is no curve: its run belongs to another table as well
    unit = document.columns[0].unit
    line_figure(
        file,
        x=[float(row.method) for row in rows],
        series=series,
        deviations=deviations,
        x_label=document.x,
        y_label=f"score ({unit})",
        title=f"{document.name} ({source.short})",
    )


def draw_curves(document: Document, source: Source, file: Path) -> None:
    """The document's terms at each epoch of the rows' first seeds, at no more epochs than an axis has room for."""
    logs = {
        row.method: records[0]["log"]
        for row in document.rows
        if (records := source.of(row.run.label, document.data_set_of(row))) and records[0]["log"]
    }
    if not logs:
        return
    num_epochs = max(len(log) for log in logs.values())
    shown = np.unique(np.linspace(0, num_epochs - 1, MAX_TICKS).round().astype(int)).tolist()
    line_figure(
        file,
        x=[position + 1 for position in shown],
        series={
            name if len(document.terms) == 1 else f"{name}, {term.replace('_', ' ')}": [
                log[position].get(term) if position < len(log) else None for position in shown
            ]
            for name, log in logs.items()
            for term in document.terms
            if term in log[0]
        },
        x_label="epoch",
        y_label="training loss",
        title=f"{document.name} ({source.short})",
    )


# ------------------------------------------------------------------ from trained networks


def draw_from_runs(paper: Paper, plan: Plan, folder: Path) -> None:
    """The plan's heat maps and rankings, unless they were drawn from these very runs before."""
    drawers = {"heat_maps": draw_heat_maps, "retrieval": draw_retrieval, "picture": draw_own_picture}
    for document in plan.documents:
        if document.kind not in drawers:
            continue
        found = {row.method: plan.trained(row.run.label, document.data_set_of(row)) for row in document.rows if row.run}
        runs = {method: run for method, run in found.items() if run is not None}
        if len(runs) != len(document.rows):
            continue
        file = folder / f"{document.id}-{plan.kind}.png"
        origin = {method: _origin(run) for method, run in runs.items()}
        drawn = read_json(file.with_suffix(".json"))
        if drawn and drawn["runs"] == origin and file.is_file():
            continue
        print(f"drawing {document.name}", flush=True)
        data = drawers[document.kind](paper, document, runs, file)
        write_text(file.with_suffix(".json"), json.dumps({"runs": origin, **data}, indent=1))


def _origin(planned: PlannedRun) -> dict:
    record = read_json(planned.directory / "result.json")
    return {"run": record["run"], "finished": record["finished"], "data": record["data"]["fingerprint"]}


def _load(paper: Paper, planned: PlannedRun):
    device = str(planned.run.device)
    return importlib.import_module(f"{paper.paper}.evaluate").load_run(planned.directory, device)


@torch.inference_mode()
def draw_own_picture(paper: Paper, document: Document, runs: dict[str, PlannedRun], file: Path) -> dict:
    """A picture that only this paper has, by the function named after the document in its figures.py."""
    draw = getattr(importlib.import_module(f"{paper.paper}.figures"), document.id)
    return draw({method: _load(paper, planned) for method, planned in runs.items()}, file)


@torch.inference_mode()
def draw_heat_maps(paper: Paper, document: Document, runs: dict[str, PlannedRun], file: Path) -> dict:
    """Images of random people under each network's last feature map. Returns what was drawn.

    `maps`: (n, h, w) in [0, 1], stretched image by image; `cover`: the mean share of cells above one half.
    """
    maps, images, names = {}, None, []
    for method, planned in runs.items():
        loaded = _load(paper, planned)
        run = loaded.run
        if images is None:
            chosen = _random_people(run.dataset)
            names = _names(run.dataset, "query", chosen)
            store = ImageStore(run.dataset.query, run.config.height, run.config.width, cache=run.config.cache)
            images = store.gather(chosen)
        inputs = augment.normalise(images.to(run.device)).contiguous(memory_format=torch.channels_last)
        with run.autocast():
            maps[method] = activation_map(loaded.model.feature_map(inputs))
    heat_map_sheet(images, maps, file)
    return {
        "images": names,
        "cover": {method: round(float((values > 0.5).mean()), 3) for method, values in maps.items()},
        "maps": {method: np.round(values.astype(float), 2).tolist() for method, values in maps.items()},
    }


def draw_retrieval(paper: Paper, document: Document, runs: dict[str, PlannedRun], file: Path) -> dict:
    """The nearest gallery images of random people's queries, under the protocol's rule. Returns what was drawn."""
    (planned,) = runs.values()
    loaded = _load(paper, planned)
    run, search = loaded.run, loaded.run.dataset.searches[0]
    query, gallery = search.query, search.gallery
    config = run.config
    features = extract_searches(loaded.embed, (search,), config.height, config.width, cache=config.cache)
    chosen = _random_people(run.dataset)
    answers, distances = nearest_answers(search, features[query.name], features[gallery.name], chosen, TOP)
    queries = []
    for index, order, distance in zip(chosen, answers, distances.astype(float), strict=True):
        queries.append(
            {
                "name": query.samples[index].path.name,
                "ranked": [gallery.samples[answer].path.name for answer in order],
                "correct": (gallery.persons[order] == query.persons[index]).tolist(),
                "similarity": np.round(1 - distance**2 / 2, 5).tolist(),
                "paths": [gallery.samples[answer].path for answer in order],
            }
        )
    retrieval_sheet(
        [query.samples[index].path for index in chosen],
        [entry.pop("paths") for entry in queries],
        [entry["correct"] for entry in queries],
        file,
        scores=[entry["similarity"] for entry in queries],
    )
    return {"queries": queries}


def _random_people(dataset: DataSet) -> np.ndarray:
    """Indices of one query image each of NUM_PEOPLE random people; the same for every network."""
    generator = np.random.default_rng(0)
    persons = np.unique(dataset.query.persons)
    chosen = generator.choice(persons, min(NUM_PEOPLE, len(persons)), replace=False)
    return np.array([generator.choice(np.flatnonzero(dataset.query.persons == person)) for person in sorted(chosen)])


def _names(dataset: DataSet, subset: str, indices: np.ndarray) -> list[str]:
    return [dataset.subsets[subset].samples[index].path.name for index in indices]
