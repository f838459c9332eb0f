"""A small SYSU-MM01: galleries of the trials computed by hand, official permutations with MATLAB's nesting."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from common.datasets import open_dataset, sysu_mm01
from common.errors import UserError

# {camera: {identity: number of images}}. 1 trains, 2 is of val, 5 and 30 test, 9 is in no list.
IMAGES = {
    1: {1: 2, 5: 12, 9: 3},
    2: {2: 1, 30: 3},
    3: {1: 1, 5: 2},
    4: {1: 1, 5: 2, 30: 1},
    5: {30: 11},
    6: {2: 2, 30: 1},
}
# Test identities with images in visible cameras: (1, 5) (2, 30) (4, 5) (4, 30) (5, 30).
SINGLE_SHOT = {"all": 5, "indoor": 2}
MULTI_SHOT = {"all_multi_shot": 10 + 3 + 2 + 1 + 10, "indoor_multi_shot": 10 + 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "SYSU-MM01"
    for camera, persons in IMAGES.items():
        (root / f"cam{camera}").mkdir(parents=True)
        (root / f"cam{camera}" / "Thumbs.db").touch()
        for person, count in persons.items():
            images = root / f"cam{camera}" / f"{person:04d}"
            images.mkdir()
            for number in range(1, count + 1):
                (images / f"{number:04d}.jpg").touch()
            (images / "._0001.jpg").touch()
            (images / "Thumbs.db").touch()
    (root / "exp").mkdir()
    (root / "exp" / "train_id.txt").write_text("1\n")
    scipy.io.savemat(root / "exp" / "val_id.mat", {"id": np.array([[2]], np.uint16)})
    (root / "exp" / "test_id.txt").write_text("30,5")  # not in order
    return root


def _write_permutations(path: Path, images: dict = IMAGES, sizes=(20, 33, 53, 53, 53, 33)) -> None:
    """As the official file: 6 x 1 cell of cells of 10 x n numbers from 1. Row t begins with image (t mod n) + 1.

    sizes: the cells end at some identity: the first camera's here before 30, who is not in it.
    """
    cameras = np.empty((6, 1), dtype=object)
    for camera, size in enumerate(sizes, start=1):
        persons = np.empty((size, 1), dtype=object)
        for person in range(1, size + 1):
            count = images[camera].get(person, 0)
            rows = [np.roll(np.arange(1, count + 1), -t) for t in range(10)]
            persons[person - 1, 0] = np.array(rows, np.uint8).reshape(10, count)
        cameras[camera - 1, 0] = persons
    scipy.io.savemat(path, {"rand_perm_cam": cameras})


def test_train_is_both_modalities_of_train_and_val(folder):
    train = open_dataset("sysu_mm01", folder.parent).train
    assert [(s.camera, s.person, s.modality) for s in train.samples] == [
        (1, 1, "visible"),
        (1, 1, "visible"),
        (2, 2, "visible"),
        (3, 1, "infrared"),
        (4, 1, "visible"),
        (6, 2, "infrared"),
        (6, 2, "infrared"),
    ]


def test_query_is_infrared_and_gallery_visible(folder):
    subsets = sysu_mm01.read(folder).subsets
    assert [(s.camera, s.person) for s in subsets["query"].samples] == [(3, 5), (3, 5), (6, 30)]
    assert {s.modality for s in subsets["query"].samples} == {"infrared"}
    assert len(subsets["gallery"]) == 12 + 3 + 2 + 1 + 11
    assert set(subsets["gallery"].cameras.tolist()) == {1, 2, 4, 5}
    assert len(subsets["gallery_indoor"]) == 12 + 3


@pytest.mark.parametrize("place", ["rand_perm_cam.mat", "exp/rand_perm_cam.mat"])
def test_official_permutations_choose_the_gallery(folder, place):
    _write_permutations(folder / place)
    dataset = sysu_mm01.read(folder)
    assert dataset.notes[0] == f"gallery images: official permutations, {place}"
    assert "all: 5 gallery images in each of 10 trials" in dataset.notes
    for trial in range(10):
        # Row t of a permutation begins with image (t mod n) + 1.
        expected = [(1, 5, trial % 12), (2, 30, trial % 3), (4, 5, trial % 2), (4, 30, 0), (5, 30, trial % 11)]
        search = dataset.searches[0]
        chosen = [search.gallery.samples[position] for position in search.trials[trial]]
        assert [(s.camera, s.person, s.path.name) for s in chosen] == [
            (camera, person, f"{position + 1:04d}.jpg") for camera, person, position in expected
        ]
    multi = dataset.searches[2]
    names = [multi.gallery.samples[p].path.name for p in multi.trials[3] if multi.gallery.samples[p].camera == 1]
    assert names == [f"{number:04d}.jpg" for number in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12)]  # 4..12, then 1


@pytest.mark.parametrize("official", [True, False])
def test_numbers_of_gallery_images(folder, official):
    if official:
        _write_permutations(folder / "rand_perm_cam.mat")
    searches = {search.name: search for search in sysu_mm01.read(folder).searches}
    assert list(searches) == ["all", "indoor", "all_multi_shot", "indoor_multi_shot"]
    for name, size in (SINGLE_SHOT | MULTI_SHOT).items():
        assert [len(set(trial.tolist())) for trial in searches[name].trials] == [size] * 10
        assert searches[name].protocol == "sysu_mm01"
        assert all(trial.max() < len(searches[name].gallery) for trial in searches[name].trials)
    for search in searches.values():
        persons = search.gallery.persons[search.trials[0]]
        assert set(persons.tolist()) == {5, 30}


def test_our_own_permutations_are_the_documented_ones_and_noted(folder):
    dataset = sysu_mm01.read(folder)
    assert "our own draw" in dataset.notes[0]
    for trial in range(10):
        generator = np.random.default_rng(trial)
        first = [int(generator.permutation(count)[0]) for count in (12, 3, 2, 1, 11)]
        starts = np.cumsum([0, 12, 3, 2, 1])
        assert dataset.searches[0].trials[trial].tolist() == (starts + first).tolist()


@pytest.mark.parametrize(
    ("camera", "person", "count"),
    [(1, 5, 13), (5, 5, 1), (2, 30, 0)],
    ids=["index beyond the images", "no images", "no entry"],
)
def test_permutations_for_other_images_are_refused(folder, camera, person, count):
    images = {c: dict(persons) for c, persons in IMAGES.items()}
    images[camera][person] = count
    _write_permutations(folder / "rand_perm_cam.mat", images)
    with pytest.raises(
        UserError, match=rf"does not match the images: identity {person} has .* cam{camera}/{person:04d}"
    ):
        sysu_mm01.read(folder)


def test_files_of_another_kind_are_named(folder):
    (folder / "rand_perm_cam.mat").write_bytes(b"no MATLAB file" * 30)
    with pytest.raises(UserError, match=r"rand_perm_cam\.mat is not SYSU"):
        sysu_mm01.read(folder)
    (folder / "exp" / "test_id.txt").write_text("1,two")
    with pytest.raises(UserError, match=r"test_id\.txt is not a list of identities"):
        sysu_mm01.read(folder)
    (folder / "exp" / "test_id.txt").write_text("\n")
    with pytest.raises(UserError, match=r"test_id\.txt names no identities"):
        sysu_mm01.read(folder)
    (folder / "exp" / "test_id.txt").write_text("77\n")
    with pytest.raises(UserError, match="no images of the gallery identities"):
        sysu_mm01.read(folder)


def test_published_counts_add_up():
    assert sysu_mm01.OFFICIAL_COUNTS["sysu_mm01"]["train"][0] == 22_258 + 11_909


def test_fingerprint_depends_on_the_gallery_images(folder):
    ours = sysu_mm01.read(folder).fingerprint
    _write_permutations(folder / "rand_perm_cam.mat")
    assert sysu_mm01.read(folder).fingerprint != ours
