"""The attribute tasks of Table I, the part that each is read from, and the labels of a data set's images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common.datasets import reader_of
from common.datasets.attributes import read_duke_attributes, read_market_attributes, read_peta_attributes
from common.datasets.base import DataSet, Subset
from common.errors import UserError
from common.images import ImageStore
from common.runs import Run

from .losses import UNLABELLED

# Sec. III-C assigns attributes "to their related parts" without saying which: ASSUMED.
PART_OF_TASK = {
    "gender": "head", "hair": "head", "hat": "head", "age": "head",
    "upper_colour": "upper_body", "upper_length": "upper_body", "backpack": "upper_body", "bag": "upper_body",
    "sleeves": "upper_arm",
    "handbag": "lower_arm",
    "lower_length": "upper_leg", "lower_type": "upper_leg", "lower_colour": "upper_leg",
    "shoe_colour": "lower_leg", "boots": "lower_leg",
}  # fmt: skip


@dataclass(frozen=True)
class AttributeTable:
    """values: task -> what it can be, in a fixed order; codes: person -> (tasks,) positions there, UNLABELLED where
    nobody annotated."""

    values: dict[str, tuple[str, ...]]
    codes: dict[int, np.ndarray]

    @property
    def num_values(self) -> dict[str, int]:
        return {task: len(values) for task, values in self.values.items()}

    def labels(self, subset: Subset) -> np.ndarray:
        """(n, tasks) int64 of a subset's images; a person who is not in the table is unlabelled throughout."""
        unknown = np.full(len(self.values), UNLABELLED, np.int64)
        return np.stack([self.codes.get(person, unknown) for person in subset.persons.tolist()])


def read_attribute_table(dataset: DataSet) -> AttributeTable:
    """The attributes of a data set's people. UserError: it has none, or its file is missing."""
    name = reader_of(dataset.name).NAME
    if name == "market1501":
        halves = read_market_attributes(dataset.folder / "market_attribute.mat")
    elif name == "dukemtmcreid":
        halves = read_duke_attributes(dataset.folder / "duke_attribute.mat")
    elif name == "peta":
        halves = {"all": read_peta_attributes(dataset.folder)}
    else:
        raise UserError(
            f"{dataset.name} has no attributes of its people (market1501, dukemtmcreid and peta have): train the "
            "variants that need none, --variant base or --variant pose, or add --set attributes=false"
        )
    return _encode(pd.concat(halves.values()))


def _encode(table: pd.DataFrame) -> AttributeTable:
    """Tasks in the order of PART_OF_TASK; a task's values are all that the table has, sorted."""
    tasks = [task for task in PART_OF_TASK if task in table]
    values = {task: tuple(sorted(table[task].dropna().unique())) for task in tasks}
    columns = [pd.Categorical(table[task], categories=values[task]).codes for task in tasks]  # -1: missing
    rows = np.stack(columns, axis=1).astype(np.int64)
    return AttributeTable(values, dict(zip(table.index.tolist(), rows, strict=True)))


@torch.inference_mode()
def attribute_scores(
    predict: Callable[[Tensor], dict[str, Tensor]], run: Run, table: AttributeTable
) -> dict[str, dict[str, float]]:
    """Over the queries whose person is labelled, task by task: `accuracy`, and `majority`, that of always answering
    what most training identities have. Tasks without a labelled query are left out.

    predict: images (B, 3, H, W) uint8 -> task -> (B, values), highest where the task's value is likeliest.
    """
    config, query = run.config, run.dataset.query
    store = ImageStore(query, config.height, config.width, cache=config.cache)
    batches = [predict(store.gather(chunk)) for chunk in np.array_split(np.arange(len(store)), -(-len(store) // 128))]
    true = table.labels(query)
    trained = np.stack([table.codes[person] for person in set(run.dataset.train.persons.tolist()) & set(table.codes)])
    scores = {}
    for position, task in enumerate(table.values):
        predicted = torch.cat([batch[task] for batch in batches]).argmax(1).numpy()
        known = true[:, position] != UNLABELLED
        seen = trained[:, position][trained[:, position] != UNLABELLED]
        if known.any() and len(seen):
            majority = np.bincount(seen).argmax()
            scores[task] = {
                "accuracy": float((predicted == true[:, position])[known].mean()),
                "majority": float((true[known, position] == majority).mean()),
            }
    return scores
