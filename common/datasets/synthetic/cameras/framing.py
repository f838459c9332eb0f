"""Where a box, good or bad, places the person in the crop."""

import numpy as np

from common.datasets.synthetic.cameras.camera import Camera
from common.datasets.synthetic.difficulty import CROP_SCALE, CROP_SHIFT, CROP_STRETCH
from common.datasets.synthetic.people.pose import View

CROP_WIDTH, CROP_HEIGHT = 64, 128


def frame_person(box: str, camera: Camera, yaw: float, rng: np.random.Generator) -> View:
    """The view of the person in a box of this kind. In a good box the person fills 0.95 of the height.

    box: as in render.Shot.
    """
    errors = rng.normal(0, 1, 4).tolist()
    pitch = camera.pitch + 0.04 * errors[3]
    height, x, foot = 0.95 * CROP_HEIGHT, 0.5 * CROP_WIDTH, 0.97 * CROP_HEIGHT
    if box == "annotated":
        stretch = 1.0
    elif box == "detected":
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
