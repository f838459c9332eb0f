from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.samplers import IdentitySampler


def labels_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 23), min_size=4, max_size=30),
    P=st.integers(2, 4),
    K=st.integers(2, 5),
    epoch=st.integers(1, 9),
)
def test_every_batch_has_exactly_p_identities_and_k_images_of_each(counts, P, K, epoch):
    labels = labels_of(counts)
    for batch in IdentitySampler(labels, P, K, seed=3).batches(epoch):
        assert len(batch) == P * K
        assert sorted(Counter(labels[batch]).values()) == [K] * P


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 23), min_size=4, max_size=30), epoch=st.integers(1, 9))
def test_images_are_repeated_in_an_epoch_only_to_fill_their_identitys_last_group(counts, epoch):
    K = 4
    labels = labels_of(counts)
    seen = Counter(np.concatenate([[], *IdentitySampler(labels, 2, K, seed=0).batches(epoch)]).astype(int).tolist())
    for identity, count in enumerate(counts):
        images = np.flatnonzero(labels == identity).tolist()
        drawn = sum(seen[image] for image in images)
        assert drawn <= -(-count // K) * K
        assert sum(max(seen[image] - 1, 0) for image in images) <= -count % K


def test_an_epoch_covers_nearly_all_images_of_a_usual_training_set():
    counts = np.random.default_rng(0).integers(2, 25, 120)
    labels = labels_of(counts)
    batches = list(IdentitySampler(labels, 8, 4, seed=0).batches(1))
    groups = sum(-(-count // 4) for count in counts)
    assert len(batches) >= groups // 8 - 1
    assert len(set(np.concatenate(batches).tolist())) >= 0.95 * len(labels)


def test_an_identity_with_fewer_than_k_images_fills_its_group_with_all_of_them():
    labels = labels_of([3, 1, 8])
    for batch in IdentitySampler(labels, 3, 4, seed=0).batches(1):
        assert set(batch[labels[batch] == 0]) == {0, 1, 2}
        assert set(batch[labels[batch] == 1]) == {3}


def test_batches_are_a_function_of_seed_and_epoch():
    labels = labels_of([9] * 12)

    def epoch_of(seed, epoch):
        return np.concatenate(list(IdentitySampler(labels, 4, 3, seed=seed).batches(epoch))).tolist()

    assert epoch_of(1, 5) == epoch_of(1, 5)
    assert epoch_of(1, 5) != epoch_of(1, 6)
    assert epoch_of(1, 5) != epoch_of(2, 5)


def test_an_identitys_groups_change_from_epoch_to_epoch():
    sampler = IdentitySampler(np.repeat(np.arange(4), 8), 2, 4, seed=0)
    together = [
        any({0, 1} <= set(group) for batch in sampler.batches(epoch) for group in batch.reshape(-1, 4).tolist())
        for epoch in range(20)
    ]
    assert 2 < sum(together) < 18  # 3 / 7 of the epochs are expected


def test_labels_need_not_be_sorted():
    labels = np.array([7, 3, 7, 3, 9, 9, 7])
    for batch in IdentitySampler(labels, 3, 2, seed=0).batches(1):
        assert sorted(Counter(labels[batch]).items()) == [(3, 2), (7, 2), (9, 2)]


def test_a_batch_of_more_identities_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"identities_per_batch is 16.*only 3 identities"):
        IdentitySampler(labels_of([4, 4, 4]), 16, 4, seed=0)
