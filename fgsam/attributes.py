"""Print what a trained run says of the people in images: `python -m fgsam.attributes RUN_DIR image.jpg`."""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from common.datasets.base import Sample, Subset
from common.errors import UserError, command
from common.images import ImageStore

from .evaluate import load_run
from .train import attribute_predictor


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.attributes", description=__doc__.partition(":")[0])
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("images", type=Path, nargs="+", help="crops of one person each")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)
    loaded = load_run(arguments.run_directory, arguments.device)
    if loaded.table is None:
        raise UserError(f"{arguments.run_directory} has learned no attributes: train --variant full, lram or no_cpb")
    config = loaded.run.config
    subset = Subset("images", tuple(Sample(path, 0, 0) for path in arguments.images))
    images = ImageStore(subset, config.height, config.width, cache=False).gather(np.arange(len(subset)))
    with torch.inference_mode():
        found = attribute_predictor(loaded.model, loaded.run)(images)
    for position, path in enumerate(arguments.images):
        rows = []
        for task, values in loaded.table.values.items():
            probability, code = found[task][position].max(0)
            rows.append([task.replace("_", " "), values[code], probability.item()])
        print(f"{path}\n{tabulate(rows, ['attribute', 'value', 'probability'], floatfmt='.2f')}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
