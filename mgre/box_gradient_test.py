"""The gradient that comes back from the sampling module, in each of its readings."""

import pytest
import torch

from .box_gradient import for_sampling
from .losses_test import settings_of

RE_ID = torch.tensor([[[3.0, 0, 0, 0], [0, 0.1, 0, 0]], [[0, 4, 0, 0], [0, 0, 0, 0]]])  # norms over images: 5 and 0.1
LOCATION = torch.tensor([[[0, 0, 0.6, 0], [2.0, 0, 0, 0]], [[0, 0, 0, 0.8], [0, 0, 0, 0]]])  # 1 and 2


def gradient(rule, factor=0.5):
    settings = settings_of(box_gradient=rule, box_gradient_factor=factor)
    parameters = torch.rand(2, 2, 4, requires_grad=True)
    boxes = 2 * parameters
    sampled = for_sampling(boxes, settings)
    assert torch.equal(sampled, boxes)
    ((RE_ID * sampled).sum() + (LOCATION * boxes).sum()).backward()
    return parameters.grad / 2


@pytest.mark.parametrize(
    ("rule", "factors"),
    [
        ("full", (1, 1)),
        ("scaled", (0.5, 0.5)),
        ("clipped", (0.5 * 1 / 5, 1)),  # at most half of 1, and of 2, which the second region does not reach
        ("detached", (0, 0)),
    ],
)
def test_the_re_id_gradient_in_the_boxes(rule, factors):
    expected = LOCATION + RE_ID * torch.tensor(factors)[None, :, None]
    torch.testing.assert_close(gradient(rule), expected)


def test_clipping_leaves_the_location_gradient_alone():
    """Where it is asked for by itself, as the log does, and where no re-ID gradient comes."""
    boxes = torch.rand(2, 2, 4, requires_grad=True) * 1
    for_sampling(boxes, settings_of(box_gradient="clipped"))
    (found,) = torch.autograd.grad((LOCATION * boxes).sum(), boxes)
    torch.testing.assert_close(found, LOCATION)


def test_boxes_that_nothing_learns_from_are_passed_on():
    boxes = torch.rand(2, 2, 4)
    for rule in ("full", "scaled", "clipped", "detached"):
        assert for_sampling(boxes, settings_of(box_gradient=rule)) is boxes
