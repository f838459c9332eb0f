"""Table 8's latency: `python -m mgre.latency [--dataset market1501] [--demo] [--device cuda]`.

The paper names neither batch size nor device, so what is compared is the ratio to Baseline+ResNet101, measured in the
same minutes on the same device. Networks have random weights and the paper's settings, images are 256x128: --demo only
shortens the measurement. Table 8's ratios are read from the record, `runs/mgre/<dataset>-<kind>-latency-s0`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate

from common import hardware
from common.command_line import find_data_root
from common.config import load_config
from common.datasets import open_dataset
from common.errors import command
from common.program_record import write_program_record
from common.provenance import describe_machine, paper_folder

from .train import Config, build_model


class Network(NamedTuple):
    """A row of Table 8: a section of `variants`, and its backbone."""

    title: str
    variant: str
    backbone: str


NETWORKS = {
    "resnet50": Network("Baseline+ResNet50", "baseline", "resnet50"),
    "resnet101": Network("Baseline+ResNet101", "baseline", "resnet101"),
    "resnet152": Network("Baseline+ResNet152", "baseline", "resnet152"),
    "mgre": Network("MGRe", "full", "resnet50"),
}
REFERENCE = "resnet101"


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.latency")
    parser.add_argument("--dataset", default="market1501", help="whose record it is; its images are not read")
    parser.add_argument("--data-root", type=Path, help="folder of the real data sets (also the DATA_ROOT variable)")
    parser.add_argument("--demo", action="store_true", help="smaller batches, fewer repetitions")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    dataset = open_dataset(arguments.dataset, find_data_root(arguments), size="demo" if arguments.demo else "full")
    device = hardware.select_device(arguments.device)
    sizes = {"batch_size": 4, "repetitions": 5} if arguments.demo else {"batch_size": 32, "repetitions": 20}
    measured = measure(device, **sizes)
    rows = [
        (network.title, f"{1000 * found['seconds']:.1f}", f"{found['ratio']:.2f}")
        for key, network in NETWORKS.items()
        for found in [measured["networks"][key]]
    ]
    machine = measured["machine"]
    print(f"{machine['gpu'] or machine['cpu']}, {machine['precision']}, batches of {sizes['batch_size']} at 256x128")
    print(tabulate(rows, ["network", "ms a batch (median)", "ratio"], tablefmt="github"))
    write_program_record(
        __package__,
        "latency",
        dataset,
        scores=measured["networks"],
        settings=sizes,
        started=started,
        device=device,
        precision=machine["precision"],
    )


@torch.inference_mode()
def measure(device: torch.device, *, dataset: str = "market1501", batch_size: int = 32, repetitions: int = 20) -> dict:
    """{batch_size, machine, networks: {name: {seconds, ratio}}}: the median seconds of a batch's test feature.

    The networks take turns, so that a busy minute of the machine falls on all of them.
    """
    folder = paper_folder(__package__)
    precision = hardware.select_precision("auto", device)
    images = torch.zeros(batch_size, 3, 256, 128, device=device).contiguous(memory_format=torch.channels_last)
    models = {}
    for name, network in NETWORKS.items():
        overrides = {"backbone": network.backbone, "pretrained": "none"}
        config = load_config(
            Config, folder, dataset="market1501", demo=False, variant=network.variant, overrides=overrides
        )
        model = build_model(config, 1).eval().to(device, memory_format=torch.channels_last)
        models[name] = model
    times = {name: [] for name in models}
    for repetition in range(repetitions + 2):
        for name, model in models.items():
            with hardware.autocast(device, precision):
                seconds = _seconds(lambda model=model: model.embed(images), device)
            if repetition >= 2:  # the first ones choose kernels and allocate
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "batch_size": batch_size,
        "repetitions": repetitions,
        "machine": describe_machine(device, precision),
        "networks": {
            name: {"seconds": seconds, "ratio": seconds / medians[REFERENCE]} for name, seconds in medians.items()
        },
    }


def _seconds(work: Callable, device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1:])
