"""How probably two images show one person: RUN_DIR a.jpg b.jpg [--device cuda]."""

import argparse
from pathlib import Path

import numpy as np

from common.datasets.base import Sample, Subset
from common.errors import command
from common.images import ImageStore

from .evaluate import load_run
from .mean_image import mean_image_of
from .train import verifier


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.verify_images", description="How probably two images show one person."
    )
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("images", type=Path, nargs=2, metavar="IMAGE", help="crops of one person each")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)

    loaded = load_run(arguments.run_directory, arguments.device)
    run, settings = loaded.run, loaded.run.settings
    verify = verifier(loaded.model, run, mean_image_of(run))
    samples = tuple(Sample(path, person=0, camera=0) for path in arguments.images)
    images = ImageStore(Subset("images", samples), settings.height, settings.width, cache=False).gather(np.arange(2))
    print(f"same person: {verify(images[:1], images[1:]).item():.3f}")


if __name__ == "__main__":
    main()
