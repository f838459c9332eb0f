"""From a shot (who, which camera, which frame, what kind of box) to a picture and its joints.

Every picture is a function of the shot alone: each random choice comes from a generator seeded by the shot's numbers,
so pictures can be made in any order, in any number of processes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from common.datasets.poses import COCO_JOINTS
from common.datasets.synthetic.camera import Camera, cameras, develop, visible_palette
from common.datasets.synthetic.canvas import NEUTRAL, SCALE, Canvas
from common.datasets.synthetic.difficulty import (
    COMPANION_RATE,
    CROP_SCALE,
    CROP_SHIFT,
    CROP_STRETCH,
    EXPOSURE_SPREAD,
    FRAME_EXPOSURE_SPREAD,
    OBJECT_RATE,
)
from common.datasets.synthetic.figure import Figure, draw_figure, pose_figure
from common.datasets.synthetic.materials import COMPANION, Colour
from common.datasets.synthetic.person import Person, sample_person
from common.datasets.synthetic.pose import View, sample_gait
from common.datasets.synthetic.scene import HEIGHT, WIDTH, Scene, make_scene, scene_colours
from common.datasets.synthetic.things import draw_thing

CROP_WIDTH, CROP_HEIGHT = 64, 128
SCENES_PER_CAMERA = 8  # in each of training and test

# First number of every seed, so that no two kinds of choices share random numbers.
PERSON, TRACK, FRAME, PLACE, PASSER = range(5)

OBJECTS = ("pole", "bin", "bicycle", "bush", "car", "sign", "rail")


@dataclass(frozen=True)
class Shot:
    """One picture to be made.

    box: `detected` (a detector's box), `drawn` (an annotator's, tight and centred), `junk` (a detector's bad box on a
    person) or `distractor` (a box on something else, or on part of a passer-by).
    """

    seed: int
    split: str  # train | test: they share no places
    person: int  # identity of this data set; for a distractor, any number
    camera: int  # from 0
    num_cameras: int
    index: int  # of the frame among the person's
    box: str = "detected"


@dataclass(frozen=True)
class Picture:
    """pixels: CROP_HEIGHT x CROP_WIDTH RGB; joints: (17, 3) float32, x y in pixels and COCO's v (0 out of the picture,
    1 hidden, 2 seen); quality: JPEG quality of the camera."""

    pixels: Image.Image
    joints: np.ndarray
    quality: int


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(numbers))


@lru_cache(maxsize=4096)
def identity(seed: int, person: int) -> Person:
    """The identity with this number: the same in every camera and subset."""
    return sample_person(_generator(seed, PERSON, person))


@lru_cache(maxsize=256)
def _place(seed: int, split: str, camera: int, number: int) -> Scene:
    return make_scene(_generator(seed, PLACE, int(split == "test"), camera, number))


@dataclass(frozen=True)
class Track:
    """What a person's frames in one camera have in common: they were taken within seconds."""

    scene: Scene
    scene_colours: dict[str, Colour]
    yaw: float
    exposure: float
    object: str | None
    object_side: float
    companion: Person | None
    companion_side: float
    companion_before: bool


@lru_cache(maxsize=1024)
def _track(seed: int, split: str, person: int, camera_index: int, camera: Camera, distractor: bool) -> Track:
    rng = _generator(seed, TRACK, person, camera_index, int(distractor))
    scene = _place(seed, split, camera_index, int(rng.integers(SCENES_PER_CAMERA)))
    hidden, accompanied = rng.random() < OBJECT_RATE, rng.random() < COMPANION_RATE
    return Track(
        scene=scene,
        scene_colours=scene_colours(rng, scene.ground),
        yaw=camera.sample_yaw(rng),
        exposure=float(np.exp(rng.normal(0, EXPOSURE_SPREAD))),
        object=OBJECTS[int(rng.integers(len(OBJECTS)))] if hidden else None,
        object_side=float(rng.choice([-1, 1])),
        companion=sample_person(_generator(seed, PASSER, int(rng.integers(1 << 30)))) if accompanied else None,
        companion_side=float(rng.choice([-1, 1])),
        companion_before=bool(rng.random() < 0.35),
    )


def render(shot: Shot) -> Picture:
    """Draw one picture."""
    camera = cameras(shot.seed, shot.num_cameras)[shot.camera]
    track = _track(shot.seed, shot.split, shot.person, shot.camera, camera, shot.box == "distractor")
    rng = _generator(shot.seed, FRAME, shot.person, shot.camera, shot.index, int(shot.box == "distractor"))
    person = _subject(shot, rng)
    exposure = track.exposure * float(np.exp(rng.normal(0, FRAME_EXPOSURE_SPREAD)))
    gait_person = person or identity(shot.seed, shot.person)
    gait = sample_gait(rng, gait_person.backpack != "none")
    yaw = track.yaw + float(rng.normal(0, 0.15))
    view = _box(shot, camera, yaw, rng)

    canvas = Canvas(_background(track.scene, rng), Image.new("L", (CROP_WIDTH, CROP_HEIGHT), NEUTRAL))
    draw_companion = track.companion is not None and rng.random() < 0.8
    companion = _companion(track, camera, view, rng) if draw_companion else None
    if companion and not track.companion_before:
        _draw(canvas, companion)
    figure = None
    if person is not None:
        figure = pose_figure(person, gait, view, 0, camera.lit_side)
        _draw(canvas, figure)
    if companion and track.companion_before:
        _draw(canvas, companion)
    if track.object is not None and rng.random() < 0.75:
        x = CROP_WIDTH * (0.5 + track.object_side * float(rng.uniform(0.12, 0.5)))
        size = float(rng.uniform(55, 85))
        draw_thing(canvas, track.object, x, CROP_HEIGHT * float(rng.uniform(0.92, 1.08)), size)

    palette = visible_palette(person, track.companion, track.scene_colours, camera, exposure)
    detail = camera.detail * float(rng.uniform(0.8, 1.0))
    pixels = develop(canvas.surfaces, canvas.light, palette, camera, detail, rng)
    joints = _joints(figure, canvas) if figure else np.zeros((len(COCO_JOINTS), 3), dtype=np.float32)
    return Picture(pixels, joints, camera.quality)


