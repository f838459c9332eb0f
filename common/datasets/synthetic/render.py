"""From a shot (who, which camera, which frame, what kind of box) to a crop and its joints.

A crop is a function of its shot alone: every random choice comes from a generator seeded by the shot's numbers. Crops
can therefore be rendered in any order, in any number of processes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from common.datasets.poses import COCO_JOINTS
from common.datasets.synthetic.cameras.camera import Camera, cameras, develop, visible_palette
from common.datasets.synthetic.cameras.framing import CROP_HEIGHT, CROP_WIDTH, frame_person
from common.datasets.synthetic.cameras.gray_camera import develop_gray, gray_levels
from common.datasets.synthetic.cameras.spectra import person_tones, scene_tones
from common.datasets.synthetic.canvas import NEUTRAL, Canvas
from common.datasets.synthetic.difficulty import COMPANION_RATE, EXPOSURE_SPREAD, FRAME_EXPOSURE_SPREAD, OBJECT_RATE
from common.datasets.synthetic.materials import COMPANION, Colour
from common.datasets.synthetic.people.drawing import draw_with_shadow
from common.datasets.synthetic.people.figure import Figure, pose_figure
from common.datasets.synthetic.people.joints import figure_joints
from common.datasets.synthetic.people.person import Person, identity, sample_person
from common.datasets.synthetic.people.pose import View, sample_gait
from common.datasets.synthetic.scenes.scene import SCENES_PER_CAMERA, Scene, background, place, scene_colours
from common.datasets.synthetic.scenes.things import OBJECTS, draw_thing
from common.datasets.synthetic.seeds import FRAME, PASSER, PERSON, TRACK, generator


@dataclass(frozen=True)
class Shot:
    """One crop to render.

    box: `detected` (a detector's box), `annotated` (an annotator's, tight and centred), `junk` (a detector's bad box on
    a person) or `distractor` (a box on the background or on part of a passer-by).
    modality: one of spectra.MODALITIES.
    """

    seed: int
    split: str  # train | test: they share no places
    person: int  # identity of this data set; for a distractor, any number
    camera: int  # from 0
    num_cameras: int
    index: int  # of the frame among the person's
    box: str = "detected"
    modality: str = "visible"
    place: int | None = None  # camera, from 0, whose places this one shows; None: its own
    indoor: bool = False
    yaw: float | None = None  # viewpoint in radians, 0 from the front; None: from the camera's directions


@dataclass(frozen=True)
class Crop:
    """pixels: CROP_HEIGHT x CROP_WIDTH RGB; joints: (17, 3) float32, x and y in pixels and v as in COCO (0 outside
    the image, 1 hidden, 2 visible); quality: the camera's JPEG quality."""

    pixels: Image.Image
    joints: np.ndarray
    quality: int


@dataclass(frozen=True)
class Track:
    """What a person's frames in one camera share: they were taken within seconds of each other."""

    scene: Scene
    scene_colours: dict[str, Colour]
    yaw: float
    exposure: float
    object: str | None
    object_side: float
    companion: Person | None
    companion_key: tuple[int, ...]  # of the companion's spectra
    companion_side: float
    companion_before: bool


def _track_of(shot: Shot) -> Track:
    """What this shot shares with the others of the same person and camera."""
    where = shot.camera if shot.place is None else shot.place
    camera = cameras(shot.seed, shot.num_cameras)[shot.camera]
    distractor = shot.box == "distractor"
    return _track(shot.seed, shot.split, shot.person, shot.camera, camera, distractor, where, shot.indoor)


@lru_cache(maxsize=1024)
def _track(
    seed: int,
    split: str,
    person: int,
    camera_index: int,
    camera: Camera,
    distractor: bool,
    where: int,
    indoor: bool,
) -> Track:
    rng = generator(seed, TRACK, person, camera_index, int(distractor))
    scene = place(seed, split, where, int(rng.integers(SCENES_PER_CAMERA)), indoor)
    hidden, accompanied = rng.random() < OBJECT_RATE, rng.random() < COMPANION_RATE
    colours, yaw = scene_colours(rng, scene.ground), camera.sample_yaw(rng)
    exposure = float(np.exp(rng.normal(0, EXPOSURE_SPREAD)))
    thing = OBJECTS[int(rng.integers(len(OBJECTS)))] if hidden else None
    thing_side = float(rng.choice([-1, 1]))
    passer = (PASSER, int(rng.integers(1 << 30))) if accompanied else ()
    return Track(
        scene=scene,
        scene_colours=colours,
        yaw=yaw,
        exposure=exposure,
        object=thing,
        object_side=thing_side,
        companion=sample_person(generator(seed, *passer)) if passer else None,
        companion_key=passer,
        companion_side=float(rng.choice([-1, 1])),
        companion_before=bool(rng.random() < 0.35),
    )


