"""Cameras that see no colours: near-infrared with its own lamp, and thermal. What camera.py is for visible light."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from common.datasets.synthetic.cameras.camera import Camera, grain
from common.datasets.synthetic.cameras.spectra import Tones
from common.datasets.synthetic.canvas import NEUTRAL, SCALE
from common.datasets.synthetic.materials import COMPANION, PERSON_SURFACES, SCENE, SCENE_SURFACES


@dataclass(frozen=True)
class Sensor:
    """How a kind of gray camera draws. relief: power of light and shadow that is left, 1 as in visible light.

    lamp: how much darker the corners are than the middle; blur: standard deviation in pixels; detail: share of the
    camera's resolution; noise: gray levels at the least; scene: how bright surroundings are beside people.
    """

    relief: float
    lamp: float
    blur: float
    detail: float
    noise: float
    scene: float


SENSORS = {
    "near_infrared": Sensor(relief=0.8, lamp=0.40, blur=0.0, detail=0.95, noise=2.5, scene=0.62),
    "thermal": Sensor(relief=0.22, lamp=0.0, blur=0.8, detail=0.80, noise=0.8, scene=1.0),
}


def gray_levels(
    modality: str, person: Tones | None, companion: Tones | None, scene: Tones, camera: Camera, exposure: float
) -> list[int]:
    """256 gray levels, one for each surface number, as this camera records it."""
    levels = np.zeros(256)
    for first, someone in ((0, person), (COMPANION, companion)):
        if someone is not None:
            levels[first : first + len(PERSON_SURFACES)] = [someone[name] for name in PERSON_SURFACES]
    sensor = SENSORS[modality]
    levels[SCENE : SCENE + len(SCENE_SURFACES)] = [sensor.scene * scene[name] for name in SCENE_SURFACES]
    if modality == "thermal":
        # The camera spreads what it sees over its range: gain and level drift, contrast stays low.
        levels = 0.5 + (0.85 + 0.25 * (camera.gamma - 1)) * (levels - 0.5) + 0.35 * np.log(exposure)
    else:
        levels = (levels * camera.exposure * exposure) ** (0.85 * camera.gamma)
        levels = levels / (1 + 0.20 * levels**2)
        levels = camera.haze + (1 - camera.haze) * levels * 1.1
    return np.clip(levels * 255, 0, 255).astype(int).tolist()


def develop_gray(
    surfaces: Image.Image,
    light: Image.Image,
    levels: list[int],
    camera: Camera,
    modality: str,
    detail: float,
    rng: np.random.Generator,
) -> Image.Image:
    """The picture that the camera delivers, with three equal channels. Arguments as of camera.develop."""
    sensor = SENSORS[modality]
    picture = surfaces.point(levels).reduce(SCALE)
    width, height = picture.size
    shading = np.asarray(light.filter(ImageFilter.BoxBlur(1)), dtype=np.float32) / NEUTRAL
    lit = np.asarray(picture, dtype=np.float32) * shading**sensor.relief * _lamp_light(width, height, sensor.lamp)
    picture = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    if sensor.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(sensor.blur))
    share = detail * sensor.detail
    if share < 0.97:
        small = picture.resize(
            (max(16, round(width * share)), max(32, round(height * share))), Image.Resampling.BILINEAR
        )
        picture = small.resize((width, height), Image.Resampling.BICUBIC)
    noise = (sensor.noise + 0.5 * camera.noise) * grain(height * width, rng).reshape(height, width)
    gray = Image.fromarray(np.clip(np.asarray(picture, dtype=np.float32) + noise, 0, 255).astype(np.uint8))
    return Image.merge("RGB", (gray, gray, gray))


@lru_cache(maxsize=8)
def _lamp_light(width: int, height: int, fall: float) -> np.ndarray:
    """(height, width) float32: 1.1 in the middle, `fall` less in the corners: the lamp is beside the lens."""
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    return (1 + 0.25 * fall) - fall * (x[None, :] ** 2 + y[:, None] ** 2) / 2
