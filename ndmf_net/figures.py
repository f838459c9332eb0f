"""The paper's figures that need trained networks: Fig. 8 (heat maps) and Fig. 9 (retrieval lists)."""

from pathlib import Path

from common.evaluation import LoadedRun
from common.evaluation.figures import heat_map_figure, retrieval_figure

from .train import prepared


def fig8(runs: dict[str, LoadedRun], file: Path) -> dict:
    """Query images of random identities under each network's last feature map."""
    return heat_map_figure(runs, file, lambda loaded, images: loaded.model.feature_map(prepared(images)))


def fig9(runs: dict[str, LoadedRun], file: Path) -> dict:
    """The gallery images nearest to queries of random identities, with their cosine similarities."""
    (loaded,) = runs.values()
    return retrieval_figure(loaded, file)
