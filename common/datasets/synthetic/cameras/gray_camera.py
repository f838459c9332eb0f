"""Cameras without colour: near-infrared with its own lamp, and thermal. camera.py has those for visible light."""

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
    """Characteristics of one kind of gray camera. relief: exponent of light and shadow, 1 as in visible light.

    lamp: how much darker the corners are than the middle; blur: standard deviation in pixels; detail: share of the
    camera's resolution kept; noise: minimum, in gray levels; scene: brightness of surroundings relative to people.
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
        # A thermal camera adapts its range to the scene: gain and level drift, contrast stays low.
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
    """The image that the camera records, with three equal channels. Arguments as in camera.develop."""
    sensor = SENSORS[modality]
    image = surfaces.point(levels).reduce(SCALE)
    width, height = image.size
    shading = np.asarray(light.filter(ImageFilter.BoxBlur(1)), dtype=np.float32) / NEUTRAL
    lit = np.asarray(image, dtype=np.float32) * shading**sensor.relief * _lamp_light(width, height, sensor.lamp)
    image = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    if sensor.blur:
        image = image.filter(ImageFilter.GaussianBlur(sensor.blur))
    share = detail * sensor.detail
    if share < 0.97:
        small = image.resize((max(16, round(width * share)), max(32, round(height * share))), Image.Resampling.BILINEAR)
        image = small.resize((width, height), Image.Resampling.BICUBIC)
    noise = (sensor.noise + 0.5 * camera.noise) * grain(height * width, rng).reshape(height, width)
    gray = Image.fromarray(np.clip(np.asarray(image, dtype=np.float32) + noise, 0, 255).astype(np.uint8))
    return Image.merge("RGB", (gray, gray, gray))


@lru_cache(maxsize=8)
def _lamp_light(width: int, height: int, fall: float) -> np.ndarray:
    """(height, width) float32: `fall` darker in the corners than in the middle, as the lamp is beside the lens."""
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    return (1 + 0.25 * fall) - fall * (x[None, :] ** 2 + y[:, None] ** 2) / 2
