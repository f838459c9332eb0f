"""The attribute tasks of Table I, the part that each is classified from, and the labels of a data set's images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common import datasets
from common.datasets import attributes
from common.errors import UserError
from common.images import ImageStore
from common.runs import Run

UNLABELLED = -1  # a person's value of a task that was not annotated

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
    """The attributes of a data set's people; empty for a run that learns none.

    values: task -> its possible values, in a fixed order; codes: person -> (tasks,) positions in them or UNLABELLED.
    """

    values: dict[str, tuple[str, ...]]
    codes: dict[int, np.ndarray]

    @property
    def num_values(self) -> dict[str, int]:
        return {task: len(values) for task, values in self.values.items()}

    def labels(self, subset: datasets.Subset) -> np.ndarray:
        """(n, tasks) int64 of a subset's images; people who are not in the table are UNLABELLED in all tasks."""
        unknown = np.full(len(self.values), UNLABELLED, np.int64)
        return np.stack([self.codes.get(person, unknown) for person in subset.persons.tolist()])


def read_table(run: Run) -> AttributeTable:
    """The attributes that a run learns: none in phase 1 alone, or with `attributes: false`. UserError as below."""
    if not run.settings.attributes or run.settings.phases == [1]:
        return AttributeTable({}, {})
    return read_attribute_table(run.dataset)


def read_attribute_table(dataset: datasets.DataSet) -> AttributeTable:
    """The attributes of a data set's people. UserError: it has none, or its file is missing."""
    if dataset.name == "market1501":
        halves = attributes.read_market_attributes(dataset.folder / "market_attribute.mat")
    elif dataset.name == "dukemtmcreid":
        halves = attributes.read_duke_attributes(dataset.folder / "duke_attribute.mat")
    elif dataset.name == "peta":
        halves = {"all": attributes.read_peta_attributes(dataset.folder)}
    else:
        raise UserError(
            f"{dataset.name} has no attributes of its people (market1501, dukemtmcreid and peta have): train a variant "
            "that needs none (--variant base or --variant pose), or add --set attributes=false"
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
    """{task: {`accuracy`, `majority`}} over the queries whose person is labelled; tasks without any are left out.

    predict: images (B, 3, H, W) uint8 -> task -> (B, values), highest at the predicted value. `majority` is the
    accuracy of always predicting the most frequent value of the training identities.
    """
    settings, query = run.settings, run.dataset.query
    store = ImageStore(query, settings.height, settings.width, cache=settings.cache)
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
