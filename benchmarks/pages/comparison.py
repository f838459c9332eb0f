"""`tables/comparison.md`: the papers' models side by side, from the same start and with the same budget.

No paper has such a table. The budget is the number of training images that pass through the network; a demo whose own
schedule uses more or less is compared after a shorter or longer run. All networks are trained on 128x64 images.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from scipy.stats import t as student

from benchmarks.records import BENCHMARKS, KINDS, published_records
from benchmarks.spec import PaperSpec, known_papers, load_spec
from common.runs.record import Record

from .cells import NOT_APPLICABLE
from .markdown import joined, markdown_table
from .setup import STARTS
from .staleness import Today
from .table import Footnotes

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
TITLES = {"market1501": "Market-1501, single query", "sysu_mm01": "SYSU-MM01, all-search"}
ABOUT = {
    "sysu_mm01": "DFW searches visible images with infrared ones, which Market-1501 does not have. Its scores compare "
    "with each other, not with those above."
}
REMARKS = (
    "FGSAM's pose resolve net is pretrained on the joints of the training identities, which the budget does not count.",
    "Each network keeps its own batches, learning rate and schedule, shortened or lengthened to the budget.",
    "Eight epochs on small images favour what learns fast: [FGSAM's controls](fgsam.md#table-iv-controls) have its "
    "baseline after eleven, too. How the models compare there or in their papers may be otherwise.",
)


def labels_of(paper: str) -> list[str]:
    """The runs of a paper that the page needs."""
    return [model.label for models in TABLES.values() for model in models if model.paper == paper]


def comparison_page(folder: Path = BENCHMARKS) -> str:
    """The page, from the published records; a table compares those of the images of its newest record."""
    known, notes = known_papers(), Footnotes()
    lines, shown = [], []
    for dataset, models in TABLES.items():
        found = {model: _records(model, dataset, folder) for model in models if model.paper in known}
        shown += [record for model, records in found.items() if model.trains for record in records]
        lines += [f"## {TITLES[dataset]}", "", *([ABOUT[dataset], ""] if dataset in ABOUT else [])]
        lines += [*_table(found, notes), ""]
    speeds = sorted({_machine(record) for record in shown})
    more = "; ".join(f"{model.name}: {model.more}" for models in TABLES.values() for model in models if model.more)
    remarks = [*notes.lines(), f"- Supervision beside the identities: {more}.", *(f"- {text}" for text in REMARKS)]
    if speeds:
        remarks.append(
            f"- Images/s is the speed of training, on {joined(speeds, 'and')}: the median over the seeds, "
            "which may have shared the cores with another run (`JOBS=2`)."
        )
    return "\n".join(
        [
            "# The papers' models side by side",
            "",
            "Generated by `make tables` (`python -m benchmarks tables`) from the records in `benchmarks/results/`; do "
            f"not edit. `make reproduce SCOPE=comparison {_seeds()} YES=1` runs all models.",
            "",
            f"All scores are in per cent, on {KINDS[KIND]}: synthetic pedestrians, not the real data sets. Each "
            "network is a ResNet-18 with its paper's modules and losses, trained on 128x64 images with the settings "
            "of its own demo.yaml, from [the same starting weights](../../common/weights/README.md), on about "
            f"{BUDGET:,} images (each counted as often as it is seen): eight epochs, or five of pairs and of two "
            "modalities. Re-ranking is not used; mAP is that of the usual step estimator.",
            "",
            f"`a ± b`: mean and sample standard deviation over the seeds, {len(SEEDS)} of them unless the last column "
            "says fewer. Gain: over the paper's own baseline, mean of the differences of runs with the same seed, with "
            "its 95 % interval (Student's t).",
            "",
            *lines,
            *remarks,
            "",
        ]
    )


def _seeds() -> str:
    return f'SEEDS="{" ".join(map(str, SEEDS))}"'


def _records(model: Model, dataset: str, folder: Path) -> list[Record]:
    wanted = KIND, dataset, model.label
    records = published_records(model.paper, folder)
    return [record for record in records if (record.kind, record.dataset, record.variant) == wanted]


def _machine(record: Record) -> str:
    machine = record.machine
    return f"{machine.gpu or f'{machine.cpu}, {machine.cores} cores'} ({machine.precision})"


def _table(found: dict[Model, list[Record]], notes: Footnotes) -> list[str]:
    published, found = found, of_the_newest_images(found)
    trained = [record for model, records in found.items() if model.trains for record in records]
    starts = Counter((record.config.get("pretrained"), record.weights) for record in trained)
    same_start = max((start for start in starts if start[0] == START), key=starts.get, default=(START, None))
    headers = ["Model", *(head for title in SCORES.values() for head in (title, "gain"))]
    headers += ["params (M)", "GMACs", "images/s", "seeds"]
    lines = [
        _line(model, records, found, same_start, notes) if records or not published[model] else _older(model, notes)
        for model, records in found.items()
    ]
    return markdown_table(headers, lines)


def of_the_newest_images(found: dict[Model, list[Record]]) -> dict[Model, list[Record]]:
    """Without the records of other images than those of the record that finished last."""
    newest = max((record for records in found.values() for record in records), key=attrgetter("finished"), default=None)
    return {
        model: [record for record in records if record.data.fingerprint == newest.data.fingerprint]
        for model, records in found.items()
    }


def _older(model: Model, notes: Footnotes) -> list[str]:
    mark = notes.mark(
        f"its records are of an earlier version of these images; {_lacking(load_spec(model.paper), model)}"
    )
    return [f"[{model.name}]({model.paper}.md)", f"not run {mark}", *[NOT_APPLICABLE] * (2 * len(SCORES) + 3)]


def _line(
    model: Model, records: list[Record], found: dict[Model, list[Record]], same_start: tuple, notes: Footnotes
) -> list[str]:
    paper = load_spec(model.paper)
    name = f"[{model.name}]({model.paper}.md)"
    if not records:
        mark = notes.mark(_lacking(paper, model))
        return [name, f"not run {mark}", *[NOT_APPLICABLE] * (2 * len(SCORES) + 3)]
    baseline = next((others for other, others in found.items() if _is_baseline(other, model)), [])
    scores = [text for key in SCORES for text in (mean_text(records, key), gain_text(records, baseline, key))]
    costs = [
        f"{records[0].model[key] * factor:.2f}" if key in records[0].model else NOT_APPLICABLE
        for key, factor in (("num_parameters", 1e-6), ("macs", 1e-9))
    ]
    seeds = str(len(records))
    if model.trains:
        images = images_trained_on(records, model.images_per_sample)
        if abs(images / BUDGET - 1) > TOLERANCE:
            name += " " + notes.mark(f"on {images:,.0f} images, not the budget of the other rows: no fair comparison")
        if {record.seed for record in records} < set(SEEDS):
            seeds += " " + notes.mark(_lacking(paper, model))
        starts = {(record.config.get("pretrained"), record.weights) for record in records}
        if starts != {same_start}:
            names = joined((STARTS.get(start, str(start)) for start, _ in sorted(starts, key=str)), "and")
            name += " " + notes.mark(f"from {names}, not from the start of the other rows: no fair comparison")
    if change := next(filter(None, map(Today(paper).change, records)), ""):
        name += " " + notes.mark(f"stale: the {change} changed since this run")
    speeds = [record.images_per_second for record in records if record.images_per_second]
    speed = f"{statistics.median(speeds):.0f}" if speeds else NOT_APPLICABLE
    return [name, *scores, *costs, speed, seeds]


def _lacking(paper: PaperSpec, model: Model) -> str:
    """What a row without all its runs lacks, and the command that runs it, if possible with its paper's other rows."""
    if not model.trains:
        return f"no run published: `{paper.command} ONLY={model.label}`"
    rows = [other for models in TABLES.values() for other in models if other.paper == model.paper and other.trains]
    own = any(document.id == DOCUMENT for document in paper.documents)
    names = DOCUMENT if own else " ".join(other.label for other in rows)
    return f'without all {len(SEEDS)} seeds: `{paper.command} ONLY="{names}" {_seeds()}`'


