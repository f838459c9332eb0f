"""Surfaces: a canvas holds a surface number in every pixel, and colours are applied afterwards.

The same canvas can therefore be recorded by any sensor. A modality is one function from (person, scene, camera) to the
look of each surface number: `visible_palette` in cameras/camera.py, `gray_levels` in cameras/gray_camera.py.
"""

# Surfaces of a person; "accent" surfaces carry stripes, sleeves, trims and patches.
PERSON_SURFACES = (
    "skin", "hair", "eye", "upper", "upper_accent", "inner", "logo", "lower", "lower_accent", "sock", "shoe", "sole",
    "hat", "hat_accent", "backpack", "backpack_accent", "bag", "strap", "handbag", "belt",
)  # fmt: skip

# Surfaces of a scene; three tones of one material make its texture.
SCENE_SURFACES = (
    "sky", "ground_1", "ground_2", "ground_3", "joint", "kerb", "wall_1", "wall_2", "wall_3", "window", "window_light",
    "door", "leaf_1", "leaf_2", "leaf_3", "trunk", "metal", "metal_light", "rubber", "vehicle", "vehicle_glass",
    "object_1", "object_2", "crowd_upper", "crowd_lower", "crowd_skin", "crowd_dark", "sign",
)  # fmt: skip

SLOTS = 24  # palette entries reserved for each of the two people in a crop
COMPANION = SLOTS  # first entry of the second person
SCENE = 2 * SLOTS  # first entry of the scene

PERSON_SLOT = {name: index for index, name in enumerate(PERSON_SURFACES)}
SCENE_SLOT = {name: SCENE + index for index, name in enumerate(SCENE_SURFACES)}

Colour = tuple[float, float, float]  # red, green, blue in [0, 1], before any camera
