import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.samplers import CrossModalitySampler


def labels_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def two_modalities(visible_counts, infrared_counts):
    """labels and visible of a training set, in mixed order."""
    labels = np.concatenate([labels_of(visible_counts), labels_of(infrared_counts)])
    visible = np.arange(len(labels)) < sum(visible_counts)
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order], visible[order]


def assert_layout(batch, labels, visible, P, K):
    assert len(batch) == 2 * P * K
    assert visible[batch[: P * K]].all() and not visible[batch[P * K :]].any()
    identities = labels[batch].reshape(2, P, K)
    assert (identities == identities[0, :, :1]).all()
    assert len(set(identities[0, :, 0].tolist())) == P


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.tuples(st.integers(1, 15), st.integers(1, 15)), min_size=4, max_size=20),
    P=st.integers(2, 4),
    K=st.integers(1, 6),
    epoch=st.integers(1, 9),
)
def test_a_batch_has_p_identities_with_k_visible_and_k_infrared_images_each(counts, P, K, epoch):
    labels, visible = two_modalities(*zip(*counts, strict=True))
    for batch in CrossModalitySampler(labels, visible, P, K, seed=3).batches(epoch):
        assert_layout(batch, labels, visible, P, K)
        leads = visible.sum() >= (~visible).sum()
        for identity in set(labels[batch].tolist()):  # of the other modality: all images, or K distinct ones
            there = np.flatnonzero((labels == identity) & (visible != leads))
            assert len(np.intersect1d(batch, there)) == min(K, len(there))


@pytest.mark.parametrize("larger", ["visible", "infrared"])
def test_an_epoch_uses_the_larger_modality_once_and_the_smaller_evenly(larger):
    counts = np.random.default_rng(0).integers(12, 30, 60), np.random.default_rng(1).integers(5, 12, 60)
    labels, visible = two_modalities(*(counts if larger == "visible" else counts[::-1]))
    leads = visible == (larger == "visible")
    batches = list(CrossModalitySampler(labels, visible, 6, 4, seed=0).batches(1))
    groups = sum(-(-count // 4) for count in counts[0])
    assert groups // 6 - 1 <= len(batches) <= groups // 6
    seen = np.bincount(np.concatenate(batches), minlength=len(labels))
    assert (seen[leads] > 0).mean() > 0.95 and seen[leads].max() <= 2
    for identity in range(60):
        following = seen[~leads & (labels == identity)]
        assert following.max() - following.min() <= 1


def test_processes_share_the_2pk_batch_and_make_it_up_together():
    labels, visible = two_modalities([9, 7, 5, 11, 8, 6], [4, 2, 6, 3, 5, 1])
    whole = list(CrossModalitySampler(labels, visible, 4, 3, seed=0).batches(2))
    shares = [
        list(CrossModalitySampler(labels, visible, 4, 3, seed=0, rank=rank, world_size=2).batches(2)) for rank in (0, 1)
    ]
    assert whole
    for batch, first, second in zip(whole, *shares, strict=True):
        for share in (first, second):
            assert_layout(share, labels, visible, 2, 3)
        assert sorted(batch.tolist()) == sorted([*first.tolist(), *second.tolist()])
        assert not set(labels[first].tolist()) & set(labels[second].tolist())


def test_two_modality_batches_are_a_function_of_seed_and_epoch():
    labels, visible = two_modalities([9] * 12, [7] * 12)

    def epoch_of(seed, epoch):
        return np.concatenate(list(CrossModalitySampler(labels, visible, 4, 3, seed=seed).batches(epoch))).tolist()

    assert epoch_of(1, 5) == epoch_of(1, 5)
    assert epoch_of(1, 5) != epoch_of(1, 6)
    assert epoch_of(1, 5) != epoch_of(2, 5)


def test_identities_of_one_modality_are_left_out():
    labels, visible = two_modalities([4, 4, 0, 4], [4, 4, 4, 0])
    for batch in CrossModalitySampler(labels, visible, 2, 2, seed=0).batches(1):
        assert set(labels[batch].tolist()) == {0, 1}
    with pytest.raises(UserError, match=r"identities_per_batch is 3.*only 2 identities"):
        CrossModalitySampler(labels, visible, 3, 2, seed=0)
    with pytest.raises(UserError, match="no identity has both visible and infrared"):
        CrossModalitySampler(labels, np.ones(len(labels), bool), 2, 2, seed=0)
    with pytest.raises(UserError, match="3 processes cannot share"):
        CrossModalitySampler(labels, visible, 2, 2, seed=0, world_size=3)
