"""How long a plan takes here: from finished runs of the same kind, or else from a short probe of the backbone."""

import time
from collections.abc import Sequence

import torch

from common import hardware
from common.backbones import build_resnet
from common.runs import Run

from .plan import Plan, PlannedRun

EVALUATION_SPEED = 3.0  # images/s of a forward pass over those of a training step; 3.0 to 3.3 measured on CPUs
OWN_MODULES = 1.3  # time of a training step over its backbone alone: 1.1 (baseline) to 1.5 (full) measured for NDMF-Net
FLOOR_SECONDS = 8.0  # a colour histogram or a count: reading and decoding, mostly


def estimate(plan: Plan, records: Sequence[dict], published: Sequence[dict] = ()) -> None:
    """Fill in each run's seconds, from finished runs of the same kind on this device or else from a short probe.

    records: of runs on this machine; published: others', for what no probe can tell.
    """
    rates: dict[tuple, float] = {}
    for planned in plan.to_do:
        if planned.run is None:
            planned.seconds = program_seconds(planned, [*records, *published])
            continue
        key = speed_key(planned.run)
        rate = measured_rate(key, [record for record in records if record["variant"] == planned.run.variant])
        if rate is None:
            if key not in rates:
                rates[key] = measured_rate(key, records) or probe_rate(planned.run) / OWN_MODULES
            rate = rates[key]
        planned.seconds = planned.images / rate + planned.evaluated / (EVALUATION_SPEED * rate)


def program_seconds(planned: PlannedRun, records: Sequence[dict]) -> float:
    """What the first of the records of this program took, wherever it ran."""
    taken = [sum(record["seconds"].values()) for record in records if record["run"] == planned.name]
    return max(taken[0], FLOOR_SECONDS) if taken else FLOOR_SECONDS


def speed_key(run: Run) -> tuple:
    """What a run's images per second depend on most."""
    config = run.config
    return config.backbone, config.height, config.width, run.device.type, run.precision


def measured_rate(key: tuple, records: Sequence[dict]) -> float | None:
    """Training images per second of finished runs with this key, the slowest of them."""
    backbone, height, width, device, precision = key
    rates = [
        record["images_per_second"]
        for record in records
        if record.get("images_per_second")
        and (record["config"]["backbone"], record["config"]["height"], record["config"]["width"])
        == (backbone, height, width)
        and (record["machine"]["device"], record["machine"]["precision"]) == (device, precision)
    ]
    return min(rates) if rates else None


def probe_rate(run: Run, *, steps: int = 3) -> float:
    """Images per second of forward and backward passes of the run's backbone alone, after one to warm up."""
    config, device = run.config, run.device
    batch_size = 64 if device.type == "cuda" else 32
    network = build_resnet(config.backbone, last_stride=config.last_stride, pretrained="none")
    network = network.to(device, memory_format=torch.channels_last).train()
    images = torch.randn(batch_size, 3, config.height, config.width, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    for step in range(steps + 1):
        if step == 1:
            started = time.monotonic()
        with hardware.autocast(device, run.precision):
            loss = network(images).float().mean()
        loss.backward()
        loss.item()  # waits for the device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return steps * batch_size / (time.monotonic() - started)


def print_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
