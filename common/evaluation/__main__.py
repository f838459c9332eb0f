"""`python -m common.evaluation FEATURES.npz`: score features from any other code by the same rules."""

import argparse
import sys
import zipfile
from pathlib import Path

import numpy as np

from common.errors import UserError, command
from common.metrics import PROTOCOLS

from .searches import rank_search, scores_of


def read_features(path: Path) -> dict[str, np.ndarray]:
    """Arrays query_features, query_ids, query_cameras and the same of the gallery. UserError: they cannot be read."""
    names = [f"{side}_{what}" for side in ("query", "gallery") for what in ("features", "ids", "cameras")]
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file.files]
            if missing:
                raise UserError(f"{path} has no array {', '.join(missing)}; it has {', '.join(file.files)}")
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:  # TypeError: a .npy file
        raise UserError(
            f"{path} is not an .npz file of plain arrays ({error}). Write it with numpy.savez(path, {names[0]}=...)"
        ) from None


@command
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m common.evaluation", description="Score features from a file.")
    parser.add_argument("features", type=Path, help=".npz with query_features, query_ids, query_cameras, gallery_...")
    parser.add_argument("--protocol", default="market1501", choices=PROTOCOLS)
    parser.add_argument("--metric", default="euclidean", choices=("euclidean", "cosine"))
    parser.add_argument("--rerank", action="store_true", help="also score k-reciprocal re-ranking")
    arguments = parser.parse_args(argv)
    arrays = read_features(arguments.features)
    query, gallery = arrays["query_features"], arrays["gallery_features"]
    labels = [arrays[name] for name in ("query_ids", "gallery_ids", "query_cameras", "gallery_cameras")]
    for rerank in (False, True)[: 1 + arguments.rerank]:
        matches = rank_search(query, gallery, labels, arguments.protocol, arguments.metric, rerank)
        print(f"\n{arguments.protocol}, {arguments.metric}{', re-ranked' if rerank else ''}")
        for name, value in scores_of(matches).items():
            if name != "cmc":
                print(f"{name:18s} {value:.2%}" if isinstance(value, float) else f"{name:18s} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
