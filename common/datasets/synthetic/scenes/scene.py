"""Places: each is drawn once as a wide surface image, then cropped and scaled as the background of an image."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from common.datasets.synthetic.canvas import SCALE, Canvas
from common.datasets.synthetic.materials import SCENE_SLOT, Colour
from common.datasets.synthetic.scenes.things import draw_thing
from common.datasets.synthetic.seeds import PLACE, generator

SCENES_PER_CAMERA = 8  # in each of training and test

WIDTH, HEIGHT = 640, 400  # pixels of a place's surface image

GROUNDS: dict[str, Colour] = {
    "asphalt": (0.36, 0.36, 0.37),
    "concrete": (0.58, 0.57, 0.54),
    "pavers": (0.52, 0.46, 0.41),
    "grass": (0.30, 0.40, 0.20),
    "sand": (0.66, 0.60, 0.48),
}
WALLS: tuple[Colour, ...] = (
    (0.62, 0.58, 0.52),
    (0.50, 0.32, 0.26),
    (0.72, 0.71, 0.68),
    (0.42, 0.43, 0.45),
    (0.60, 0.52, 0.38),
)
BACKDROPS = {"wall": 0.25, "windows": 0.25, "hedge": 0.2, "lawn": 0.2, "street": 0.1}
PROPS = ("pole", "bicycle", "car", "bin", "tree", "walker", "walker", "sign", "rail")

INDOOR_GROUNDS = ("concrete", "pavers", "asphalt")
INDOOR_BACKDROPS = {"wall": 0.5, "windows": 0.5}
INDOOR_PROPS = ("bin", "walker", "walker", "sign", "rail")


@dataclass(frozen=True)
class Scene:
    """A place. surfaces: surface numbers as an L image of WIDTH x HEIGHT; ground: a key of GROUNDS."""

    surfaces: Image.Image
    ground: str


@lru_cache(maxsize=256)
def place(seed: int, split: str, camera: int, number: int, indoor: bool = False) -> Scene:
    """One of the places that a camera shows; `number` is below SCENES_PER_CAMERA."""
    return make_scene(generator(seed, PLACE, int(split == "test"), camera, number), indoor)


def background(scene: Scene, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A random part of the place, as the (SCALE height) x (SCALE width) L image that people are drawn on."""
    zoom = float(rng.uniform(0.55, 1.0))
    high, wide = HEIGHT * zoom, HEIGHT * zoom * width / height
    left = float(rng.uniform(0, WIDTH - wide))
    top = float(rng.uniform(0, HEIGHT - high))
    size = (SCALE * width, SCALE * height)
    return scene.surfaces.resize(size, Image.Resampling.NEAREST, box=(left, top, left + wide, top + high))


def make_scene(rng: np.random.Generator, indoor: bool = False) -> Scene:
    """A random place. All choices come from `rng`."""
    grounds, backdrops = (INDOOR_GROUNDS, INDOOR_BACKDROPS) if indoor else (list(GROUNDS), BACKDROPS)
    ground = grounds[int(rng.integers(len(grounds)))]
    surfaces = Image.new("L", (WIDTH, HEIGHT), SCENE_SLOT["ground_1"])
    pen = ImageDraw.Draw(surfaces)
    horizon = float(rng.uniform(0.10, 0.42)) * HEIGHT
    _paint_ground(pen, rng, ground, horizon)
    backdrop = str(rng.choice(list(backdrops), p=list(backdrops.values())))
    _paint_backdrop(pen, rng, backdrop, horizon)
    for _ in range(int(rng.integers(3, 8))):
        _paint_prop(surfaces, rng, horizon, INDOOR_PROPS if indoor else PROPS)
    return Scene(surfaces, ground)


def scene_colours(rng: np.random.Generator, ground: str) -> dict[str, Colour]:
    """Colours of SCENE_SURFACES before any camera. Every call is another day, with other passers-by."""

    def tone(base: Colour, factor: float = 1.0, spread: float = 0.08) -> Colour:
        values = np.array(base) * factor * np.exp(rng.normal(0, spread) + rng.normal(0, spread / 3, 3))
        return tuple(float(value) for value in np.clip(values, 0.02, 0.97))

    floor, wall = tone(GROUNDS[ground], spread=0.15), tone(WALLS[int(rng.integers(len(WALLS)))], spread=0.15)
    leaf, vehicle = tone((0.22, 0.33, 0.15), spread=0.2), tone((0.5, 0.5, 0.52), spread=0.5)
    thing = tone(WALLS[int(rng.integers(len(WALLS)))], spread=0.4)
    return {
        "sky": tone((0.80, 0.85, 0.90)),
        **{f"ground_{i + 1}": tone(floor, factor, 0.02) for i, factor in enumerate((1.0, 0.92, 1.07))},
        "joint": tone(floor, 0.78, 0.03),
        "kerb": tone((0.66, 0.65, 0.62)),
        **{f"wall_{i + 1}": tone(wall, factor, 0.02) for i, factor in enumerate((1.0, 0.88, 1.10))},
        "window": tone((0.20, 0.24, 0.28), spread=0.2),
        "window_light": tone((0.52, 0.58, 0.62), spread=0.2),
        "door": tone((0.36, 0.27, 0.20), spread=0.3),
        **{f"leaf_{i + 1}": tone(leaf, factor, 0.03) for i, factor in enumerate((1.0, 0.68, 1.35))},
        "trunk": tone((0.27, 0.22, 0.18)),
        "metal": tone((0.34, 0.35, 0.37), spread=0.3),
        "metal_light": tone((0.68, 0.69, 0.70)),
        "rubber": (0.09, 0.09, 0.09),
        "vehicle": vehicle,
        "vehicle_glass": tone((0.16, 0.19, 0.22)),
        "object_1": thing,
        "object_2": tone(thing, 0.7),
        "crowd_upper": tone((0.42, 0.40, 0.42), spread=0.5),
        "crowd_lower": tone((0.18, 0.19, 0.23), spread=0.3),
        "crowd_skin": (0.70, 0.52, 0.42),
        "crowd_dark": (0.10, 0.09, 0.09),
        "sign": tone((0.45, 0.36, 0.34), spread=0.5),
    }