def render(shot: Shot) -> Crop:
    camera = cameras(shot.seed, shot.num_cameras)[shot.camera]
    track = _track_of(shot)
    rng = generator(shot.seed, FRAME, shot.person, shot.camera, shot.index, int(shot.box == "distractor"))
    person = _subject(shot, rng)
    exposure = track.exposure * float(np.exp(rng.normal(0, FRAME_EXPOSURE_SPREAD)))
    gait_person = person or identity(shot.seed, shot.person)
    gait = sample_gait(rng, gait_person.backpack != "none")
    yaw = (track.yaw if shot.yaw is None else shot.yaw) + float(rng.normal(0, 0.15))
    view = frame_person(shot.box, camera, yaw, rng)

    canvas = Canvas(
        background(track.scene, rng, CROP_WIDTH, CROP_HEIGHT), Image.new("L", (CROP_WIDTH, CROP_HEIGHT), NEUTRAL)
    )
    draw_companion = track.companion is not None and rng.random() < 0.8
    companion = _companion(track, camera, view, rng) if draw_companion else None
    if companion and not track.companion_before:
        draw_with_shadow(canvas, companion)
    figure = None
    if person is not None:
        figure = pose_figure(person, gait, view, 0, camera.lit_side)
        draw_with_shadow(canvas, figure)
    if companion and track.companion_before:
        draw_with_shadow(canvas, companion)
    if track.object is not None and rng.random() < 0.75:
        x = CROP_WIDTH * (0.5 + track.object_side * float(rng.uniform(0.12, 0.5)))
        size = float(rng.uniform(55, 85))
        draw_thing(canvas, track.object, x, CROP_HEIGHT * float(rng.uniform(0.92, 1.08)), size)

    pixels = _record(shot, track, camera, canvas, person, exposure, rng)
    joints = figure_joints(figure, canvas) if figure else np.zeros((len(COCO_JOINTS), 3), dtype=np.float32)
    return Crop(pixels, joints, camera.quality)


def _record(
    shot: Shot,
    track: Track,
    camera: Camera,
    canvas: Canvas,
    person: Person | None,
    exposure: float,
    rng: np.random.Generator,
) -> Image.Image:
    """The canvas as the camera records it in the shot's modality."""
    detail = camera.detail * float(rng.uniform(0.8, 1.0))
    if shot.modality == "visible":
        palette = visible_palette(person, track.companion, track.scene_colours, camera, exposure)
        return develop(canvas.surfaces, canvas.light, palette, camera, detail, rng)
    key = (PASSER, shot.person, shot.camera) if shot.box == "distractor" else (PERSON, shot.person)
    own = person_tones(shot.modality, shot.seed, key, person) if person else None
    other = person_tones(shot.modality, shot.seed, track.companion_key, track.companion) if track.companion else None
    around = scene_tones(shot.modality, shot.seed, (shot.person, shot.camera))
    levels = gray_levels(shot.modality, own, other, around, camera, exposure)
    return develop_gray(canvas.surfaces, canvas.light, levels, camera, shot.modality, detail, rng)


def _subject(shot: Shot, rng: np.random.Generator) -> Person | None:
    """The person in the box; None for three of four distractors."""
    if shot.box != "distractor":
        return identity(shot.seed, shot.person)
    passer = sample_person(generator(shot.seed, PASSER, shot.person, shot.camera))
    return passer if rng.random() < 0.25 else None


def _companion(track: Track, camera: Camera, view: View, rng: np.random.Generator) -> Figure:
    """Another person beside, behind or partly in front of the first."""
    person = track.companion
    away = float(rng.uniform(0.30, 0.62) if track.companion_before else rng.uniform(0.2, 0.55))
    scale = float(rng.uniform(0.95, 1.15)) if track.companion_before else float(rng.uniform(0.6, 0.95))
    x = view.x + track.companion_side * away * CROP_WIDTH
    foot = view.y + (4 if track.companion_before else -view.height * float(rng.uniform(0.03, 0.2)))
    other = View(track.yaw + float(rng.normal(0, 0.6)), view.pitch, x, foot, scale * view.height, view.stretch)
    return pose_figure(person, sample_gait(rng, False), other, COMPANION, camera.lit_side)
