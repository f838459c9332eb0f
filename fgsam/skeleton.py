"""The joints and limbs of a body, the 57 channels in which the pose resolve net gives them, and FGSAM's six parts.

Channels 0 to 18 are the confidence maps of stream S1: COCO's 17 joints, the neck, the background. Channels 19 to 56
are the part affinity fields of stream S2: of limb k, its x at 19 + 2k and its y at 20 + 2k. The 19 limbs are those of
Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017.
"""

from common.datasets import poses

JOINTS = (*poses.COCO_JOINTS, "neck")
NUM_ANNOTATED = len(poses.COCO_JOINTS)  # the neck is put between the shoulders
LIMBS = (
    ("neck", "nose"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
    ("right_eye", "right_ear"), ("left_shoulder", "left_ear"), ("right_shoulder", "right_ear"),
    ("neck", "left_shoulder"), ("neck", "right_shoulder"), ("neck", "left_hip"), ("neck", "right_hip"),
    ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"),
    ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"), ("right_hip", "right_knee"),
    ("left_knee", "left_ankle"), ("right_knee", "right_ankle"),
)  # fmt: skip

NUM_MAPS = len(JOINTS) + 1
NUM_FIELDS = 2 * len(LIMBS)
NUM_CHANNELS = NUM_MAPS + NUM_FIELDS
BACKGROUND = NUM_MAPS - 1

# Sec. III-C names the parts, not their joints: ASSUMED. A joint where two parts meet belongs to both.
_PART_JOINTS = {
    "head": ("nose", "eye", "ear"),
    "upper_body": ("neck", "shoulder", "hip"),
    "upper_arm": ("shoulder", "elbow"),
    "lower_arm": ("elbow", "wrist"),
    "upper_leg": ("hip", "knee"),
    "lower_leg": ("knee", "ankle"),
}
PARTS = tuple(_PART_JOINTS)


def joint_index(name: str) -> int:
    return JOINTS.index(name)


def limb_indices() -> tuple[list[int], list[int]]:
    """The positions in JOINTS at which the limbs begin, and those at which they end."""
    return [joint_index(begin) for begin, _ in LIMBS], [joint_index(end) for _, end in LIMBS]


def mirrored_joints() -> list[int]:
    """For each joint the position of its counterpart on the other side (its own for nose and neck)."""
    swap = {"left": "right", "right": "left"}
    sides = [name.partition("_") for name in JOINTS]
    return [joint_index(f"{swap[side]}_{joint}") if side in swap else i for i, (side, _, joint) in enumerate(sides)]


def part_channels(part: str) -> list[int]:
    """The channels of a part: the maps of its joints and the fields of its limbs, but not the background.

    A limb belongs to the part that has both of its ends; those between head and trunk belong to the head.
    """
    own = _PART_JOINTS[part]
    maps = [i for i, name in enumerate(JOINTS) if _kind(name) in own]
    fields = []
    for k, limb in enumerate(LIMBS):
        ends = [_kind(name) for name in limb]
        to_the_head = any(kind in _PART_JOINTS["head"] for kind in ends)
        if (part == "head") if to_the_head else all(kind in own for kind in ends):
            fields += [NUM_MAPS + 2 * k, NUM_MAPS + 2 * k + 1]
    return maps + fields


def _kind(joint: str) -> str:
    """`elbow` of left_elbow."""
    return joint.rpartition("_")[2]