def _paint_ground(pen: ImageDraw.ImageDraw, rng: np.random.Generator, ground: str, horizon: float) -> None:
    tones = [SCENE_SLOT[f"ground_{i}"] for i in (2, 3)]
    count = 500 if ground == "grass" else 260
    xs, shares = rng.uniform(0, WIDTH, count), rng.uniform(0, 1, count) ** 0.7
    sizes = rng.uniform(1.5, 9.0, count)
    for x, share, size in zip(xs.tolist(), shares.tolist(), sizes.tolist(), strict=True):
        y = horizon + share * (HEIGHT - horizon)
        size *= 0.4 + share
        flat = 1.1 if ground == "grass" else 0.35
        pen.ellipse([x - size, y - flat * size, x + size, y + flat * size], fill=tones[int(size * 7) % 2])
    if ground in ("pavers", "concrete"):
        vanishing = float(rng.uniform(0, WIDTH))
        step = float(rng.uniform(70, 170)) * (0.6 if ground == "pavers" else 1.3)
        for index in range(-30, 31):
            pen.line(
                [vanishing, horizon - 120, vanishing + index * step * 2, HEIGHT], fill=SCENE_SLOT["joint"], width=2
            )
        share = 0.02
        while share < 1:
            y = horizon + share * (HEIGHT - horizon)
            pen.line([0, y, WIDTH, y], fill=SCENE_SLOT["joint"], width=1 + (share > 0.4))
            share = share * 1.35 + 0.02
    if rng.random() < 0.45:
        y, high = horizon + float(rng.uniform(0.0, 0.5)) * (HEIGHT - horizon), float(rng.uniform(5, 16))
        slope = float(rng.uniform(-60, 60))
        pen.polygon([0, y, WIDTH, y + slope, WIDTH, y + slope + high, 0, y + high], fill=SCENE_SLOT["kerb"])


def _paint_backdrop(pen: ImageDraw.ImageDraw, rng: np.random.Generator, backdrop: str, horizon: float) -> None:
    if backdrop in ("wall", "windows"):
        _paint_wall(pen, rng, horizon, backdrop == "windows")
    elif backdrop == "street":
        _paint_street(pen, rng, horizon)
    else:
        pen.rectangle([0, 0, WIDTH, horizon], fill=SCENE_SLOT["leaf_2" if backdrop == "hedge" else "leaf_1"])
        for _ in range(260):
            x, y, size = rng.uniform((0, 0, 3), (WIDTH, horizon + 4, 16)).tolist()
            tone = SCENE_SLOT[f"leaf_{int(rng.integers(1, 4))}"]
            pen.ellipse([x - size, y - 0.8 * size, x + size, y + 0.8 * size], fill=tone)


def _paint_wall(pen: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: float, windows: bool) -> None:
    """Courses of bricks or panels, with windows and doors or with pillars."""
    pen.rectangle([0, 0, WIDTH, horizon], fill=SCENE_SLOT["wall_1"])
    course = float(rng.uniform(9, 26))
    for index in range(int(horizon / course) + 1):
        pen.line([0, horizon - index * course, WIDTH, horizon - index * course], fill=SCENE_SLOT["wall_2"], width=2)
    pen.rectangle([0, horizon - 14, WIDTH, horizon], fill=SCENE_SLOT["wall_2"])
    x = float(rng.uniform(0, 60))
    while x < WIDTH:
        wide = float(rng.uniform(30, 90))
        if windows:
            top, door = horizon * float(rng.uniform(-0.3, 0.15)), rng.random() < 0.2
            pane = SCENE_SLOT["door" if door else "window"]
            pen.rectangle([x - 3, top - 3, x + wide + 3, horizon], fill=SCENE_SLOT["wall_3"])
            pen.rectangle([x, top, x + wide, horizon - (0 if door else 25)], fill=pane)
            pen.polygon([x, top, x + 0.4 * wide, top, x, horizon - 30], fill=SCENE_SLOT["window_light"])
        else:
            pen.rectangle([x, 0, x + 5, horizon], fill=SCENE_SLOT["wall_3"])
        x += wide + float(rng.uniform(15, 90))


def _paint_street(pen: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: float) -> None:
    """Sky over a row of houses."""
    pen.rectangle([0, 0, WIDTH, horizon], fill=SCENE_SLOT["sky"])
    x = 0.0
    while x < WIDTH:
        wide, top = float(rng.uniform(60, 180)), float(rng.uniform(0, 0.7)) * horizon
        pen.rectangle([x, top, x + wide, horizon], fill=SCENE_SLOT[f"wall_{int(rng.integers(1, 4))}"])
        x += wide


def _paint_prop(surfaces: Image.Image, rng: np.random.Generator, horizon: float, props: tuple[str, ...]) -> None:
    kind = str(rng.choice(props))
    x = float(rng.uniform(0, WIDTH)) / SCALE
    foot = (horizon + float(rng.uniform(0.02, 0.5)) * (HEIGHT - horizon)) / SCALE
    # Only the surfaces of distant objects are kept: their light goes to an image that is thrown away.
    draw_thing(Canvas(surfaces, Image.new("L", (1, 1))), kind, x, foot, 60 * float(rng.uniform(0.5, 1.0)))
