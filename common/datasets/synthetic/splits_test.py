"""Splits of every size: counts, disjoint identities, and a match for every query."""

from collections import Counter

import numpy as np
import pytest

from common.datasets import market1501
from common.datasets.synthetic.splits import SIZES, plan, share


@pytest.mark.parametrize(("name", "seed"), [("tiny", 0), ("tiny", 1), ("tiny", 2), ("demo", 0), ("full", 0)])
def test_the_plan_keeps_its_promises(name, seed):
    size, shots = SIZES[name], plan(SIZES[name], seed)
    counts = Counter((shot.subset, min(shot.person, 1)) for shot in shots)
    assert counts == {
        ("train", 1): size.train,
        ("query", 1): size.query,
        ("gallery", 1): size.gallery,
        ("gallery", 0): size.distractors,
        ("gallery", -1): size.junk,
        ("annotated", 1): size.annotated,
    }
    names = Counter((s.subset, s.person, s.camera, s.sequence, s.frame, s.detection) for s in shots)
    assert max(names.values()) == 1, "two images would have one file name"
    queries = [(s.person, s.camera) for s in shots if s.subset == "query"]
    assert len(set(queries)) == len(queries), "one query for each identity and camera"
    assert len({person for person, _ in queries}) == size.test_identities
    gallery = {(s.person, s.camera) for s in shots if s.subset == "gallery"}
    seen = Counter(person for person, _ in gallery)
    for person, camera in queries:
        assert seen[person] > ((person, camera) in gallery), "a query needs a match in another camera"
    frames = {(s.person, s.index) for s in shots if s.subset != "annotated"}
    assert all((s.person, s.index) in frames for s in shots if s.subset == "annotated")
    annotated = {(s.person, s.camera) for s in shots if s.subset == "annotated"}
    assert set(queries) <= annotated, "multi-query needs an annotated box for every query"


def test_full_has_the_published_counts():
    size = SIZES["full"]
    total = size.gallery + size.junk + size.distractors
    published = market1501.OFFICIAL_COUNTS["market1501"]
    assert (size.train, size.train_identities) == published["train"][:2]
    assert (size.query, size.test_identities) == published["query"][:2]
    assert total == published["gallery"][0]
    assert size.annotated == published["multi_query"][0]


@pytest.mark.parametrize(("total", "most"), [(9, None), (31, 3)])
def test_what_cannot_be_shared_is_refused(total, most):
    with pytest.raises(ValueError, match="cannot be shared"):
        share(np.random.default_rng(0), total, 10, 1, most)
