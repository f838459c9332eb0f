"""Near-infrared and thermal images of the synthetic pedestrians."""

from dataclasses import replace

import numpy as np
import pytest

from common.datasets.synthetic.cameras.camera import LUMA
from common.datasets.synthetic.cameras.spectra import person_tones, scene_tones
from common.datasets.synthetic.materials import PERSON_SURFACES, SCENE_SURFACES
from common.datasets.synthetic.people.person import identity
from common.datasets.synthetic.render import Shot, render
from common.datasets.synthetic.seeds import PERSON

SHOT = Shot(seed=0, split="train", person=5, camera=2, num_cameras=6, index=1)
GRAY = ("near_infrared", "thermal")


def _tones(modality, persons=400):
    return [person_tones(modality, 0, (PERSON, number), identity(0, number)) for number in range(persons)]


@pytest.mark.parametrize("modality", GRAY)
def test_images_are_gray_and_have_the_joints_of_the_visible_ones(modality):
    visible, other = render(SHOT), render(replace(SHOT, modality=modality))
    pixels = np.asarray(other.pixels)
    assert pixels.shape == (128, 64, 3) and (pixels == pixels[:, :, :1]).all()
    assert pixels.std() > 5
    assert (visible.joints == other.joints).all()
    assert (pixels == np.asarray(render(replace(SHOT, modality=modality)).pixels)).all()


@pytest.mark.parametrize("modality", GRAY)
def test_every_surface_has_a_value_in_range(modality):
    for tones in _tones(modality, 100):
        assert set(tones) == set(PERSON_SURFACES)
        assert all(0 < value < 1 for value in tones.values())
    scene = scene_tones(modality, 0, (5, 2))
    assert set(scene) == set(SCENE_SURFACES) and all(0 < value < 1 for value in scene.values())


def _brightness(modality, surface):
    visible = [LUMA @ identity(0, number).colours[surface] for number in range(400)]
    other = [tones[surface] for tones in _tones(modality)]
    assert np.std(other) > 0.05
    return np.corrcoef(visible, other)[0, 1]


@pytest.mark.parametrize(
    ("surface", "low", "high"),
    [("upper", 0.25, 0.92), ("lower", 0.25, 0.92), ("shoe", 0.12, 0.75), ("bag", 0.12, 0.75)],
)
def test_in_near_infrared_pigments_are_as_dark_as_they_look_and_dyes_say_nothing(surface, low, high):
    people = [identity(0, number) for number in range(400) if identity(0, number).lower != "dress"]
    tones = [person_tones("near_infrared", 0, (PERSON, number), identity(0, number)) for number in range(400)]
    tones = [one for number, one in enumerate(tones) if identity(0, number).lower != "dress"]
    seen = np.array([low + (high - low) * (LUMA @ person.colours[surface]) for person in people])
    found = np.array([one[surface] for one in tones])
    pigmented = np.isclose(found, seen)
    assert abs(pigmented.mean() - 0.5) < 0.08
    assert abs(np.corrcoef(seen[~pigmented], found[~pigmented])[0, 1]) < 0.2
    assert 0.3 < _brightness("near_infrared", surface) < 0.65


@pytest.mark.parametrize("surface", ["upper", "lower"])
def test_dark_cloth_is_warm_in_the_sun(surface):
    assert -0.9 < _brightness("thermal", surface) < -0.6


def test_a_person_keeps_the_tones_and_a_dress_is_one_cloth():
    assert _tones("thermal", 20) == _tones("thermal", 20)
    assert person_tones("thermal", 1, (PERSON, 3), identity(1, 3)) != _tones("thermal", 4)[3]
    dressed = [number for number in range(100) if identity(0, number).lower == "dress"]
    for modality in GRAY:
        tones = _tones(modality, 100)
        assert dressed and all(tones[number]["upper"] == tones[number]["lower"] for number in dressed)


def test_near_infrared_skin_and_leaves_are_bright_and_hair_is_dark():
    for tones in _tones("near_infrared", 100):
        assert tones["skin"] > 0.6 > 0.4 > tones["hair"]
    scene = scene_tones("near_infrared", 0, (5, 2))
    assert scene["leaf_1"] > scene["ground_1"] > scene["sky"]


def test_skin_is_the_warmest_and_people_are_warmer_than_what_is_around():
    for number, tones in enumerate(_tones("thermal", 100)):
        assert max(tones, key=tones.get) == "skin"
        assert tones["skin"] > tones["hair"] > tones["backpack"]
        scene = scene_tones("thermal", 0, (number, 2))
        around = [value for name, value in scene.items() if not name.startswith("crowd")]
        assert min(tones["upper"], tones["lower"]) > max(around)


def test_most_prints_are_seen_in_near_infrared():
    steps = [abs(tones["upper"] - tones["upper_accent"]) for tones in _tones("near_infrared")]
    assert 0.7 < np.mean(np.array(steps) > 0.15) < 1.0


def test_cameras_that_share_a_place_show_the_same_scenes():
    plain = render(replace(SHOT, camera=3))
    assert (np.asarray(plain.pixels) == np.asarray(render(replace(SHOT, camera=3, place=3)).pixels)).all()
    assert (np.asarray(plain.pixels) != np.asarray(render(replace(SHOT, camera=3, place=2)).pixels)).any()
