"""Open a run from the command line that every paper's train.py has, or reopen it from its directory."""

import argparse
from pathlib import Path

from common import devices, distributed
from common.datasets import READERS
from common.datasets.arguments import add_dataset_arguments, dataset_of
from common.errors import UserError
from common.files import read_json
from common.paths import package_folder, runs_folder
from common.pretrained import weights_hash

from .run import Run
from .settings import load_resolved, load_settings, parse_overrides, run_label


def training_command_line(paper: str, dataset: str = "market1501") -> argparse.ArgumentParser:
    """The command line of every paper's train.py; `--help` describes its options.

    dataset: the default of `--dataset`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {paper}.train", description=f"Train and evaluate {paper}.")
    add_dataset_arguments(parser, dataset)
    parser.add_argument("--variant", default="full", help="a section of variants in config.yaml")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change a setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-dir", type=Path, help="default: runs/<paper>/<dataset>-<kind>-<variant>-s<seed>")
    parser.add_argument("--resume", action="store_true", help="resume at the last checkpoint, if there is one")
    parser.add_argument("--force", action="store_true", help="train from scratch, replacing the run directory")
    return parser


def open_run(paper: str, schema: type, argv: list[str] | None = None, *, dataset: str = "market1501") -> Run:
    """The run that a command line describes; writes nothing except missing synthetic data.

    paper: the package with config.yaml and demo.yaml; schema: the dataclass of its settings; argv: default sys.argv;
    dataset: the default of `--dataset`.
    """
    arguments = training_command_line(paper, dataset).parse_args(argv)
    overrides = parse_overrides(arguments.set)
    settings = load_settings(
        schema,
        package_folder(paper),
        dataset=arguments.dataset,
        demo=arguments.demo,
        variant=arguments.variant,
        overrides=overrides,
    )
    device = distributed.initialise(devices.select_device(arguments.device))
    devices.compute_in_full_precision(device)
    found = dataset_of(arguments)
    demo_settings_elsewhere = arguments.demo and found.kind != "demo"
    label = run_label(arguments.variant + ("+demo" if demo_settings_elsewhere else ""), overrides)
    directory = runs_folder() / paper / f"{found.name}-{found.kind}-{label}-s{arguments.seed}"
    return Run(
        paper,
        found,
        label,
        settings,
        arguments.seed,
        device,
        arguments.run_dir or directory,
        overridden=bool(overrides) or demo_settings_elsewhere,
        resume=arguments.resume,
        force=arguments.force,
        weights=weights_hash(getattr(settings, "pretrained", "none")),
    )


def reopen_run(paper: str, schema: type, directory: Path | str, device: str = "auto") -> Run:
    """The run in a directory, with the settings and the data set that it was started with."""
    directory = Path(directory)
    identity = read_json(directory / "run.json")
    if identity is None:
        raise UserError(f"{directory} is not a run directory: it has no run.json")
    if identity["paper"] != paper:
        raise UserError(f"{directory} holds a run of {identity['paper']}, not of {paper}")
    settings = load_resolved(schema, directory / "config.yaml")
    dataset = READERS[identity["dataset"]].read(Path(identity["data_folder"]), identity["dataset"])
    found = devices.select_device(device)
    devices.compute_in_full_precision(found)
    weights = identity.get("weights")  # as they were: the network is read from a checkpoint
    return Run(paper, dataset, identity["variant"], settings, identity["seed"], found, directory, weights=weights)
