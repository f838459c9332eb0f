"""The images of a subset as one array: decoded and resized once, memory-mapped, shared by all processes.

Person crops are small: Market-1501's training set at 256x128 takes 1.3 GB as uint8. Decoding them once and gathering
batches from the map leaves no per-image Python in the training loop.
"""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from common.datasets.base import Subset
from common.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[1]
SPARE_BYTES = 2**28  # left free on the disk beside the cache, for checkpoints and logs


def cache_folder() -> Path:
    """Where decoded images are kept: `data/cache`, or `cache` below the folder that REID_DATA names."""
    return Path(os.environ.get("REID_DATA", REPOSITORY / "data")) / "cache"


class ImageStore:
    """All images of a subset at one size; `gather` gives a batch.

    cache: keep the decoded images in a file that later runs and other processes map; without it every batch is decoded
    anew (no disk used, slower).
    Raises UserError naming every image that does not decode, or when the disk has too little space.
    """

    def __init__(self, subset: Subset, height: int, width: int, *, cache: bool = True):
        self.paths = [sample.path for sample in subset.samples]
        self.height, self.width = height, width
        self.images = self._open_cache(subset.name) if cache else None

    def __len__(self) -> int:
        return len(self.paths)

    def gather(self, indices: np.ndarray) -> Tensor:
        """The images at `indices`: (B, 3, H, W) uint8, RGB."""
        if self.images is not None:
            return torch.from_numpy(self.images[indices])
        batch = np.empty((len(indices), 3, self.height, self.width), np.uint8)
        self._decode_into(batch, [self.paths[index] for index in indices])
        return torch.from_numpy(batch)

    def _open_cache(self, subset_name: str) -> np.ndarray:
        file = cache_folder() / f"{subset_name}-{self.height}x{self.width}-{self._key()}.npy"
        if not file.is_file():
            self._write_cache(file, subset_name)
        return np.load(file, mmap_mode="r")

    def _key(self) -> str:
        """16 hex digits that change when any file's place, size or time does."""
        digest = hashlib.sha256()
        for path in self.paths:
            status = path.stat()
            digest.update(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def _write_cache(self, file: Path, subset_name: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        needed = len(self) * 3 * self.height * self.width
        free = shutil.disk_usage(file.parent).free
        if free < needed + SPARE_BYTES:
            raise UserError(
                f"{file.parent} has {free / 1e9:.1f} GB free, the decoded images of '{subset_name}' need "
                f"{(needed + SPARE_BYTES) / 1e9:.1f} GB to spare: free some, point REID_DATA to another disk, or use "
                "--set cache=false"
            )
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        try:
            images = np.lib.format.open_memmap(
                partial, mode="w+", dtype=np.uint8, shape=(len(self), 3, self.height, self.width)
            )
            with tqdm(total=len(self), desc=f"decoding {subset_name}", unit="image", disable=None) as progress:
                self._decode_into(images, self.paths, progress)
            images.flush()
            del images
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def _decode_into(self, images: np.ndarray, paths: list[Path], progress: tqdm | None = None) -> None:
        bad: list[str] = []

        def decode(position: int) -> None:
            try:
                with Image.open(paths[position]) as image:
                    resized = image.convert("RGB").resize((self.width, self.height), Image.Resampling.BILINEAR)
                images[position] = np.asarray(resized).transpose(2, 0, 1)
            except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # what PIL raises for a damaged file
                bad.append(f"{paths[position]} ({error})")
            if progress is not None:
                progress.update()

        with ThreadPoolExecutor() as pool:  # PIL lets go of the interpreter while it decodes and resizes
            list(pool.map(decode, range(len(paths))))
        if bad:
            listed = "\n       ".join(sorted(bad))
            raise UserError(f"{len(bad)} image(s) do not decode; copy them again from the data set:\n       {listed}")
