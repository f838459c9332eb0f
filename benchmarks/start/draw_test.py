"""Who and what the starting weights are learned from: nobody and no place of any data set, and the labels shown."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from benchmarks.start.attributes import ATTRIBUTES, HIDDEN, KINDS, NAMES, NUM_VALUES, labels_of
from benchmarks.start.draw import NUM_CAMERAS, Drawn, images_of, shots_of
from common.datasets.synthetic import photograph, seeds
from common.datasets.synthetic.cameras.camera import cameras
from common.datasets.synthetic.layouts import (
    coco_keypoints,
    cuhk03,
    dukemtmcreid,
    market1501,
    msmt17,
    peta,
    regdb,
    sysu_mm01,
)
from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.photograph import Photograph
from common.datasets.synthetic.render import Shot
from common.datasets.synthetic.scenes.scene import SCENES_PER_CAMERA
from common.datasets.synthetic.splits import SIZES, plan
from common.datasets.synthetic.write import WRITERS
from common.errors import UserError

PLANS = {
    "market1501": lambda size, seed: [market1501._job(seed, planned, set()) for planned in plan(SIZES[size], seed)],
    "dukemtmcreid": dukemtmcreid.plan_jobs,
    "msmt17": msmt17.plan_jobs,
    "cuhk03": cuhk03.plan_jobs,
    "sysu_mm01": sysu_mm01.plan_jobs,
    "regdb": regdb.plan_jobs,
    "peta": peta.plan_jobs,
    "coco_keypoints": coco_keypoints.plan_jobs,
}
LARGEST = Drawn(worlds=len(seeds.START_WORLDS) - 1, persons=60, frames=2, test_persons=60)


def shots_in(plan) -> Iterator[Shot | Photograph]:
    """Every image to render in a plan, however it is nested."""
    if isinstance(plan, Shot | Photograph):
        yield plan
    elif isinstance(plan, dict):
        yield from shots_in(list(plan.values()))
    elif isinstance(plan, list | tuple):
        for part in plan:
            yield from shots_in(part)
    elif is_dataclass(plan):
        yield from shots_in([getattr(plan, field.name) for field in fields(plan)])


def states(keys) -> set[tuple[int, ...]]:
    """The states of the random generators with these numbers: equal states draw the same."""
    return {tuple(np.random.SeedSequence(key).generate_state(4).tolist()) for key in keys}


def drawn_by(shots) -> dict[str, set]:
    """Generator states of the people, places and cameras that the shots show; places of both splits."""
    people, places, views = set(), set(), set()
    for shot in shots:
        if isinstance(shot, Photograph):
            views.add((shot.seed, photograph.NUM_CAMERAS))
            people.add((shot.seed, seeds.PHOTOGRAPH, int(shot.split == "test"), shot.number))
            where = range(photograph.NUM_CAMERAS)
        else:
            views.add((shot.seed, shot.num_cameras))
            people.add((shot.seed, seeds.PASSER if shot.box == "distractor" else seeds.PERSON, shot.person))
            where = [shot.camera if shot.place is None else shot.place]
        places |= {(shot.seed, split, place) for split in (0, 1) for place in where}
    scenes = {(seed, seeds.PLACE, *place, n) for seed, *place in places for n in range(SCENES_PER_CAMERA)}
    return {"people": states(people), "places": states(scenes), "cameras": states(views)}


@pytest.fixture(scope="module")
def start():
    """What all worlds of the starting weights show, and their seeds."""
    people = [*LARGEST.people(test=False), *LARGEST.people(test=True)]
    shots = [shot for world, person in people for _, shot in shots_of(world, person, LARGEST.frames)]
    return {shot.seed for shot in shots}, drawn_by(shots)


def test_every_layout_is_compared():
    assert set(PLANS) == set(WRITERS)


@pytest.mark.parametrize("size", ["tiny", "demo", "full"])
@pytest.mark.parametrize("like", PLANS)
def test_no_data_set_of_any_size_shows_a_person_place_or_camera_of_the_starting_weights(like, size, start):
    own_seeds, own = start
    for seed in (0, 1) if size != "full" else (0,):
        shots = list(shots_in(PLANS[like](size, seeds.people_seed(like, seed))))
        assert len(shots) > 10
        assert not {shot.seed for shot in shots} & own_seeds
        theirs = drawn_by(shots)
        for what in ("people", "places", "cameras"):
            assert theirs[what] and own[what] and not theirs[what] & own[what]


def test_no_seed_of_any_data_set_reaches_a_world():
    """The second 32-bit word of a seed is the data set's number, and a user's seed is one word."""
    assert not set(seeds._NUMBERS.values()) & set(seeds.START_WORLDS)
    assert set(seeds._NUMBERS) == set(WRITERS)
    for like in WRITERS:
        for seed in (0, seeds.MAX_SEED):
            assert seeds.people_seed(like, seed) >> 32 == seeds._NUMBERS[like]
    worlds = [seeds.start_seed(world) for world in range(len(seeds.START_WORLDS))]
    assert [seed >> 32 for seed in worlds] == list(seeds.START_WORLDS) and len(set(worlds)) == len(worlds)
    last_kind = seeds.PHOTOGRAPH  # a Market-1501 seed is followed by one of these numbers
    assert max(last_kind, seeds.PLAN, photograph.NUM_CAMERAS) < min(seeds.START_WORLDS)


def test_worlds_differ_and_the_one_to_test_on_is_not_learned_from():
    drawn = Drawn(worlds=3, persons=4, frames=2, test_persons=5)
    assert {world for world, _ in drawn.people(test=False)} == {0, 1, 2}
    assert {world for world, _ in drawn.people(test=True)} == {3}
    found = [
        (cameras(seeds.start_seed(world), NUM_CAMERAS), identity(seeds.start_seed(world), 1)) for world in range(4)
    ]
    assert len({cams for cams, _ in found}) == 4 and len({who.body for _, who in found}) == 4
    with pytest.raises(UserError, match="worlds"):
        Drawn(worlds=len(seeds.START_WORLDS))


def test_images_are_the_same_in_any_number_of_processes_and_gray_kinds_are_gray(tmp_path):
    people, frames = [(0, 1), (1, 2), (2, 3)], 8
    one = images_of(people, frames, tmp_path / "one.npy", processes=1)
    two = images_of(people, frames, tmp_path / "two.npy", processes=2)
    assert one.pixels.shape == (24, 3, 128, 64) and (one.pixels == two.pixels).all()
    assert (one.labels == two.labels).all() and (one.kinds == two.kinds).all()
    assert set(one.kinds.tolist()) == set(range(len(KINDS)))
    gray = (one.pixels == one.pixels[:, :1]).all((1, 2, 3))
    assert (gray == (one.kinds != 0)).all()
    assert one.pixels.std((1, 2, 3)).min() > 5
    before = one.pixels.copy()
    assert (images_of(people, frames, tmp_path / "one.npy").pixels == before).all(), "kept"


def test_frames_go_through_all_cameras_in_every_kind_of_image():
    shots = [shot for person in range(1, 60) for shot in shots_of(0, person, 12)]
    shares = [np.mean([kind == wanted for kind, _ in shots]) for wanted in KINDS]
    np.testing.assert_allclose(shares, (0.50, 0.15, 0.20, 0.15), atol=0.05)
    for person in (1, 2):
        assert {shot.camera for _, shot in shots if shot.person == person} == set(range(NUM_CAMERAS))
    assert {shot.box for _, shot in shots} == {"detected", "annotated"}
    assert {shot.indoor for _, shot in shots_of(2, 1, 12)} == {True, False}


def test_labels_are_in_range_and_hidden_where_the_kind_cannot_show_them():
    labels = np.stack([labels_of(seeds.start_seed(0), person) for person in range(1, 400)])
    assert labels.shape[1:] == (len(KINDS), len(NAMES))
    assert ((labels >= HIDDEN) & (labels < np.array(NUM_VALUES))).all()
    for column, (name, values) in enumerate(zip(NAMES, NUM_VALUES, strict=True)):
        assert set(labels[:, 0, column].tolist()) - {HIDDEN} == set(range(values)), f"{name}: a value that nobody has"
        shown = {kind: (labels[:, number, column] != HIDDEN).any() for number, kind in enumerate(KINDS)}
        if "colour" in name:
            assert shown == {"visible": True, "gray": False, "near_infrared": False, "thermal": False}
        elif "tone" in name:
            assert shown == {"visible": True, "gray": True, "near_infrared": True, "thermal": False}
        else:
            assert all(shown.values())
            assert (labels[:, :, column] == labels[:, :1, column]).all(), f"{name} depends on the kind of image"


def test_labels_are_those_of_the_person():
    for person in range(1, 50):
        who, labels = identity(seeds.start_seed(1), person), labels_of(seeds.start_seed(1), person)[0]
        named = {name: int(label) for name, label in zip(NAMES, labels, strict=True)}
        values = {attribute.name: attribute.values for attribute in ATTRIBUTES}
        assert values["gender"][named["gender"]] == ("female" if who.female else "male")
        assert values["upper_colour"][named["upper_colour"]] == who.upper_colour
        assert values["pattern"][named["pattern"]] == who.pattern
        assert values["bag"][named["bag"]] in who.bag
        assert values["age"][named["age"]] == who.age
        assert (named["hat_colour"] == HIDDEN) == (who.hat == "none")
        assert (named["upper_accent_colour"] == HIDDEN) == (who.pattern == "plain")
