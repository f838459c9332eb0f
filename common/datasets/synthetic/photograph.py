"""Images wider than one person's box: one to three people in a scene, as in COCO, with their annotations."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from common.datasets.synthetic.cameras.camera import Camera, cameras, develop, visible_palette
from common.datasets.synthetic.canvas import NEUTRAL, SCALE, Canvas
from common.datasets.synthetic.materials import COMPANION, SCENE, SCENE_SURFACES, SLOTS
from common.datasets.synthetic.people.drawing import draw_with_shadow
from common.datasets.synthetic.people.figure import Figure, pose_figure
from common.datasets.synthetic.people.joints import figure_joints
from common.datasets.synthetic.people.person import Person, sample_person
from common.datasets.synthetic.people.pose import View, sample_gait
from common.datasets.synthetic.scenes.scene import SCENES_PER_CAMERA, background, place, scene_colours
from common.datasets.synthetic.scenes.things import OBJECTS, draw_thing
from common.datasets.synthetic.seeds import PASSER, PHOTOGRAPH, generator

WIDTH, HEIGHT = 256, 192
NUM_CAMERAS = 24
FIRST_SLOTS = (0, COMPANION, SCENE + len(SCENE_SURFACES))  # palette entries of the people, the farthest first

# One image in `every` shows a distant crowd, shows nobody, or has a person without labelled joints: (every, first).
CROWD, NOBODY, UNLABELED = (9, 4), (31, 30), (7, 3)
OBJECT_RATE = 0.2
CUT_RATE = 0.2  # share of people whose legs are below the image's edge
LEAST_SEEN = 80  # pixels; people with fewer visible ones are not annotated

Box = tuple[float, float, float, float]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Photograph:
    """One image to render; `number` counts from 0 in its split."""

    seed: int
    split: str  # train | test
    number: int


@dataclass(frozen=True)
class Annotation:
    """The annotation of one person, or of a crowd.

    joints: (17, 3) float32 as in COCO, all 0 where no joints are labelled and for a crowd; area: in pixels.
    """

    box: Box
    joints: np.ndarray
    area: float
    crowd: bool = False


def render_photograph(shot: Photograph) -> tuple[Image.Image, int, list[Annotation]]:
    """Pixels, JPEG quality, annotations."""
    rng = generator(shot.seed, PHOTOGRAPH, int(shot.split == "test"), shot.number)
    camera_index = int(rng.integers(NUM_CAMERAS))
    camera = cameras(shot.seed, NUM_CAMERAS)[camera_index]
    scene = place(shot.seed, shot.split, camera_index, int(rng.integers(SCENES_PER_CAMERA)))
    canvas = Canvas(background(scene, rng, WIDTH, HEIGHT), Image.new("L", (WIDTH, HEIGHT), NEUTRAL))
    annotations = [_draw_crowd(canvas, rng)] if _every(shot.number, CROWD) else []
    people = [] if _every(shot.number, NOBODY) else _people(shot, camera, rng)
    for figure in people:
        draw_with_shadow(canvas, figure)
    if rng.random() < OBJECT_RATE:
        thing = OBJECTS[int(rng.integers(len(OBJECTS)))]
        draw_thing(canvas, thing, float(rng.uniform(0, WIDTH)), float(rng.uniform(0.9, 1.1)) * HEIGHT, 80.0)
    for position, figure in enumerate(people):
        person = _annotate(figure, canvas, with_joints=position > 0 or not _every(shot.number, UNLABELED))
        annotations += [person] if person else []

    colours = scene_colours(rng, scene.ground)
    exposure = float(np.exp(rng.normal(0, 0.15)))
    pixels = develop(
        canvas.surfaces,
        canvas.light,
        _palette([figure.person for figure in people], colours, camera, exposure),
        camera,
        camera.detail * float(rng.uniform(0.8, 1.0)),
        rng,
    )
    return pixels, camera.quality, annotations


def _every(number: int, rule: tuple[int, int]) -> bool:
    every, first = rule
    return number % every == first


def _people(shot: Photograph, camera: Camera, rng: np.random.Generator) -> list[Figure]:
    """One to three people side by side, the farthest first."""
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.20]))
    heights = np.sort(rng.uniform(0.40, 0.92, count)).tolist()
    columns = rng.permutation(count).tolist()
    figures = []
    for position, (height, column) in enumerate(zip(heights, columns, strict=True)):
        person = sample_person(generator(shot.seed, PASSER, int(rng.integers(1 << 30))))
        foot = 0.97 - 0.25 * (0.92 - height) + float(rng.normal(0, 0.03))
        if rng.random() < CUT_RATE:
            height, foot = height * 1.5, foot + 0.5 * height
        x = WIDTH * (column + 0.5 + float(rng.uniform(-0.35, 0.35))) / count
        yaw, pitch = float(rng.uniform(-np.pi, np.pi)), camera.pitch + float(rng.normal(0, 0.04))
        view = View(yaw, pitch, x, foot * HEIGHT, height * HEIGHT / float(np.cos(pitch)), 1.0)
        gait = sample_gait(rng, person.backpack != "none")
        figures.append(pose_figure(person, gait, view, FIRST_SLOTS[position], camera.lit_side))
    return figures


def _draw_crowd(canvas: Canvas, rng: np.random.Generator) -> Annotation:
    """Small walkers close together, annotated as one region."""
    count, size = int(rng.integers(6, 12)), float(rng.uniform(24, 40))
    left, foot = float(rng.uniform(10, WIDTH - 130)), float(rng.uniform(0.35, 0.6)) * HEIGHT
    for index in range(count):
        x = left + 0.15 * size + index * 0.30 * size
        draw_thing(canvas, "walker", x, foot + float(rng.uniform(-2, 2)), size)
    width, height = min(0.30 * size * (count + 0.2), WIDTH - left), size + 4
    box = (round(left), round(foot - size - 2), round(width), round(height))
    return Annotation(box, np.zeros((17, 3), np.float32), float(box[2] * box[3]), crowd=True)


def _annotate(figure: Figure, canvas: Canvas, with_joints: bool) -> Annotation | None:
    """The annotation of the visible part of the person; None if too little is visible."""
    surfaces = np.asarray(canvas.surfaces)
    shown = (surfaces >= figure.first_slot) & (surfaces < figure.first_slot + SLOTS)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    area = float(shown.sum()) / SCALE**2
    if area < LEAST_SEEN:
        return None
    left, top, right, bottom = (value / SCALE for value in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    joints = figure_joints(figure, canvas) if with_joints else np.zeros((17, 3), np.float32)
    return Annotation((left, top, right - left, bottom - top), joints, area)


def _palette(people: list[Person], colours: dict, camera: Camera, exposure: float) -> bytes:
    """As visible_palette, for three people: the third is coloured as a first one, and its entries are moved."""
    first, second, third = (*people, None, None, None)[:3]
    palette = visible_palette(first, second, colours, camera, exposure)
    start, end = 3 * FIRST_SLOTS[2], 3 * (FIRST_SLOTS[2] + SLOTS)
    return palette[:start] + visible_palette(third, None, colours, camera, exposure)[: end - start] + palette[end:]
