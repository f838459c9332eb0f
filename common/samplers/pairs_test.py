from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.samplers import PairSampler


def images_of(counts, num_cameras=3, seed=0):
    """labels and cameras of a training set with `counts` images per identity, in mixed order."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    return labels, generator.integers(num_cameras, size=len(labels))


def whole_epoch(sampler, epoch=1):
    return [np.concatenate(parts) for parts in zip(*sampler.batches(epoch), strict=True)]


some_counts = st.lists(st.integers(1, 9), min_size=2, max_size=25).filter(lambda counts: max(counts) > 1)


@settings(deadline=None, max_examples=60)
@given(counts=some_counts, half=st.integers(1, 6), num_cameras=st.integers(1, 4), epoch=st.integers(1, 9))
def test_half_of_each_batch_is_positive_and_positive_pairs_cross_cameras_where_they_can(
    counts, half, num_cameras, epoch
):
    labels, cameras = images_of(counts, num_cameras)
    for first, second, same in PairSampler(labels, cameras, 2 * half, seed=3).batches(epoch):
        assert len(first) == len(second) == len(same) == 2 * half
        assert same.sum() == half
        assert ((labels[first] == labels[second]) == same).all()
        assert (first != second).all()
        for anchor, partner in zip(first[same], second[same], strict=True):
            seen_by = set(cameras[labels == labels[anchor]].tolist())
            assert (cameras[anchor] != cameras[partner]) == (len(seen_by) > 1)


@settings(deadline=None, max_examples=60)
@given(counts=some_counts, half=st.integers(1, 6), epoch=st.integers(1, 9))
def test_an_epoch_has_every_image_as_an_anchor_and_repeats_fewer_than_a_batch(counts, half, epoch):
    labels, cameras = images_of(counts)
    sampler = PairSampler(labels, cameras, 2 * half, seed=0)
    first, _, _ = whole_epoch(sampler, epoch)
    assert set(first.tolist()) == set(range(len(labels)))
    if 2 * counts.count(1) <= len(labels):
        assert len(first) - len(labels) < 2 * half
    assert sampler.num_batches(epoch) == len(first) // (2 * half)


def test_negative_partners_are_uniform_over_the_other_identities():
    labels, cameras = np.repeat([4, 7, 9], [1, 2, 3]), np.arange(6) % 2
    seen = Counter()
    for epoch in range(3000):
        first, second, same = whole_epoch(PairSampler(labels, cameras, 2, seed=0), epoch)
        seen.update(second[~same & (labels[first] == 7)].tolist())
    assert set(seen) == {0, 3, 4, 5}
    total = sum(seen.values())
    for count in seen.values():
        assert count == pytest.approx(total / 4, abs=4 * (total * 3 / 16) ** 0.5)  # 4 binomial deviations


def test_every_admissible_image_is_a_positive_partner():
    sampler = PairSampler(np.repeat(np.arange(5), 6), np.tile([0, 0, 0, 1, 1, 2], 5), 10, seed=0)
    partners = {0: set(), 3: set()}
    for epoch in range(60):
        for batch in sampler.batches(epoch):
            for first, second, same in zip(*(values.tolist() for values in batch), strict=True):
                if same and first in partners:
                    partners[first].add(second)
    assert partners == {0: {3, 4, 5}, 3: {0, 1, 2, 5}}


def test_pairs_are_a_function_of_seed_and_epoch():
    labels, cameras = images_of([5] * 10)

    def epoch_of(seed, epoch):
        return np.concatenate(whole_epoch(PairSampler(labels, cameras, 8, seed=seed), epoch)).tolist()

    assert epoch_of(1, 5) == epoch_of(1, 5)
    assert epoch_of(1, 5) != epoch_of(1, 6)
    assert epoch_of(1, 5) != epoch_of(2, 5)


def test_processes_share_the_batch_each_half_positive():
    labels, cameras = images_of([4, 7, 3, 6, 5])

    def batches(**place):
        return list(PairSampler(labels, cameras, 8, seed=0, **place).batches(2))

    whole = batches()
    shares = [batches(rank=rank, world_size=2) for rank in (0, 1)]
    assert len(whole) == len(shares[0]) == len(shares[1]) > 1
    for batch, *parts in zip(whole, *shares, strict=True):
        assert all(part.same.sum() == 2 and len(part.same) == 4 for part in parts)
        # The order in the batch does not matter.
        together = [pair for part in parts for pair in zip(*map(np.ndarray.tolist, part), strict=True)]
        assert sorted(together) == sorted(zip(*map(np.ndarray.tolist, batch), strict=True))


def test_what_cannot_be_paired_or_shared_is_refused():
    cameras = np.zeros(4, int)
    with pytest.raises(UserError, match="4 images of 4 identities, at most 1 of each"):
        PairSampler(np.arange(4), cameras, 2, seed=0)
    with pytest.raises(UserError, match="4 images of 1 identities"):
        PairSampler(np.zeros(4, int), cameras, 2, seed=0)
    with pytest.raises(UserError, match=r"pairs_per_batch is 6.*a multiple of 4"):
        PairSampler(np.arange(4) // 2, cameras, 6, seed=0, world_size=2)
    with pytest.raises(UserError, match=r"pairs_per_batch is 3.*a multiple of 2"):
        PairSampler(np.arange(4) // 2, cameras, 3, seed=0)
