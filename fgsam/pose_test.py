"""Phase 0: its targets against a plain definition, its masks, losses and scores, and the images that it reads."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets.coco_keypoints import read
from common.datasets.poses import COCO_JOINTS
from common.errors import UserError

from .ground_truth import (
    add_neck,
    confidence_maps,
    find_joints,
    flip_joints,
    loss_weights,
    pose_losses,
    to_cells,
)
from .model_test import settings_of
from .pose_data import PeopleInPhotographs, PoseBatch, open_pose_images
from .pose_net import PoseNet
from .pose_scores import joint_scores
from .pretrain_pose import flipped, program_settings, targets
from .skeleton import JOINTS, LIMBS

HEIGHT, WIDTH = 7, 5
WHOLE = torch.tensor([-0.5, -0.5, WIDTH - 0.5, HEIGHT - 0.5])


def people(num_people=2, seed=0):
    """(1, M, 18, 3), some joints unlabelled."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(1, num_people, 17, 2, generator=generator) * torch.tensor([WIDTH - 1.0, HEIGHT - 1.0])
    visibility = torch.randint(0, 3, (1, num_people, 17, 1), generator=generator)
    return add_neck(torch.cat([places, visibility.float()], dim=3))


def test_the_neck_is_between_the_shoulders_and_known_where_both_are():
    joints = torch.zeros(17, 3)
    joints[5], joints[6] = torch.tensor([2.0, 4.0, 2.0]), torch.tensor([6.0, 5.0, 1.0])
    assert add_neck(joints)[17].tolist() == [4.0, 4.5, 1.0]
    joints[6, 2] = 0
    assert add_neck(joints)[17, 2] == 0


def plain_targets(joints, rows, columns, *, sigma, limb_width):
    """Maps and fields, (57, rows, columns), of one image's people: (M, 18, 3) in cells."""
    found = torch.zeros(57, rows, columns, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            for j in range(18):
                for x, y, v in joints[:, j].tolist():
                    value = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2)) if v > 0 else 0.0
                    found[j, row, column] = max(value, found[j, row, column].item())
            found[18, row, column] = 1 - found[:18, row, column].max()
            for k, (begin, end) in enumerate(LIMBS):
                vectors = []
                for person in joints:
                    (x1, y1, v1), (x2, y2, v2) = (person[JOINTS.index(name)].tolist() for name in (begin, end))
                    length = math.hypot(x2 - x1, y2 - y1)
                    x, y = (x2 - x1) / length, (y2 - y1) / length
                    along = (column - x1) * x + (row - y1) * y
                    aside = abs((column - x1) * y - (row - y1) * x)
                    if v1 > 0 and v2 > 0 and 0 <= along <= length and aside <= limb_width:
                        vectors.append((x, y))
                if vectors:
                    found[19 + 2 * k : 21 + 2 * k, row, column] = torch.tensor(np.mean(vectors, axis=0))
    return found


def test_all_57_channels_against_a_plain_definition():
    sigma, limb_width = 0.8, 0.7
    joints = torch.cat([people(), people(seed=1)])
    size = torch.tensor([WIDTH, HEIGHT])
    as_shares = torch.cat([(joints[..., :2] + 0.5) / size, joints[..., 2:]], dim=3)
    nothing_ignored = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.bool)
    batch = PoseBatch(torch.empty(0), as_shares, torch.full((2, 2, 4), -1.0), nothing_ignored)
    settings = program_settings(settings_of(pose_sigma=sigma, pose_limb_width=limb_width))
    found, weights = targets(batch, settings, torch.device("cpu"))
    assert (weights == 1).all()  # nobody has a box in the image
    expected = torch.stack([plain_targets(own, HEIGHT, WIDTH, sigma=sigma, limb_width=limb_width) for own in joints])
    assert (expected.abs().amax((2, 3)) > 0).sum() > 80  # of 2 x 57 channels, in which joints may be unlabelled
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_joints_without_a_label_add_no_loss():
    joints = people(1)
    joints[..., 2] = 2
    joints[0, 0, COCO_JOINTS.index("left_elbow"), 2] = 0
    nothing_ignored = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    weights = loss_weights(joints, WHOLE.expand(1, 1, 4), nothing_ignored)
    masked = {channel for channel in range(57) if (weights[0, channel] == 0).all()}
    # The elbow's map, and both fields of shoulder-elbow (limb 11) and elbow-wrist (limb 13).
    assert masked == {7, 19 + 22, 19 + 23, 19 + 26, 19 + 27}
    assert weights[0, [c for c in range(57) if c not in masked]].min() == 1
    wanted = torch.zeros(1, 57, HEIGHT, WIDTH)
    prediction = torch.randn(1, 57, HEIGHT, WIDTH, requires_grad=True)
    found = pose_losses([prediction], wanted, weights)
    found["loss"].backward()
    assert prediction.grad[0, sorted(masked)].abs().sum() == 0
    others = [channel for channel in range(19) if channel != 7]
    assert found["maps_loss"].item() == pytest.approx(prediction[0, others].square().sum().item(), rel=1e-5)


def test_the_mask_is_the_box_of_the_person_and_ignored_regions():
    joints = people(2)
    joints[..., 2] = 2
    joints[0, 1, 0, 2] = 0  # the second person's nose
    boxes = torch.stack([WHOLE, torch.tensor([2.0, 3.0, 3.0, 4.0])])[None]
    ignored = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    ignored[0, 6, 4] = True
    weights = loss_weights(joints, boxes, ignored)[0]
    expected = torch.ones(HEIGHT, WIDTH)
    expected[6, 4] = 0
    torch.testing.assert_close(weights[18], expected)
    expected[3:5, 2:4] = 0
    torch.testing.assert_close(weights[0], expected)