def _subject(shot: Shot, rng: np.random.Generator) -> Person | None:
    """Who is in the box; nobody in three of four distractors."""
    if shot.box != "distractor":
        return identity(shot.seed, shot.person)
    passer = sample_person(_generator(shot.seed, PASSER, shot.person, shot.camera))
    return passer if rng.random() < 0.25 else None


def _box(shot: Shot, camera: Camera, yaw: float, rng: np.random.Generator) -> View:
    """Where the detector's box puts the person: a good box holds the stature in about nine tenths of its height."""
    errors = rng.normal(0, 1, 4).tolist()
    pitch = camera.pitch + 0.04 * errors[3]
    height, x, foot = 0.95 * CROP_HEIGHT, 0.5 * CROP_WIDTH, 0.97 * CROP_HEIGHT
    if shot.box == "drawn":
        stretch = 1.0
    elif shot.box == "detected":
        height *= float(np.exp(CROP_SCALE * errors[0]))
        x += CROP_SHIFT * errors[1] * CROP_HEIGHT
        foot += CROP_SHIFT * errors[2] * CROP_HEIGHT
        stretch = float(np.exp(CROP_STRETCH * errors[3]))
    else:
        stretch = 1.0
        if rng.random() < 0.55:  # a box on part of a body
            height *= float(rng.uniform(1.5, 2.8))
            foot = CROP_HEIGHT * float(rng.uniform(0.9, 2.2))
            x += CROP_WIDTH * float(rng.uniform(-0.45, 0.45))
        else:  # a box with the person at its edge
            height *= float(rng.uniform(0.45, 0.9))
            foot = CROP_HEIGHT * float(rng.uniform(0.45, 1.25))
            x += CROP_WIDTH * float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.6))
    return View(yaw, pitch, x, foot, height / np.cos(pitch), stretch)


def _background(scene: Scene, rng: np.random.Generator) -> Image.Image:
    zoom = float(rng.uniform(0.55, 1.0))
    high, wide = HEIGHT * zoom, HEIGHT * zoom * CROP_WIDTH / CROP_HEIGHT
    left = float(rng.uniform(0, WIDTH - wide))
    top = float(rng.uniform(0, HEIGHT - high))
    size = (SCALE * CROP_WIDTH, SCALE * CROP_HEIGHT)
    return scene.picture.resize(size, Image.Resampling.NEAREST, box=(left, top, left + wide, top + high))


def _companion(track: Track, camera: Camera, view: View, rng: np.random.Generator) -> Figure:
    """Another person beside, behind or partly before the first."""
    person = track.companion
    away = float(rng.uniform(0.30, 0.62) if track.companion_before else rng.uniform(0.2, 0.55))
    scale = float(rng.uniform(0.95, 1.15)) if track.companion_before else float(rng.uniform(0.6, 0.95))
    x = view.x + track.companion_side * away * CROP_WIDTH
    foot = view.y + (4 if track.companion_before else -view.height * float(rng.uniform(0.03, 0.2)))
    other = View(track.yaw + float(rng.normal(0, 0.6)), view.pitch, x, foot, scale * view.height, view.stretch)
    return pose_figure(person, sample_gait(rng, False), other, COMPANION, camera.lit_side)


def _draw(canvas: Canvas, figure: Figure) -> None:
    """A person with the shadow at the feet."""
    view = figure.view
    half = 0.16 * view.height
    shift = -0.1 * view.height * figure.lit_side
    rim = [(view.x + shift + half * c, view.y - 0.01 * view.height + 0.22 * half * s) for c, s in _RING]
    canvas.shadow(rim, 84)
    draw_figure(canvas, figure)


_RING = [(float(np.cos(angle)), float(np.sin(angle))) for angle in np.linspace(0, 2 * np.pi, 13)[:-1]]

# A joint this much farther away than the trunk's axis is behind the trunk, in parts of the stature.
_BEHIND = 0.05


def _joints(figure: Figure, canvas: Canvas) -> np.ndarray:
    """(17, 3) float32: COCO's x, y, v. A joint is seen if it is on the near side and its pixel shows the person."""
    joints = np.zeros((len(COCO_JOINTS), 3), dtype=np.float32)
    trunk_depth, head_depth = figure.depth("pelvis"), figure.depth("head")
    half = 0.6 * figure.person.body.shoulder * figure.view.height
    for row, name in enumerate(COCO_JOINTS):
        x, y, near = figure.joints[name]
        if not (0 <= x < CROP_WIDTH and 0 <= y < CROP_HEIGHT):
            continue
        covered = canvas.surfaces.getpixel((int(SCALE * x), int(SCALE * y))) >= COMPANION
        if row < 5:
            turned_away = near < head_depth - 0.01
        else:
            over_trunk = abs(x - figure.at("pelvis")[0]) < half and y < figure.at("pelvis")[1]
            turned_away = over_trunk and near < trunk_depth - _BEHIND
        joints[row] = x, y, 1 if covered or turned_away else 2
    return joints
