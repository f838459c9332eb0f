"""The 17 COCO joints of a figure, with their visibility."""

import numpy as np

from common.datasets.poses import COCO_JOINTS
from common.datasets.synthetic.canvas import SCALE, Canvas
from common.datasets.synthetic.materials import SLOTS
from common.datasets.synthetic.people.figure import Figure

# A joint this much farther away than the trunk's axis is behind the trunk; relative to the stature.
_BEHIND = 0.05


def figure_joints(figure: Figure, canvas: Canvas) -> np.ndarray:
    """(17, 3) float32: x, y, v as in COCO; v is 2 for a joint on the near side whose pixel shows the person.

    canvas: with everything on it that may occlude the figure.
    """
    joints = np.zeros((len(COCO_JOINTS), 3), dtype=np.float32)
    width, height = canvas.light.size
    own = range(figure.first_slot, figure.first_slot + SLOTS)
    trunk_depth, head_depth = figure.depth("pelvis"), figure.depth("head")
    half = 0.6 * figure.person.body.shoulder * figure.view.height
    for row, name in enumerate(COCO_JOINTS):
        x, y, near = figure.joints[name]
        if not (0 <= x < width and 0 <= y < height):
            continue
        covered = canvas.surfaces.getpixel((int(SCALE * x), int(SCALE * y))) not in own
        if row < 5:
            turned_away = near < head_depth - 0.01
        else:
            over_trunk = abs(x - figure.at("pelvis")[0]) < half and y < figure.at("pelvis")[1]
            turned_away = over_trunk and near < trunk_depth - _BEHIND
        joints[row] = x, y, 1 if covered or turned_away else 2
    return joints
