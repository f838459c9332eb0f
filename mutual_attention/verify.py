"""How probably two images show one person: `python -m mutual_attention.verify RUN_DIR a.jpg b.jpg`."""

import argparse
import sys
from pathlib import Path

import numpy as np

from common.datasets.base import Sample, Subset
from common.errors import command
from common.images import ImageStore

from .evaluate import load_run


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.verify", description=__doc__)
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("images", type=Path, nargs=2, metavar="IMAGE", help="crops of one person each")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)

    loaded = load_run(arguments.run_directory, arguments.device)
    config = loaded.run.config
    samples = tuple(Sample(path, person=0, camera=0) for path in arguments.images)
    images = ImageStore(Subset("images", samples), config.height, config.width, cache=False).gather(np.arange(2))
    probability = loaded.verify(images[:1], images[1:]).item()
    print(f"same person: {probability:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
