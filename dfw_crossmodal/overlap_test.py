"""The overlap penalty against eq. 5 worked out by hand, in each of its readings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.runs.settings import load_settings

from .overlap import centres, deviation, overlap_penalty, read_map
from .settings import Settings

VISIBLE = torch.tensor([True, True, False, False])


def settings_of(variant="full", *, dataset="sysu_mm01", demo=False, **overrides):
    """The paper's, at 288x144."""
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset=dataset, demo=demo, variant=variant, overrides=overrides)


def as_it_is(**overrides):
    """The reading with eq. 4's map itself."""
    return settings_of(overlap_map="pooled", **overrides)


def peak(*cells, rows=18, columns=9, height=9.0):
    maps = torch.zeros(len(cells), rows, columns)
    for image, (row, column) in enumerate(cells):
        maps[image, row, column] = height
    return maps


def bump(row, column, rows=18, columns=9):
    y, x = torch.meshgrid(torch.arange(float(rows)), torch.arange(float(columns)), indexing="ij")
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 4)[None]


def plain_centre(values, *, temperature=0.25, height=288.0, width=144.0):
    """The mean position under a softmax of the standardised map (h, w)."""
    rows, columns = values.shape
    standardised = (values - values.mean()) / ((values - values.mean()) ** 2).mean() ** 0.5
    weights = torch.exp(standardised / temperature)
    y = sum(weights[i].sum() * (i + 0.5) * height / rows for i in range(rows)) / weights.sum()
    x = sum(weights[:, j].sum() * (j + 0.5) * width / columns for j in range(columns)) / weights.sum()
    return torch.stack([y, x])


def less_the_mean(maps, visible):
    """Each map (h, w) of a list minus the mean map of the images of its modality."""
    means = {kind: sum(m for m, v in zip(maps, visible, strict=True) if v == kind) for kind in (True, False)}
    counts = {kind: sum(bool(v) == kind for v in visible) for kind in (True, False)}
    return [m - means[bool(v)] / counts[bool(v)] for m, v in zip(maps, visible, strict=True)]


def plain_penalty(first, second, S=100.0, **centre):
    """Eq. 5 over S, image by image."""
    distances = [
        ((plain_centre(a, **centre) - plain_centre(b, **centre)) ** 2).sum() ** 0.5
        for a, b in zip(first, second, strict=True)
    ]
    return sum((S - d).clamp(min=0) for d in distances) / len(distances) / S


@pytest.mark.parametrize("centre", ["hard", "straight", "soft"])
@pytest.mark.parametrize("divided", [True, False])
def test_overlap_is_eq_5_in_pixels_of_the_input(centre, divided):
    # A cell is 16 x 16 pixels. Distances: 3 and 4 cells, 80 pixels; none; 12 cells, 192 pixels, beyond S.
    first, second = peak((2, 1), (5, 5), (1, 4)), peak((5, 5), (5, 5), (13, 4))
    settings = as_it_is(overlap_centre=centre, separation=100, overlap_divided=divided)
    loss = overlap_penalty(first, second, torch.arange(3) < 1, settings).item()
    assert loss * (100 if divided else 1) == pytest.approx((20 + 100 + 0) / 3, abs=0.1)
    torch.testing.assert_close(centres(first, settings)[0], torch.tensor([40.0, 24.0]))


def test_S_counts_pixels_of_an_image_288_high_whatever_the_inputs_size():
    settings = settings_of(overlap_centre="hard", height=144, width=108)
    torch.testing.assert_close(centres(peak((0, 8)), settings)[0], torch.tensor([8.0, 8.5 * 216 / 9]))


def test_S_can_count_cells():
    settings = as_it_is(overlap_centre="hard", height=144, width=108, separation_unit="cells", separation=8)
    torch.testing.assert_close(centres(peak((0, 8)), settings)[0], torch.tensor([0.5, 8.5]))
    loss = overlap_penalty(peak((2, 1)), peak((5, 5)), VISIBLE[:1], settings)  # 5 cells apart
    assert loss.item() == pytest.approx(3 / 8, abs=1e-5)


@pytest.mark.parametrize(("S", "temperature"), [(100, 0.25), (60, 0.5)])
def test_the_penalty_and_its_gradient_are_those_of_soft_centres(S, temperature):
    draws = torch.Generator().manual_seed(0)
    maps = [
        torch.cat([bump(*(torch.rand(2, generator=draws) * torch.tensor([17, 8])).tolist()) for _ in range(4)])
        .add(0.1 * torch.rand(4, 18, 9, generator=draws))
        .requires_grad_()
        for _ in range(2)
    ]
    settings = as_it_is(separation=S, overlap_temperature=temperature)
    found = overlap_penalty(*maps, VISIBLE, settings)
    expected = plain_penalty(*maps, S=float(S), temperature=temperature)
    assert 0.1 < expected < 0.9 and found.item() == pytest.approx(expected.item(), rel=1e-4)
    slopes = [torch.autograd.grad(loss, maps) for loss in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-6)


