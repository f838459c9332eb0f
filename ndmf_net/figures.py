"""The figures that need trained networks: Fig. 8 (heat maps), Fig. 9 (retrieval lists), what each module carries."""

from pathlib import Path

from torch import Tensor

from common.evaluation import LoadedRun
from common.evaluation.carried import carried_figure
from common.evaluation.figures import heat_map_figure, retrieval_figure

from .activity import carriers_of
from .train import prepared


def fig8(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Query images of random identities under each network's last feature map, also less its mean over images."""

    def last_map(loaded: LoadedRun, images: Tensor) -> Tensor:
        return loaded.model.feature_map(prepared(images))

    return heat_map_figure(runs, file, last_map, less_mean=True)


def fig9(runs: dict[str, LoadedRun], file: Path) -> dict:
    """The gallery images nearest to queries of random identities, with their cosine similarities."""
    (loaded,) = runs.values()
    return retrieval_figure(loaded, file)


def carried(runs: dict[str, LoadedRun], file: Path) -> dict:
    """What each module of the trained network carries: scores with its output replaced."""
    (loaded,) = runs.values()
    return carried_figure(loaded, carriers_of(loaded.model), file)
