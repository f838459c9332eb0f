"""What the attention does: logged after each epoch on held-out pairs, so that a gate that has died, or is the same mask
for all pairs, is seen."""

import sys
from typing import NamedTuple

import torch
from torch import Tensor

from common import distributed, probes
from common.images import ImageStore
from common.runs import Run

from .mean_image import prepared
from .model import MutualAttentionNet
from .verification import PAIRS_PER_BATCH, correct, gates_of, held_out_pairs, same_by_attention

NUM_CROSSED = 8  # positive pairs whose 8 first and 8 second images are crossed, for `variance_shares`


class WatchedPairs(NamedTuple):
    """B pairs, half positive, positive pairs first."""

    images: Tensor  # (2B, 3, H, W) uint8, of all first images, then of all second ones
    same: Tensor  # (B,) bool
    crossed: Tensor  # (2n,), positions in `images` of n pairs of different people, first images first


def watched_pairs(run: Run) -> WatchedPairs | None:
    """PAIRS_PER_BATCH pairs of test images, or fewer; None where there are none, or no attention to watch."""
    pairs = held_out_pairs(run, PAIRS_PER_BATCH) if run.settings.attention else None
    if pairs is None:
        return None
    store = ImageStore(pairs.images, run.settings.height, run.settings.width, cache=False)
    people = {int(pairs.images.persons[pairs.first[index]]): index for index in range(len(pairs.same) // 2)}
    chosen = torch.tensor(list(people.values())[:NUM_CROSSED])
    images = store.gather([*pairs.first, *pairs.second])
    return WatchedPairs(images, torch.from_numpy(pairs.same), torch.cat([chosen, chosen + len(pairs.same)]))


@torch.inference_mode()
def activity(model: MutualAttentionNet, run: Run, watched: WatchedPairs | None, mean: Tensor) -> dict[str, float]:
    """Of the network in evaluation mode; it is left in the mode in which it was. Empty where nothing is watched.

    For each attention, `attention3_...`: `rms` of MA before the gate; `mean`, `spread` and, of a sigmoid, `saturated`
    as in `gate_statistics`; `mask`, `image`, `pair`: MA's `variance_shares`. `verifier_own`, `verifier_within_label`,
    `verifier_across_labels`: the verifier's accuracy, as in `same_by_attention`.
    """
    if watched is None:
        return {}
    training, gates = model.training, gates_of(model)
    befores = {name: name.replace(".gates", ".before_gate") for name in gates}
    model.eval()
    with run.autocast():
        maps3 = model.layer3_maps(prepared(run.to_device(watched.images), mean))
        with probes.outputs_of(model, list(befores.values())) as before:
            model.attended_features(maps3)
        found, own = same_by_attention(model, maps3)
        shares = variance_shares_of(model, maps3[watched.crossed.to(maps3.device)])
    model.train(training)
    values = {}
    for name in gates:
        statistics = probes.gate_statistics(own[name])
        if run.settings.activation != "sigmoid":
            del statistics["saturated"]
        statistics = {"rms": rms(before[befores[name]])} | statistics | shares[name]
        values |= {f"{name.removesuffix('.gates')}_{key}": value for key, value in statistics.items()}
    for way, probability in found.items():
        values[f"verifier_{way}"] = correct(probability, watched.same).float().mean().item()
    return values


def variance_shares_of(model: MutualAttentionNet, maps3: Tensor) -> dict[str, dict[str, float]]:
    """{gate: `variance_shares` of MA for every first image with every second one}. maps3: (2n, C, H, W)."""
    first, second = maps3.chunk(2)
    n, gates = len(first), gates_of(model)
    with probes.outputs_of(model, gates) as crossed:
        model.attended_features(torch.cat([first.repeat_interleave(n, 0), second.repeat(n, 1, 1, 1)]))
    return {name: variance_shares(crossed[name].unflatten(0, (n, n))) for name in gates}


def variance_shares(maps: Tensor) -> dict[str, float]:
    """Parts of the variance of maps (I, J, ...) of I x J pairs, which sum to 1: `mask`, the same for all pairs;
    `image`, what the first or the second image adds to it, whatever the other is; `pair`, the rest."""
    maps = maps.double().flatten(2)
    mask = maps.mean((0, 1), keepdim=True)
    first, second = (maps.mean(axis, keepdim=True) - mask for axis in (1, 0))
    parts = {
        "mask": (mask - mask.mean()).square().mean(),
        "image": first.square().mean() + second.square().mean(),
        "pair": (maps - mask - first - second).square().mean(),
    }
    total = sum(parts.values()).clamp(min=1e-300)
    return {name: (part / total).item() for name, part in parts.items()}


def rms(values: Tensor) -> float:
    return values.float().square().mean().sqrt().item()


def say_rms_of_first_step(model: MutualAttentionNet) -> None:
    """The next forward pass prints the root mean square of MA before each gate: between about 0.75 and 1.5 a sigmoid is
    neither flat nor saturated. It depends on the pretrained weights' scale."""

    def watch(name: str) -> None:
        def say(_module, _inputs, output: Tensor) -> None:
            handle.remove()
            if distributed.is_main():
                print(f"{name}: MA has a root mean square of {rms(output):.3g} before its gate", file=sys.stderr)

        handle = getattr(model, name).before_gate.register_forward_hook(say)

    for gate in gates_of(model):
        watch(gate.removesuffix(".gates"))
