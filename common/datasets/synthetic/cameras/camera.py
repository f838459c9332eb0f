"""Cameras: how each records colour, light and detail, and in which directions people walk past it."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from common.datasets.synthetic.canvas import NEUTRAL, SCALE
from common.datasets.synthetic.difficulty import (
    CAST_SPREAD,
    DETAIL_RANGE,
    EXPOSURE_RANGE,
    GAMMA_RANGE,
    HAZE_RANGE,
    NOISE_RANGE,
    SATURATION_RANGE,
    YAW_SPREAD,
)
from common.datasets.synthetic.materials import COMPANION, PERSON_SURFACES, SCENE, SCENE_SURFACES, Colour
from common.datasets.synthetic.people.person import Person

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True)
class Camera:
    """One camera's characteristics. Gains and exposure multiply colours; detail is the share of the resolution kept."""

    gains: tuple[float, float, float]
    exposure: float
    gamma: float
    saturation: float
    haze: float
    detail: float
    noise: float  # standard deviation, gray levels
    quality: int  # JPEG
    pitch: float  # radians, downwards
    directions: tuple[tuple[float, float], ...]  # walking directions past it: (yaw in radians, share)
    lit_side: float  # -1 the light comes from the left, 1 from the right
    light_fall: float  # how much darker the bottom is than the top

    def sample_yaw(self, rng: np.random.Generator) -> float:
        shares = np.array([share for _, share in self.directions])
        yaw = self.directions[int(rng.choice(len(shares), p=shares / shares.sum()))][0]
        return yaw + float(rng.normal(0, YAW_SPREAD))


def _spread(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """(count,) values that cover the range evenly, in random order, so that no two cameras are alike by chance."""
    return low + (high - low) * (rng.permutation(count) + rng.uniform(0.2, 0.8, count)) / count


@lru_cache(maxsize=4)
def cameras(seed: int, count: int) -> tuple[Camera, ...]:
    """The data set's cameras, numbered from 0."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, count]))
    warmth = _spread(rng, count, -1.7, 1.7) * CAST_SPREAD
    tint = _spread(rng, count, -0.8, 0.8) * CAST_SPREAD
    exposure = np.exp(_spread(rng, count, *EXPOSURE_RANGE))
    gamma, saturation = _spread(rng, count, *GAMMA_RANGE), _spread(rng, count, *SATURATION_RANGE)
    haze, detail = _spread(rng, count, *HAZE_RANGE), _spread(rng, count, *DETAIL_RANGE)
    noise, quality = _spread(rng, count, *NOISE_RANGE), _spread(rng, count, 62, 94)
    pitch, axis = _spread(rng, count, 0.05, 0.42), _spread(rng, count, -math.pi / 2, math.pi / 2)
    return tuple(
        Camera(
            gains=(math.exp(warmth[i]), math.exp(tint[i]), math.exp(-warmth[i])),
            exposure=float(exposure[i]),
            gamma=float(gamma[i]),
            saturation=float(saturation[i]),
            haze=float(haze[i]),
            detail=float(detail[i]),
            noise=float(noise[i]),
            quality=int(quality[i]),
            pitch=float(pitch[i]),
            directions=((axis[i], 0.45), (axis[i] + math.pi, 0.40), (axis[i] + math.pi / 2, 0.15)),
            lit_side=float(rng.choice([-1.0, 1.0])),
            light_fall=float(rng.uniform(-0.05, 0.30)),
        )
        for i in range(count)
    )


def visible_palette(
    person: Person | None, companion: Person | None, scene_colours: dict[str, Colour], camera: Camera, exposure: float
) -> bytes:
    """768 bytes, RGB of every surface number as this camera records it in visible light."""
    colours = np.zeros((256, 3))
    for first, someone in ((0, person), (COMPANION, companion)):
        if someone is not None:
            colours[first : first + len(PERSON_SURFACES)] = [someone.colours[name] for name in PERSON_SURFACES]
    colours[SCENE : SCENE + len(SCENE_SURFACES)] = [scene_colours[name] for name in SCENE_SURFACES]
    gray = colours @ LUMA
    colours = gray[:, None] + camera.saturation * (colours - gray[:, None])
    colours = np.clip(colours * np.array(camera.gains) * camera.exposure * exposure, 0, None)
    colours = colours**camera.gamma
    colours = colours / (1 + 0.25 * colours**2)  # the shoulder of a sensor's response: bright cloth keeps some tone
    colours = camera.haze + (1 - camera.haze) * colours * 1.15
    return np.clip(colours * 255, 0, 255).astype(np.uint8).tobytes()


def develop(
    surfaces: Image.Image, light: Image.Image, palette: bytes, camera: Camera, detail: float, rng: np.random.Generator
) -> Image.Image:
    """The image that the camera records: colours, light, loss of detail and noise.

    surfaces: (SCALE h) x (SCALE w) L; light: h x w L; detail: share of the resolution kept; returns h x w RGB.
    """
    coloured = surfaces.copy()
    coloured.putpalette(palette)
    image = coloured.convert("RGB").reduce(SCALE)
    width, height = image.size
    shading = np.asarray(light.filter(ImageFilter.BoxBlur(1)), dtype=np.float32) / NEUTRAL
    shading *= np.linspace(1 + camera.light_fall / 2, 1 - camera.light_fall / 2, height, dtype=np.float32)[:, None]
    lit = np.asarray(image, dtype=np.float32) * shading[:, :, None]
    image = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    if detail < 0.97:
        small = image.resize(
            (max(16, round(width * detail)), max(32, round(height * detail))), Image.Resampling.BILINEAR
        )
        image = small.resize((width, height), Image.Resampling.BICUBIC)
    speckle = grain(height * width * 3, rng).reshape(height, width, 3)
    noisy = np.asarray(image, dtype=np.float32) + camera.noise * speckle
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


_GRAIN_POOL = 1 << 20


@lru_cache(maxsize=1)
def _grain_pool() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(_GRAIN_POOL, dtype=np.float32)


def grain(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) standard normal noise, a random slice of a fixed pool: far cheaper than new noise for every image."""
    start = int(rng.integers(_GRAIN_POOL - count))
    return _grain_pool()[start : start + count]
