"""The runs that the page of all papers' models compares.

The budget is the number of training images that pass through the network; a demo whose own schedule uses more or less
is compared after a shorter or longer run.
"""

from typing import NamedTuple

from common.runs.record import Record

KIND, START = "demo", "synthetic"
BUDGET = 12_000  # images: eight epochs of P x 4 batches
TOLERANCE = 0.03  # fraction of the budget; runs have whole epochs
SEEDS = range(5)
DOCUMENT = "same_budget"  # of a paper's spec, with the rows whose own schedule does not fit the budget
SCORES = {"mAP": "mAP", "rank1": "Rank-1"}


class Model(NamedTuple):
    """A row of the page. more: supervision beside identities; images_per_sample: 2 if the run's record counts pairs;
    baseline: the label of its paper's baseline, which the gain is over; trains: False for what learns nothing here."""

    paper: str
    label: str  # of the run, as records name it
    name: str
    more: str = ""
    images_per_sample: int = 1
    baseline: str = ""
    trains: bool = True


SHORT_PAIRS = "+decay_end=5+decay_start=3+num_epochs=5"  # epochs instead of eight: every anchor has a partner
SHORT_MODALITIES = "+num_epochs=5"  # of images of both modalities
TABLES: dict[str, tuple[Model, ...]] = {
    "market1501": (
        Model("ndmf_net", "baseline", "NDMF-Net baseline"),
        Model("ndmf_net", "full", "NDMF-Net", baseline="baseline"),
        Model("mgre", "baseline+num_epochs=8", "MGRe baseline"),
        Model("mgre", "full+num_epochs=8", "MGRe", "joints", baseline="baseline+num_epochs=8"),
        Model("mutual_attention", f"baseline{SHORT_PAIRS}", "Mutual attention baseline", "", 2),
        Model("mutual_attention", f"full{SHORT_PAIRS}", "Mutual attention", "", 2, f"baseline{SHORT_PAIRS}"),
        Model("fgsam", "base+num_epochs=8", "FGSAM baseline"),
        Model("fgsam", "full+num_epochs=8", "FGSAM", "attributes and joints", baseline="base+num_epochs=8"),
        Model("ndmf_net", "baseline+num_epochs=0", "ResNet-18 as it starts", trains=False),
        Model("ndmf_net", "balanced_histogram", "Colour histogram, white-balanced", trains=False),
    ),
    "sysu_mm01": (
        Model("dfw_crossmodal", f"baseline{SHORT_MODALITIES}", "DFW baseline"),
        Model("dfw_crossmodal", f"full{SHORT_MODALITIES}", "DFW", baseline=f"baseline{SHORT_MODALITIES}"),
    ),
}


def labels_of(paper: str) -> list[str]:
    """The runs of a paper that the page needs."""
    return [model.label for models in TABLES.values() for model in models if model.paper == paper]


def is_compared(record: Record) -> bool:
    """Whether a model of the page was trained in that run."""
    models = [model for model in TABLES.get(record.dataset, ()) if model.trains]
    return record.kind == KIND and (record.paper, record.variant) in [(model.paper, model.label) for model in models]
