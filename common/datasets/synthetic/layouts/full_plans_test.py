"""Plans at full size: their counts are those of the real data sets. Nothing is rendered."""

from collections import Counter

import pytest

from common.datasets import cuhk03, dukemtmcreid, peta, sysu_mm01
from common.datasets.synthetic.layouts import cuhk03 as cuhk03_layout
from common.datasets.synthetic.layouts import dukemtmcreid as dukemtmcreid_layout
from common.datasets.synthetic.layouts import msmt17 as msmt17_layout
from common.datasets.synthetic.layouts import peta as peta_layout
from common.datasets.synthetic.layouts import regdb as regdb_layout
from common.datasets.synthetic.layouts import sysu_mm01 as sysu_mm01_layout


def _counts(planned):
    """{subset: (images, identities, cameras)} of planned images."""
    return {
        subset: tuple(
            [sum(p.subset == subset for p in planned)]
            + [len({getattr(p, what) for p in planned if p.subset == subset}) for what in ("person", "camera")]
        )
        for subset in ("train", "query", "gallery")
    }


def test_dukemtmcreid_full_has_the_published_counts():
    jobs = dukemtmcreid_layout.plan_jobs("full", 0)
    assert _counts([planned for _, planned in jobs]) == dukemtmcreid.OFFICIAL_COUNTS["dukemtmcreid"]
    assert len({name for (name, _), _ in jobs}) == len(jobs)


def test_cuhk03_full_has_the_published_counts():
    jobs = cuhk03_layout.plan_jobs("full", 0)
    for part, name in (("detected", cuhk03.NAME), ("labeled", cuhk03.LABELED)):
        assert _counts([planned for _, planned in jobs[part]]) == cuhk03.OFFICIAL_COUNTS[name]


def test_msmt17_full_has_the_published_counts():
    jobs = msmt17_layout.plan_jobs("full", 0)
    assert Counter(part for _, part, _ in jobs) == {"train": 30_248, "val": 2_373, "query": 11_659, "gallery": 82_161}
    for part, identities in (("train", 1041), ("val", 1041), ("query", 3060), ("gallery", 3060)):
        assert {label for _, where, label in jobs if where == part} == set(range(identities))
    assert {shot.camera for (_, shot), _, _ in jobs} == set(range(15))
    assert len({name for (name, _), _, _ in jobs}) == len(jobs)


def test_sysu_mm01_full_has_the_published_counts():
    plan = sysu_mm01_layout.plan_jobs("full", 0)
    assert {name: len(persons) for name, persons in plan.lists.items()} == {"train": 296, "val": 99, "test": 96}
    assert len(set().union(*plan.lists.values())) == 491
    published = sysu_mm01.OFFICIAL_COUNTS["sysu_mm01"]
    shots = [shot for _, shot in plan.jobs]
    modalities = Counter((shot.split, shot.modality) for shot in shots)
    assert modalities["train", "visible"] == 22_258 and modalities["train", "near_infrared"] == 11_909
    assert modalities["test", "near_infrared"] == published["query"][0]
    assert modalities["test", "visible"] == published["gallery"][0]
    pairs = {(shot.person, shot.camera) for shot in shots if (shot.split, shot.modality) == ("test", "visible")}
    indoor = {pair for pair in pairs if pair[1] < 2}
    assert (len(pairs), len(indoor)) == (301, 112), "the published gallery sizes of single shot"


def test_regdb_full_has_the_published_counts():
    jobs, trials = regdb_layout.plan_jobs("full", 0), regdb_layout.plan_trials("full", 0)
    assert {len(images) for images in jobs.values()} == {10}
    assert len(jobs) == 2 * 412 and len({name for images in jobs.values() for name, _ in images}) == 8_240
    assert len(trials) == 10 and len({tuple(trial["train"]) for trial in trials}) == 10
    for trial in trials:
        assert sorted(trial["train"] + trial["test"]) == list(range(1, 413)) and len(trial["train"]) == 206


def test_peta_full_has_the_published_counts():
    plan = peta_layout.plan_jobs("full", 0)
    images, identities, _ = peta.OFFICIAL_COUNTS["peta"]["all"]
    assert len({name for name, _ in plan.jobs}) == len(plan.jobs) == images
    assert len({shot.person for _, shot in plan.jobs}) == identities
    assert set(plan.lines) == set(peta.SOURCES)


@pytest.mark.parametrize("seed", range(3))
def test_demo_sets_can_be_planned_for_every_seed_and_have_some_250_test_people(seed):
    assert _counts([planned for _, planned in dukemtmcreid_layout.plan_jobs("demo", seed)])["query"][:2] == (750, 250)
    assert len({p for _, part, p in msmt17_layout.plan_jobs("demo", seed) if part == "query"}) == 250
    for part in cuhk03_layout.plan_jobs("demo", seed).values():
        assert _counts([planned for _, planned in part])["query"][:2] == (500, 250)
    assert len(sysu_mm01_layout.plan_jobs("demo", seed).lists["test"]) == 96
