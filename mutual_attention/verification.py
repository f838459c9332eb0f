"""How often the verifier is correct on held-out pairs, people whom training has not seen, and how much of that is owed
to each pair's own attention."""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common import probes
from common.datasets.base import Subset
from common.errors import UserError
from common.images import ImageStore
from common.runs import Run
from common.samplers import PairSampler

from .mean_image import prepared
from .model import MutualAttentionNet

NUM_PAIRS = 1600
PAIRS_PER_BATCH = 64
SEED = 0  # the same pairs for every run on a data set
MOST_EPOCHS = 50  # of drawing pairs, where there are fewer different ones than asked for


class HeldOutPairs(NamedTuple):
    """n different pairs; their batches are half positive, positive pairs first.

    first, second: (n,) int64, positions in `images`; same: (n,) bool.
    """

    images: Subset
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray

    def batches(self) -> Iterator[slice]:
        yield from (slice(start, start + PAIRS_PER_BATCH) for start in range(0, len(self.same), PAIRS_PER_BATCH))


def held_out_pairs(run: Run, count: int) -> HeldOutPairs | None:
    """At most `count` pairs of test images, half of them positive, across cameras where possible.

    The images are those of all queries' people, in query and gallery. None where they make no pairs.
    """
    query, gallery = run.dataset.query, run.dataset.gallery
    samples = [sample for sample in (*query.samples, *gallery.samples) if sample.person in set(query.persons.tolist())]
    pool = Subset("held_out", tuple(dict.fromkeys(samples)))
    found: dict[bool, dict[tuple[int, int], None]] = {True: {}, False: {}}
    try:  # every process scores all pairs
        sampler = PairSampler(pool.persons, pool.cameras, PAIRS_PER_BATCH, seed=SEED, rank=0, world_size=1)
    except UserError:
        return None
    for epoch in range(MOST_EPOCHS):
        for batch in sampler.batches(epoch):
            for first, second, same in zip(*(values.tolist() for values in batch), strict=True):
                if (second, first) not in found[same]:
                    found[same][first, second] = None
        if min(map(len, found.values())) >= count // 2:
            break
    half = min(count // 2, *map(len, found.values()))
    parts = [np.array([*found[same]][:half]) for same in (True, False)]
    step = PAIRS_PER_BATCH // 2
    blocks = [part[start : start + step] for start in range(0, half, step) for part in parts]
    same = np.concatenate([np.full(len(block), number % 2 == 0) for number, block in enumerate(blocks)])
    used, positions = np.unique(np.concatenate(blocks), return_inverse=True)
    first, second = positions.reshape(-1, 2).T
    return HeldOutPairs(Subset(pool.name, tuple(pool.samples[index] for index in used)), first, second, same)


def gates_of(model: MutualAttentionNet) -> list[str]:
    """The submodules whose outputs are MA."""
    return ["attention3.gates", "attention4.gates"] if model.attention else []


def partners(num_pairs: int) -> dict[str, Tensor]:
    """{column of the page: (num_pairs,) whose attention each pair of a batch gets}; the first half are positive.

    within_label: of another pair with the same label; across_labels: of a pair with the other label. Both may tell the
    verifier the label of the pair that they are from: the first the correct one, the second the wrong one.
    """
    own, half = torch.arange(num_pairs), num_pairs // 2
    return {
        "within_label": torch.cat([part.roll(1) for part in own.split(half)]),
        "across_labels": own.roll(half),
    }


@torch.inference_mode()
def same_by_attention(model: MutualAttentionNet, maps3: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """{own | within_label | across_labels: P(same person), (B,)} with that attention, and {gate: the pairs' own MA}.

    maps3: layer3's maps of one batch of pairs, (2B, C, H, W). Without attention, and where each pair is attended with
    another pair's anyway, there is `own` only.
    """
    names = gates_of(model)
    with probes.outputs_of(model, names) as own:
        found = {"own": model.same_by_maps(maps3)}
    for way, order in partners(len(maps3) // 2).items() if model.own_attention else ():
        with probes.replaced_outputs(model, {name: probes.frozen_to(own[name][order]) for name in names}):
            found[way] = model.same_by_maps(maps3)
    return found, own


def correct(probability: Tensor, same: Tensor) -> Tensor:
    """(B,) bool on the CPU: a pair counts as one person above a probability of one half."""
    return (probability.cpu() > 0.5) == same


@torch.inference_mode()
def verification_scores(model: MutualAttentionNet, run: Run, mean: Tensor) -> dict[str, float]:
    """Accuracies on NUM_PAIRS held-out pairs, fractions: `accuracy`, and with the attention replaced: `within_label`,
    `across_labels` (as in `partners`), `label_mean` (by its mean over all pairs with the same label), `frozen` (by its
    mean over all pairs). `num_pairs` is their number.

    model: in evaluation mode. Empty where the test images make no pairs.
    """
    pairs, settings = held_out_pairs(run, NUM_PAIRS), run.settings
    if pairs is None:
        return {}
    store = ImageStore(pairs.images, settings.height, settings.width, cache=settings.cache)
    totals: dict[str, Tensor] = {}  # of MA over the negative and over the positive pairs, (2, C, H, W)
    right: dict[str, list[Tensor]] = defaultdict(list)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for part in pairs.batches():
            images = store.gather(np.concatenate([pairs.first[part], pairs.second[part]]))
            yield model.layer3_maps(prepared(run.to_device(images), mean)), torch.from_numpy(pairs.same[part])

    with run.autocast():
        for maps3, same in batches():
            found, own = same_by_attention(model, maps3)
            for way, probability in found.items():
                right[way].append(correct(probability, same))
            for name, gates in own.items():
                total = torch.stack([gates[same == label].double().sum(0) for label in (False, True)])
                totals[name] = totals.get(name, 0) + total
        means = {name: total / (len(pairs.same) / 2) for name, total in totals.items()}  # half of each label
        for maps3, same in batches() if model.own_attention else ():
            replaced = {
                "label_mean": {name: probes.frozen_to(of_labels[same.long()]) for name, of_labels in means.items()},
                "frozen": {name: probes.frozen_to(of_labels.mean(0)) for name, of_labels in means.items()},
            }
            for way, outputs in replaced.items():
                with probes.replaced_outputs(model, outputs):
                    right[way].append(correct(model.same_by_maps(maps3), same))
    shares = {way: torch.cat(parts).double().mean().item() for way, parts in right.items()}
    return {"accuracy": shares.pop("own"), **shares, "num_pairs": len(pairs.same)}
