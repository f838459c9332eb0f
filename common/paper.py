"""What a paper's folder offers to the rest of the suite, and how it is loaded.

The folder is a package `<paper>` at the top of the repository, with config.yaml (every setting, and `variants`),
demo.yaml (what the demo changes) and the modules below. Tables, plans and estimates use a paper through this interface
only; anything else in the folder is private to it. `benchmarks/specs/<paper>.yaml` describes its tables.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Protocol

from common.errors import UserError
from common.evaluation import LoadedRun
from common.paths import package_folder
from common.runs import Run

# Time to train on one image over the time to embed it, unless train.py has its own TRAINING_COST. Measured: a forward
# and backward pass takes 3.0 to 3.3 times as long as a forward pass.
TRAINING_COST = 3.2


class Settings(Protocol):
    """settings.py, `Settings`: a pydantic dataclass without defaults, one field for each key of config.yaml. The suite
    itself reads these fields."""

    height: int  # of the network's input images
    width: int
    num_epochs: int  # in all
    precision: str  # auto | bf16 | fp16 | fp32
    cache: bool  # keep decoded images on disk
    # Optional: checkpoint_epochs, `auto` or the epochs from one checkpoint to the next.


class SettingsModule(Protocol):
    """settings.py"""

    Settings: type[Settings]


class TrainModule(Protocol):
    """train.py: `python -m <paper>.train` with the command line of `common.runs.open_run` trains, scores and writes
    the run's result record. It may have a number TRAINING_COST (see above) and, where an epoch trains on more or fewer
    images than there are, a function images_per_epoch(run) -> int, for estimates."""

    def main(self, argv: list[str] | None = None) -> None: ...


class EvaluateModule(Protocol):
    """evaluate.py: `python -m <paper>.evaluate RUN_DIR`."""

    def network_of(self, run: Run) -> LoadedRun:
        """The network of a run, newly built and without pretrained weights, with its embedding. The run's directory
        need not exist: estimates time this network."""

    def load_run(self, directory: Path, device: str = "auto") -> LoadedRun:
        """The network of a run directory's last checkpoint, ready to embed. UserError where there is none."""


class CostsModule(Protocol):
    """costs.py, needed only if the paper reports parameters or operations. On torch's meta device."""

    def costs(self, settings: Settings, num_identities: int) -> dict[str, int]:
        """Of a new network with these settings: what the records of its runs have as `model`."""


class FiguresModule(Protocol):
    """figures.py, needed only if the paper has figures of trained networks: for each such document of
    `benchmarks/specs/<paper>.yaml`, a function named by the document's id,

        fig8(runs: dict[str, LoadedRun], file: Path) -> dict

    runs: {method of a row: its run}. The function draws `file`, a PNG, and returns what is shown as JSON values. Of
    these, `table`, {"headers": [...], "rows": [[...]]}, is printed above the figure."""


class Paper(Protocol):
    name: str

    def module(self, program: str) -> ModuleType:
        """Another program of the folder, named by a row of the spec: `python -m <paper>.<program> --dataset NAME
        [--demo] [--data-root DIR] --device NAME` writes its record, as `common.runs.Program` does. If the record has a
        config_hash, the module's `program_settings(settings)` returns the settings that are hashed."""

    settings: SettingsModule
    train: TrainModule
    evaluate: EvaluateModule
    figures: FiguresModule


_NEEDED = {"settings": ("Settings",), "train": ("main",), "evaluate": ("network_of", "load_run"), "figures": ()}


class _LazyPaper:
    """A Paper whose modules are imported on first use."""

    def __init__(self, name: str):
        self.name = name

    def __getattr__(self, module: str) -> ModuleType:
        if module not in _NEEDED:
            raise AttributeError(module)
        loaded = self.module(module)
        for name in _NEEDED[module]:
            if not hasattr(loaded, name):
                raise UserError(f"{self.name}/{module}.py has no `{name}`: common/paper.py describes it")
        return loaded

    def module(self, program: str) -> ModuleType:
        try:
            return importlib.import_module(f"{self.name}.{program}")
        except ModuleNotFoundError as error:
            if error.name != f"{self.name}.{program}":
                raise
            raise UserError(f"the paper {self.name} has no {program}.py: common/paper.py describes it") from None


def load_paper(name: str) -> Paper:
    """The paper in the folder of that name. UserError: no such folder."""
    if package_folder(name) is None:
        raise UserError(f"there is no paper '{name}': its folder with __init__.py belongs beside common/")
    return _LazyPaper(name)


def images_per_epoch(paper: Paper, run: Run) -> int:
    """How many images, or pairs, an epoch of a run trains on. UserError: too few for a batch."""
    count = getattr(paper.train, "images_per_epoch", None)
    return count(run) if count else len(run.dataset.train)


def training_cost(paper: Paper) -> float:
    """Time to train on one image over the time to embed it."""
    return getattr(paper.train, "TRAINING_COST", TRAINING_COST)
