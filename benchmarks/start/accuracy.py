"""How well the attributes of unseen people are named, beside always naming the most common value."""

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.start.attributes import HIDDEN, KINDS, NAMES, NUM_VALUES
from benchmarks.start.draw import Images
from benchmarks.start.train import AttributeNet
from common import augment, devices

Table = dict[str, dict[str, dict[str, float]]]  # kind of image -> attribute -> accuracy, majority


def most_common(images: Images) -> np.ndarray:
    """(attributes,) the most common value of each attribute among the images that show it, 0 if none does."""
    columns = [column[column != HIDDEN] for column in images.labels.T]
    return np.array([np.bincount(column).argmax() if len(column) else 0 for column in columns])


@torch.inference_mode()
def named_values(model: AttributeNet, images: Images, device: torch.device) -> np.ndarray:
    """(n, attributes) the value of each attribute that the network finds likeliest."""
    model.eval()
    found = []
    for first in range(0, len(images.pixels), 256):
        pixels = devices.to_device(images.pixels[first : first + 256].copy(), device)
        logits = model(augment.normalise(pixels).contiguous(memory_format=torch.channels_last))
        found.append(torch.stack([own.argmax(1) for own in logits.split(NUM_VALUES, dim=1)], dim=1).cpu())
    return torch.cat(found).numpy()


def accuracies(named: np.ndarray, images: Images, majority: np.ndarray) -> Table:
    """Fractions of the images that show an attribute. named: (n, attributes); majority: (attributes,) the value that
    is always named for comparison."""
    table: Table = {}
    for number, kind in enumerate(KINDS):
        table[kind] = {}
        for column, name in enumerate(NAMES):
            shown = (images.kinds == number) & (images.labels[:, column] != HIDDEN)
            if shown.any():
                true = images.labels[shown, column]
                hits = {"accuracy": named[shown, column] == true, "majority": majority[column] == true}
                table[kind][name] = {what: round(float(right.mean()), 4) for what, right in hits.items()}
    return table


def means(table: Table) -> dict[str, dict[str, float]]:
    """{kind: accuracy and majority}, averaged over the attributes that the kind shows."""
    return {
        kind: {
            what: round(float(np.mean([row[what] for row in rows.values()])), 4) for what in ("accuracy", "majority")
        }
        for kind, rows in table.items()
        if rows
    }


def as_text(table: Table) -> str:
    """In percent, the majority's in brackets; a line for each attribute and one for the mean."""

    def line(name: str, cells: dict[str, dict[str, float]]) -> list[str]:
        found = (cells.get(kind) for kind in KINDS)
        return [name, *(f"{cell['accuracy']:.1%} ({cell['majority']:.1%})" if cell else "–" for cell in found)]

    lines = [line(name, {kind: rows[name] for kind, rows in table.items() if name in rows}) for name in NAMES]
    return tabulate([*lines, line("mean", means(table))], ["attribute", *KINDS], tablefmt="pipe", disable_numparse=True)
