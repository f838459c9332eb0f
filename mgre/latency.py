"""Table 8's cost, latency and multiply-accumulates: [--dataset market1501] [--demo] [--device cuda], `--help` for more.

The paper names neither batch size nor device, so what is compared is the ratio to Baseline+ResNet101, measured at the
same time on the same device. The networks have random weights and the paper's settings, and the images are 256x128:
--demo only shortens the measurement. The tables read the result record that it writes.
"""

import statistics
import time
from typing import NamedTuple

import torch
from tabulate import tabulate
from torch import Tensor

from common.errors import command
from common.runs import Program

from .model import MGRe
from .scores import network_size
from .settings import Settings


class Network(NamedTuple):
    """A row of Table 8: its title, a section of `variants`, and the backbone."""

    title: str
    variant: str
    backbone: str

    @property
    def key(self) -> str:
        """Its name in the record."""
        return self.title.removeprefix("Baseline+").lower()


NETWORKS = (
    Network("Baseline+ResNet50", "baseline", "resnet50"),
    Network("Baseline+ResNet101", "baseline", "resnet101"),
    Network("Baseline+ResNet152", "baseline", "resnet152"),
    Network("MGRe", "full", "resnet50"),
)
REFERENCE = "resnet101"
NUM_IDENTITIES = 751  # of Market-1501's training set; classifiers are counted, but not timed
NUM_WARM_UPS = 2  # the first passes choose kernels and allocate memory


@command
def main(argv: list[str] | None = None) -> None:
    # The record is filed under the data set; its images are not read.
    program = Program.open(__package__, "latency", argv, description="Measure Table 8's latency.")
    demo = program.arguments.demo
    sizes = {"batch_size": 4, "repetitions": 5} if demo else {"batch_size": 32, "repetitions": 20}
    measured = measure(program, **sizes)
    rows = [
        (network.title, f"{1000 * found['seconds']:.1f}", f"{found['ratio']:.2f}", f"{found['macs'] / 1e9:.3f}")
        for network in NETWORKS
        for found in [measured[network.key]]
    ]
    print(f"{program.device}, {program.precision()}, batches of {sizes['batch_size']} images at 256x128")
    print(tabulate(rows, ["network", "ms a batch (median)", "ratio", "GMACs an image"], tablefmt="github"))
    print(program.write_record(measured, sizes))


@torch.inference_mode()
def measure(program: Program, *, batch_size: int, repetitions: int) -> dict[str, dict[str, float]]:
    """{network: {seconds, ratio, macs, macs_as_printed}}: the median time of a batch's test features, its ratio to
    REFERENCE's, and as in `network_size`.

    The networks take turns, so that whatever else the machine does slows all of them.
    """
    images = torch.zeros(batch_size, 3, 256, 128, device=program.device).contiguous(memory_format=torch.channels_last)
    models = {network.key: _random_network(program, network).to(program.device) for network in NETWORKS}
    times = {name: [] for name in models}
    for repetition in range(NUM_WARM_UPS + repetitions):
        for name, model in models.items():
            with program.autocast():
                seconds = _seconds(model, images)
            if repetition >= NUM_WARM_UPS:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    found = {}
    for network in NETWORKS:
        seconds, size = medians[network.key], network_size(models[network.key], _settings(program, network))
        counted = {name: size[name] for name in ("macs", "macs_as_printed")}
        found[network.key] = {"seconds": seconds, "ratio": seconds / medians[REFERENCE], **counted}
    return found


def _settings(program: Program, network: Network) -> Settings:
    overrides = {"backbone": network.backbone, "pretrained": "none"}
    return program.settings(Settings, network.variant, demo=False, overrides=overrides)


def _random_network(program: Program, network: Network) -> MGRe:
    return MGRe(NUM_IDENTITIES, _settings(program, network)).eval().to(memory_format=torch.channels_last)


def _seconds(model: MGRe, images: Tensor) -> float:
    started = time.perf_counter()
    model.embed(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