def test_the_loss_is_summed_over_stages_channels_and_cells():
    stages = [torch.full((2, 57, 3, 2), 0.5), torch.zeros(2, 57, 3, 2)]
    found = pose_losses(stages, torch.ones(2, 57, 3, 2), torch.ones(2, 57, 3, 2))
    assert list(found) == ["loss", "maps_loss", "fields_loss"]
    expected = [57 * 6 * (0.25 + 1), 19 * 6 * (0.25 + 1), 38 * 6 * (0.25 + 1)]
    assert [term.item() for term in found.values()] == pytest.approx(expected)


def test_joints_are_found_where_the_maps_put_them():
    true = torch.rand(4, 1, 18, 3) * 0.7 + 0.15
    cells = torch.cat([to_cells(true[..., :2], 16, 8), torch.full((4, 1, 18, 1), 2.0)], dim=3)
    found = find_joints(confidence_maps(cells, 16, 8, sigma=1.0))
    error = (found[..., :2] - true[:, 0, :, :2]) * torch.tensor([8.0, 16.0])
    assert error.abs().max() < 0.05  # of a cell


def test_a_mirrored_batch_has_the_mirrored_ground_truth():
    joints = add_neck(torch.rand(3, 1, 17, 3))
    joints[..., 2] = 2
    batch = PoseBatch(
        torch.zeros(3, 3, 64, 32, dtype=torch.uint8),
        joints,
        torch.tensor([0.1, 0.2, 0.5, 0.9]).expand(3, 1, 4),
        torch.rand(3, 8, 4) > 0.5,
    )
    settings = program_settings(settings_of())
    mirrored = flipped(batch, 1.0, torch.Generator().manual_seed(0))
    plain, other = (targets(b, settings, torch.device("cpu"))[0] for b in (batch, mirrored))
    nose, left_ankle, right_ankle = 0, 15, 16
    torch.testing.assert_close(other[:, nose], plain[:, nose].flip(2))
    torch.testing.assert_close(other[:, left_ankle], plain[:, right_ankle].flip(2))
    torch.testing.assert_close(mirrored.boxes[0, 0], torch.tensor([0.5, 0.2, 0.9, 0.9]))
    assert torch.equal(mirrored.ignored, batch.ignored.flip(2))
    again = flip_joints(mirrored.joints, torch.ones(3, dtype=torch.bool))
    torch.testing.assert_close(again, joints)


def test_distances_are_fractions_of_the_height_and_of_visible_joints():
    settings = program_settings(settings_of())  # 128 x 64
    true = torch.zeros(1, 17, 3)
    true[0, :2, 2] = torch.tensor([2.0, 1.0])
    predicted = torch.zeros(1, 17, 2)
    predicted[0, 0] = torch.tensor([3 / 64, 4 / 128])
    scores = joint_scores(predicted, true, torch.zeros(17, 2), settings)
    assert scores == {"joint_distance": pytest.approx(5 / 128), "mean_joints_distance": 0.0}


def test_gradient_reaches_every_parameter_of_the_pose_net():
    torch.manual_seed(0)
    net = PoseNet(settings_of(), cpb=False).train()
    wanted = torch.rand(2, 57, 8, 4)
    pose_losses(net(torch.randn(2, 3, 64, 32)), wanted, torch.ones_like(wanted))["loss"].backward()
    assert not [name for name, p in net.named_parameters() if not p.grad.abs().sum() > 0]


def test_imagenet_weights_need_the_whole_vgg():
    with pytest.raises(UserError, match="pose_width_factor 1"):
        PoseNet(settings_of(pose_batch_norm=False), cpb=False, pretrained="imagenet")


@pytest.fixture
def coco(tmp_path):
    """A photograph of 100 x 80 with two people, one of them without joints."""
    person = np.zeros((17, 3))
    person[COCO_JOINTS.index("left_hip")] = 30, 50, 2
    marked = {"id": 1, "image_id": 1, "iscrowd": 0, "num_keypoints": 1, "keypoints": person.ravel().tolist()}
    marked["bbox"] = [20, 20, 20, 60]
    unmarked = {
        "id": 2,
        "image_id": 1,
        "iscrowd": 0,
        "num_keypoints": 0,
        "keypoints": [0] * 51,
        "bbox": [42, 0, 50, 30],
    }
    content = {"images": [{"id": 1, "file_name": "1.jpg", "height": 80, "width": 100}]}
    content["annotations"] = [marked, unmarked]
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").mkdir()
        Image.new("RGB", (100, 80), "red").save(tmp_path / f"{split}2017" / "1.jpg")
        (tmp_path / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(content))
    return read(tmp_path)


def test_a_person_in_a_photograph_is_cropped_with_joints_box_and_mask(coco):
    train, _ = open_pose_images(coco, settings_of(cache=False))  # 128 x 64
    assert isinstance(train, PeopleInPhotographs) and len(train) == 1
    batch = train.batch(np.array([0]))
    assert batch.images.shape == (1, 3, 128, 64) and batch.joints.shape == (1, 1, 18, 3)
    # The crop is 75 high and 37.5 wide around (30, 50), rounded to pixels: the hip is in its middle.
    hip = batch.joints[0, 0, COCO_JOINTS.index("left_hip")]
    torch.testing.assert_close(hip, torch.tensor([0.5, 0.5, 2.0]), atol=0.02, rtol=0)
    assert batch.boxes[0, 0].tolist() == pytest.approx([0.5 - 10 / 37.5, 0.1, 0.5 + 10 / 37.5, 0.9], abs=0.02)
    assert batch.ignored[0, 0, 7] and not batch.ignored[0, 8, :].any() and not batch.ignored[0, :, 4].any()
