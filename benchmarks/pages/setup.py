"""What the runs of a table were: network, image size, start and epochs, from their records' settings.

A table without any record has today's settings, which its first run will have.
"""

import json
import re
from collections.abc import Iterator
from functools import cache

from benchmarks.spec import Document, PaperSpec, RunSpec
from common.errors import UserError
from common.paper import load_paper
from common.paths import package_folder
from common.runs.settings import load_settings, settings_dict

from .markdown import joined
from .sources import Source

STARTS = {"none": "random weights", "synthetic": "the starting weights", "imagenet": "ImageNet's weights"}


def setup_line(paper: PaperSpec, document: Document, source: Source) -> str:
    """`synthetic: ResNet-18, 128x64, from the starting weights, 8 epochs`; empty if nothing is trained.

    Where the rows differ, all values are named. What a row itself varies is left out, and the start wherever any does,
    but not another number of epochs; those of a row that starts from another run are left out.
    """
    values: dict[str, list] = {"network": [], "size": [], "start": [], "epochs": []}
    starts_differ = any("pretrained" in row.run.set for row, _ in document.runs())
    for settings in _settings(paper, document, source):
        if "backbone" in settings:
            values["network"].append(re.sub(r"^resnet(?=\d)", "ResNet-", str(settings["backbone"])))
        if "height" in settings and "width" in settings:
            values["size"].append(f"{settings['height']}x{settings['width']}")
        if "pretrained" in settings and not starts_differ:
            values["start"].append(STARTS.get(settings["pretrained"], "other weights"))
        if settings.get("num_epochs") is not None:
            values["epochs"].append(settings["num_epochs"])
    parts = [joined(values["network"]), joined(values["size"])]
    parts += [f"from {joined(values['start'])}"] if values["start"] else []
    parts += [f"{joined(sorted(set(values['epochs'])))} epochs"] if values["epochs"] else []
    text = ", ".join(filter(None, parts))
    return f"{source.title}: {text}" if text else ""


def _settings(paper: PaperSpec, document: Document, source: Source) -> Iterator[dict]:
    for row, dataset in document.runs():
        if row.run.program != "train" or not row.fits(source.kind):
            continue
        records = source.of_row(row, dataset)
        found = [record.config | {"num_epochs": record.num_epochs} for record in records]
        if not found and not source.covers(document):
            found = [_today(paper.paper, row.run, dataset, demo=source.kind == "demo")]
        varied = set(row.run.set) - ({"num_epochs"} if row.run.trains else set())
        varied |= {"num_epochs"} if "start_from" in row.run.set else set()
        for settings in found:
            yield {key: value for key, value in settings.items() if key not in varied}


def _today(paper: str, run: RunSpec, dataset: str, *, demo: bool) -> dict:
    if package_folder(paper) is None:
        return {}
    return _loaded(paper, run.variant, json.dumps(run.set), dataset, demo)


@cache
def _loaded(paper: str, variant: str, changes: str, dataset: str, demo: bool) -> dict:
    """changes: as JSON, which can be a key of the cache where they are lists."""
    try:
        settings = load_settings(
            load_paper(paper).settings.Settings,
            package_folder(paper),
            dataset=dataset,
            demo=demo,
            variant=variant,
            overrides=json.loads(changes),
        )
    except UserError:
        return {}  # a variant or a key was removed
    return settings_dict(settings)
