"""Folders for data and runs. The environment variables REID_DATA and REID_RUNS move them out of the checkout."""

import importlib.util
import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def data_folder() -> Path:
    """Synthetic data sets and decoded images: `data` in the repository, or REID_DATA."""
    return Path(os.environ.get("REID_DATA") or REPOSITORY / "data")


def cache_folder() -> Path:
    """For decoded images."""
    return data_folder() / "cache"


def runs_folder() -> Path:
    """Run directories and a user's pages: `runs` in the repository, or REID_RUNS."""
    return Path(os.environ.get("REID_RUNS") or REPOSITORY / "runs")


def package_folder(package: str) -> Path | None:
    """The folder of a top-level package, such as a paper's, without importing it; None where there is none."""
    spec = importlib.util.find_spec(package)
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations))) if locations else None
