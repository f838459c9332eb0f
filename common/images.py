"""The images of a subset as one array: decoded and resized once, memory-mapped, shared by all processes.

Person crops are small: Market-1501's training set at 256x128 takes 1.3 GB as uint8. Decoding it once and gathering
batches from the memory map leaves no per-image Python in the training loop.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from common import devices
from common.datasets.base import Subset
from common.errors import UserError
from common.files import written_atomically
from common.paths import cache_folder

SPARE_BYTES = 2**28  # of disk space left free for checkpoints and logs


class ImageStore:
    """All images of a subset at one size; `gather` gives a batch.

    cache: keep the decoded images in a file that later runs and other processes map; one process decodes while the
    others wait. Without it, every batch is decoded when it is read (no disk space, slower).
    UserError: images that cannot be decoded (all are named), or too little disk space.
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

    def batches(self, batches: Iterable[np.ndarray], device: torch.device) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Each batch of indices with its images on the device; the next one is read meanwhile."""

        def read(indices: np.ndarray) -> tuple[np.ndarray, Tensor]:
            return indices, devices.staged(self.gather(indices), device)

        for indices, images in self.read_ahead(batches, read):
            yield indices, images.to(device, non_blocking=True)

    @staticmethod
    def read_ahead(items: Iterable, read: Callable) -> Iterator:
        """read(item) of each item in turn, the next one in a thread while the caller works on this one."""
        with ThreadPoolExecutor(1) as pool:
            upcoming = None
            for item in items:
                current, upcoming = upcoming, pool.submit(read, item)
                if current is not None:
                    yield current.result()
            if upcoming is not None:
                yield upcoming.result()

    def _open_cache(self, subset_name: str) -> np.ndarray:
        file = cache_folder() / f"{subset_name}-{self.height}x{self.width}-{self._key()}.npy"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_suffix(".lock")):
                if not file.is_file():  # else another process has decoded them meanwhile
                    self._write_cache(file, subset_name)
        return np.load(file, mmap_mode="r")

    def _key(self) -> str:
        """16 hex digits that depend on each file's path, size and modification time."""
        digest = hashlib.sha256()
        for path in self.paths:
            status = path.stat()
            digest.update(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def _write_cache(self, file: Path, subset_name: str) -> None:
        needed = len(self) * 3 * self.height * self.width
        free = shutil.disk_usage(file.parent).free
        if free < needed + SPARE_BYTES:
            raise UserError(
                f"{file.parent} has {free / 1e9:.1f} GB free, but the decoded images of '{subset_name}' need "
                f"{(needed + SPARE_BYTES) / 1e9:.1f} GB: free some space, point REID_DATA to another disk, or use "
                "--set cache=false"
            )
        with written_atomically(file) as partial:
            images = np.lib.format.open_memmap(
                partial, mode="w+", dtype=np.uint8, shape=(len(self), 3, self.height, self.width)
            )
            with tqdm(total=len(self), desc=f"decoding {subset_name}", unit="image", disable=None) as progress:
                self._decode_into(images, self.paths, progress)
            images.flush()
            del images

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

        with ThreadPoolExecutor() as pool:  # PIL releases the GIL while it decodes and resizes
            list(pool.map(decode, range(len(paths))))
        if bad:
            listed = "\n       ".join(sorted(bad))
            raise UserError(
                f"{len(bad)} image(s) cannot be decoded; copy them again from the data set:\n       {listed}"
            )
