"""Print the attributes that a trained network predicts for the people in images: RUN_DIR IMAGE ... [--device cuda]."""

import argparse
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from common import datasets
from common.errors import UserError, command
from common.images import ImageStore

from .attribute_tasks import read_table
from .evaluate import load_run
from .model import Baseline
from .train import attribute_predictor


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.predict_attributes",
        description="Print the attributes that a trained network predicts for the people in images.",
    )
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="crops of one person each")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args(argv)

    loaded = load_run(arguments.run_directory, arguments.device)
    run, settings, table = loaded.run, loaded.run.settings, read_table(loaded.run)
    if isinstance(loaded.model, Baseline) or not table.values:
        raise UserError(f"{arguments.run_directory} has learned no attributes: train --variant full, lram or no_cpb")
    samples = tuple(datasets.Sample(path, person=0, camera=0) for path in arguments.images)
    store = ImageStore(datasets.Subset("images", samples), settings.height, settings.width, cache=False)
    with torch.inference_mode():
        found = attribute_predictor(loaded.model, run)(store.gather(np.arange(len(store))))
    for position, path in enumerate(arguments.images):
        rows = []
        for task, values in table.values.items():
            probability, code = found[task][position].max(0)
            rows.append([task.replace("_", " "), values[code], probability.item()])
        print(f"{path}\n{tabulate(rows, ['attribute', 'value', 'probability'], floatfmt='.2f')}\n")


if __name__ == "__main__":
    main()
