"""How much of a heat map lies on the person, against areas by hand."""

import torch

from common.evaluation.figures import MARGIN, energy_on_person, in_box, person_boxes, with_joints


def test_the_box_is_that_of_the_visible_joints_with_a_margin_cut_to_the_image():
    joints = torch.zeros(1, 17, 3)
    joints[0, 0] = torch.tensor([0.4, 0.2, 2])
    joints[0, 1] = torch.tensor([0.5, 0.8, 2])
    joints[0, 2] = torch.tensor([0.9, 0.95, 1])  # hidden
    joints[0, 3] = torch.tensor([0.02, 0.3, 2])
    margin = MARGIN * 0.6
    torch.testing.assert_close(person_boxes(joints), torch.tensor([[0.0, 0.2 - margin, 0.5 + margin, 0.8 + margin]]))


def test_cells_count_by_the_part_of_them_that_lies_in_the_box():
    found = in_box(torch.tensor([[0.25, 0.5, 1.0, 0.75]]), 2, 2)
    # columns: the left cell from 0.25 to 0.5 is half covered; rows: the lower cell from 0.5 to 0.75 is half covered
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.0], [0.25, 0.5]]]))
    assert found.mean() == (1 - 0.25) * (0.75 - 0.5)


def test_energy_on_the_person_and_whether_it_follows_the_box():
    upper, lower = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])
    boxes = torch.stack([upper, lower])
    assert energy_on_person(3 * boxes + 1, boxes) == {"energy": 0.8, "area": 0.5, "follows": 1.0}
    assert energy_on_person(4 - 3 * boxes, boxes) == {"energy": 0.2, "area": 0.5, "follows": -1.0}
    fixed = torch.stack([3 * upper + 1] * 2)  # looks at the upper half of every image
    assert energy_on_person(fixed, boxes) == {"energy": 0.5, "area": 0.5, "follows": 0.0}


def test_dots_are_where_joints_can_be_seen():
    joints = torch.zeros(1, 17, 3)
    joints[0, 3] = torch.tensor([0.5, 0.25, 2.0])
    joints[0, 4] = torch.tensor([0.1, 0.9, 1.0])
    joints[0, 5] = torch.tensor([1.0, 1.0, 2.0])  # at the corner
    pixels = torch.zeros(1, 3, 64, 32, dtype=torch.uint8)
    rows, columns = torch.nonzero(with_joints(pixels, joints)[0, 1], as_tuple=True)
    expected = {(r, c) for r in (15, 16, 17) for c in (15, 16, 17)} | {
        (r, c) for r in (61, 62, 63) for c in (29, 30, 31)
    }
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == expected and pixels.sum() == 0