def test_hard_maxima_give_no_gradient_and_straight_ones_that_of_soft_ones():
    first, second = peak((2, 1)).requires_grad_(), peak((4, 5)).requires_grad_()
    loss = overlap_penalty(first, second, VISIBLE[:1], as_it_is(overlap_centre="hard"))
    assert loss.item() == pytest.approx(1 - 80**0.5 * 8 / 100, abs=1e-4)  # 2 and 4 cells of 16 pixels
    assert not loss.requires_grad

    noise = 0.3 * torch.rand(2, 18, 9, generator=torch.Generator().manual_seed(0))
    maps = (bump(4.3, 2.2) + noise[:1]).requires_grad_()
    position = {way: centres(maps, settings_of(overlap_centre=way)) for way in ("hard", "straight", "soft")}
    assert torch.equal(position["straight"], position["hard"]) and not torch.equal(position["soft"], position["hard"])
    slopes = [torch.autograd.grad(position[way].sum(), maps) for way in ("straight", "soft")]
    torch.testing.assert_close(*slopes)


def moved_apart(first, second, visible, settings, steps=60):
    """The centres' distances before and after the loss alone has moved the maps."""
    maps = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    optimiser = torch.optim.SGD(maps, lr=5.0)

    def distance():
        own = [centres(read_map(each, visible, settings), settings) for each in maps]
        return (own[0] - own[1]).norm(dim=1).detach()

    before = distance()
    for _ in range(steps):
        optimiser.zero_grad()
        overlap_penalty(*maps, visible, settings).backward()
        optimiser.step()
    return before, distance()


def test_soft_maxima_are_pushed_apart():
    before, after = moved_apart(bump(8.0, 4.0), bump(8.3, 4.0), VISIBLE[:1], as_it_is())
    assert 0 < before < 8 and after > 10 * before


def test_soft_maxima_that_coincide_have_a_finite_gradient():
    first = torch.rand(4, 18, 9)
    second = first.clone().requires_grad_()
    first.requires_grad_()
    for reading in ("pooled", "deviation"):
        overlap_penalty(first, second, VISIBLE, settings_of(overlap_map=reading)).backward()
        assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()
        flat = torch.ones(4, 18, 9, requires_grad=True)
        overlap_penalty(flat, flat, VISIBLE, settings_of(overlap_map=reading)).backward()
        assert torch.isfinite(flat.grad).all()


# ------------------------------------------------------------------ maps minus their modality's mean


def test_the_deviation_is_from_the_mean_map_of_the_images_modality():
    maps = torch.rand(5, 3, 2, dtype=torch.float64)
    visible = torch.tensor([True, False, True, True, False])
    found, expected = deviation(maps, visible).numpy(), maps.numpy().copy()
    expected[[0, 2, 3]] -= maps.numpy()[[0, 2, 3]].mean(0)
    expected[[1, 4]] -= maps.numpy()[[1, 4]].mean(0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def corner(maps, modalities_swapped=False):
    """The maps with a corner that is always high, the other one in the other modality if asked."""
    raised = maps.clone()
    raised[VISIBLE, 0, 0] += 50
    raised[~VISIBLE, -1 if modalities_swapped else 0, -1 if modalities_swapped else 0] += 50
    return raised


@pytest.mark.parametrize("swapped", [False, True])
def test_constant_corners_satisfy_the_pooled_reading_and_mean_nothing_to_the_deviation(swapped):
    maps = torch.cat([bump(5, 4), bump(9, 2), bump(12, 6), bump(7, 3)])  # both sub-networks look at the same places
    first, second = corner(maps, swapped), corner(maps.flip(1, 2), swapped).flip(1, 2)
    pooled, from_mean = as_it_is(), settings_of()
    assert from_mean.overlap_map == "deviation"
    assert overlap_penalty(first, second, VISIBLE, pooled) < 1e-6
    assert overlap_penalty(first, second, VISIBLE, from_mean).item() == pytest.approx(1, abs=1e-3)
    moved = [centres(read_map(each, VISIBLE, from_mean), from_mean) for each in (first, maps)]
    torch.testing.assert_close(*moved, rtol=0, atol=1e-2)  # the corner moves no centre


def test_the_deviation_reading_pushes_apart_what_differs_between_images():
    maps = torch.cat([bump(5, 4), bump(9, 2), bump(12, 6), bump(7, 3)])
    settings = settings_of(overlap_map="deviation")
    first, second = corner(maps), corner(maps.flip(1, 2)).flip(1, 2)
    nudge = 0.01 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    before, after = moved_apart(first, second + nudge, VISIBLE, settings)
    assert before.max() < 3 and after.min() > 20
