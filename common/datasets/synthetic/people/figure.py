"""One person in one pose and view: the input of the drawing modules in this package."""

import math
from dataclasses import dataclass

from common.datasets.synthetic.canvas import Point
from common.datasets.synthetic.materials import PERSON_SLOT
from common.datasets.synthetic.people.person import Person
from common.datasets.synthetic.people.pose import Gait, Point3, View, skeleton


@dataclass
class Figure:
    """A person at one moment in one view, ready to be drawn; `joints` are (right, down, towards the camera)."""

    person: Person
    view: View
    joints: dict[str, Point3]
    first_slot: int  # palette entry of the person's first surface
    lit_side: float

    def slot(self, surface: str) -> int:
        return self.first_slot + PERSON_SLOT[surface]

    def at(self, joint: str) -> Point:
        x, y, _ = self.joints[joint]
        return x, y

    def depth(self, joint: str) -> float:
        return self.joints[joint][2]

    @property
    def facing(self) -> float:
        """1 towards the camera, 0 from the side, -1 from behind."""
        return math.cos(self.view.yaw)


def pose_figure(person: Person, gait: Gait, view: View, first_slot: int, lit_side: float) -> Figure:
    return Figure(person, view, view.project(skeleton(person.body, gait)), first_slot, lit_side)
