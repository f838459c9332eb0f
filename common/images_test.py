import shutil
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets.base import Sample, Subset
from common.errors import UserError
from common.images import ImageStore
from common.paths import cache_folder


@pytest.fixture
def subset(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    generator = np.random.default_rng(0)
    samples = []
    for index, (height, width, mode) in enumerate([(16, 8, "RGB"), (20, 12, "RGB"), (16, 8, "L"), (9, 5, "RGBA")]):
        path = tmp_path / f"{index}.png"
        Image.fromarray(generator.integers(0, 256, (height, width, 4), np.uint8)).convert(mode).save(path)
        samples.append(Sample(path, person=index, camera=1))
    return Subset("train", tuple(samples))


def test_gather_gives_the_resized_rgb_images_in_order(subset):
    batch = ImageStore(subset, 16, 8).gather(np.array([2, 0, 2]))
    assert batch.shape == (3, 3, 16, 8)
    for got, index in zip(batch.numpy(), [2, 0, 2], strict=True):
        expected = Image.open(subset.samples[index].path).convert("RGB").resize((8, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(got, np.asarray(expected).transpose(2, 0, 1))


def test_cached_and_decoded_on_the_fly_are_the_same(subset):
    indices = np.array([3, 1, 0])
    cached, decoded = ImageStore(subset, 10, 6), ImageStore(subset, 10, 6, cache=False)
    assert (cached.gather(indices) == decoded.gather(indices)).all()
    assert {file.suffix for file in cache_folder().iterdir()} == {".npy", ".lock"}


def test_a_second_store_reads_the_cache_and_a_changed_image_is_decoded_again(subset):
    first = ImageStore(subset, 16, 8).gather(np.array([0]))
    [file] = cache_folder().glob("*.npy")
    written = file.stat().st_mtime_ns
    ImageStore(subset, 16, 8)
    assert file.stat().st_mtime_ns == written
    Image.new("RGB", (8, 16), (1, 2, 3)).save(subset.samples[0].path)
    assert (ImageStore(subset, 16, 8).gather(np.array([0])) != first).any()


@pytest.mark.parametrize("cache", [True, False])
def test_all_images_that_cannot_be_decoded_are_named(subset, cache):
    whole = subset.samples[0].path.read_bytes()
    subset.samples[0].path.write_bytes(whole[: len(whole) // 2])
    subset.samples[3].path.write_bytes(b"")
    with pytest.raises(UserError, match=r"2 image\(s\) cannot be decoded(.|\n)*0\.png(.|\n)*3\.png"):
        ImageStore(subset, 16, 8, cache=cache).gather(np.arange(4))
    assert {file.suffix for file in cache_folder().glob("*")} <= {".lock"}


def test_a_full_disk_is_reported_before_anything_is_written(subset, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 0))
    with pytest.raises(UserError, match=r"0\.0 GB free.*REID_DATA.*cache=false"):
        ImageStore(subset, 16, 8)
    assert {file.suffix for file in cache_folder().iterdir()} <= {".lock"}


def test_of_several_processes_one_decodes_and_the_others_wait(subset, monkeypatch):
    written = []
    write = ImageStore._write_cache

    def slowly(store, file, name):
        written.append(file)
        time.sleep(0.2)
        write(store, file, name)

    monkeypatch.setattr(ImageStore, "_write_cache", slowly)
    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda _: ImageStore(subset, 16, 8), range(3)))
    assert len(written) == 1
    assert len({store.gather(np.arange(4)).numpy().tobytes() for store in stores}) == 1


def test_the_next_batch_is_read_while_the_caller_has_this_one(subset):
    store, read = ImageStore(subset, 16, 8), []
    given = store.gather

    def noted(indices):
        read.append(indices.tolist())
        return given(indices)

    store.gather = noted
    batches = [np.array([0, 1]), np.array([2]), np.array([3, 0])]
    stream = store.batches(batches, torch.device("cpu"))
    indices, images = next(stream)
    assert indices.tolist() == [0, 1] and torch.equal(images, given(indices))
    for _ in range(100):
        if read == [[0, 1], [2]]:
            break
        time.sleep(0.01)
    assert read == [[0, 1], [2]]  # not yet the third
    assert [indices.tolist() for indices, _ in stream] == [[2], [3, 0]]


def test_what_fails_while_it_is_read_ahead_fails_for_the_caller(subset):
    stream = ImageStore.read_ahead([1, 0], lambda item: 1 / item)
    assert next(stream) == 1
    with pytest.raises(ZeroDivisionError):
        next(stream)