def _is_baseline(other: Model, model: Model) -> bool:
    return bool(model.baseline) and (other.paper, other.label) == (model.paper, model.baseline)


def mean_text(records: Sequence[Record], key: str) -> str:
    """`60.1 ± 0.4`, in per cent."""
    values = [100 * record.scores[key] for record in records]
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def gain_text(records: Sequence[Record], baseline: Sequence[Record], key: str) -> str:
    """`+2.1 [+0.5, +3.7]`: the mean difference from the baseline's run of the same seed, in points, and its 95 %
    interval; without it for one common seed."""
    before = {record.seed: record.scores[key] for record in baseline}
    gains = [100 * (record.scores[key] - before[record.seed]) for record in records if record.seed in before]
    if not gains:
        return NOT_APPLICABLE
    mean = statistics.fmean(gains)
    if len(gains) == 1:
        return f"{mean:+.1f}"
    half = student.ppf(0.975, len(gains) - 1) * statistics.stdev(gains) / math.sqrt(len(gains))
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def images_trained_on(records: Sequence[Record], images_per_sample: int) -> float:
    """Mean over the records, to the nearest hundred, because images per second are recorded with one decimal.

    They are those of the epochs after the first one (`History.images_per_second`).
    """
    counts = []
    for record in records:
        seconds = [entry["seconds"] for entry in record.log]
        later = seconds[1:] or seconds
        counts.append((record.images_per_second or 0) * sum(later) * len(seconds) / max(len(later), 1))
    return round(images_per_sample * statistics.fmean(counts), -2)
