"""DFW's losses against eq. 4-7 written out plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from common.runs.settings import load_settings

from .losses import Batch, centres, hetero_centre_triplet, losses, overlap_penalty, triplet
from .model import Output
from .settings import Settings

SIX_IMAGES = torch.tensor([0, 0, 1, 1, 2, 2])


def settings_of(variant="full", **overrides):
    """The paper's, at 288x144."""
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="sysu_mm01", demo=False, variant=variant, overrides=overrides)


def some_batch(seed=0):
    """Two sub-networks' output for three identities with two images of each modality, visible ones first."""
    generator = torch.Generator().manual_seed(seed)
    output = Output(
        torch.randn(2, 12, 5, generator=generator),
        torch.randn(2, 12, 7, generator=generator),
        torch.rand(2, 12, 18, 9, generator=generator),
    )
    return output, Batch(SIX_IMAGES.repeat(2), torch.arange(12) < 6, torch.Generator())


# ------------------------------------------------------------------ eq. 4-5


def peak(*cells, rows=18, columns=9, height=9.0):
    maps = torch.zeros(len(cells), rows, columns)
    for image, (row, column) in enumerate(cells):
        maps[image, row, column] = height
    return maps


@pytest.mark.parametrize("centre", ["hard", "soft"])
def test_overlap_is_eq_5_over_S_in_pixels_of_the_input(centre):
    # A cell is 16 x 16 pixels. Distances: 3 and 4 cells, 80 pixels; none; 12 cells, 192 pixels, beyond S.
    first, second = peak((2, 1), (5, 5), (1, 4)), peak((5, 5), (5, 5), (13, 4))
    settings = settings_of(overlap_centre=centre, separation=100)
    loss = overlap_penalty(first, second, settings)
    assert 100 * loss.item() == pytest.approx((20 + 100 + 0) / 3, abs=0.1)
    torch.testing.assert_close(centres(first, settings)[0], torch.tensor([40.0, 24.0]))


def test_S_counts_pixels_of_an_image_288_high_whatever_the_inputs_size():
    settings = settings_of(overlap_centre="hard", height=144, width=108)
    torch.testing.assert_close(centres(peak((0, 8)), settings)[0], torch.tensor([8.0, 8.5 * 216 / 9]))


def test_hard_maxima_give_no_gradient():
    first, second = peak((2, 1)).requires_grad_(), peak((4, 5)).requires_grad_()
    loss = overlap_penalty(first, second, settings_of(overlap_centre="hard"))
    assert loss > 0 and not loss.requires_grad


def test_soft_maxima_are_pushed_apart():
    """Two bumps a fraction of a cell from one another, moved by the loss alone."""
    rows, columns = torch.meshgrid(torch.arange(18.0), torch.arange(9.0), indexing="ij")

    def bump(row, column):
        return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4)[None]

    first, second = bump(8.0, 4.0).requires_grad_(), bump(8.3, 4.0).requires_grad_()
    optimiser = torch.optim.SGD([first, second], lr=1.0)
    settings = settings_of()

    def distance():
        return (centres(first, settings) - centres(second, settings)).norm().item()

    before = distance()
    assert 0 < before < 8
    for _ in range(300):
        optimiser.zero_grad()
        overlap_penalty(first, second, settings).backward()
        optimiser.step()
    assert distance() > 10 * before


def test_soft_maxima_that_coincide_have_a_finite_gradient():
    first = torch.rand(3, 18, 9)
    second = first.clone().requires_grad_()
    first.requires_grad_()
    overlap_penalty(first, second, settings_of()).backward()
    assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()
    flat = torch.ones(1, 18, 9, requires_grad=True)
    overlap_penalty(flat, flat, settings_of()).backward()
    assert torch.isfinite(flat.grad).all()


# ------------------------------------------------------------------ eq. 6 and the triplet of L_ReID


def slow_hetero_centre_triplet(features, labels, visible, rho):
    """Eq. 6, loop for loop."""
    identities = sorted(set(labels.tolist()))
    centre = {
        (modality, i): np.mean(
            [f for f, y, v in zip(features, labels, visible, strict=True) if y == i and v == modality], axis=0
        )
        for modality in (True, False)
        for i in identities
    }
    total = 0.0
    for own in (True, False):
        for i in identities:
            positive = np.linalg.norm(centre[own, i] - centre[not own, i])
            negatives = [
                np.linalg.norm(centre[own, i] - centre[n, j]) for n in (True, False) for j in identities if j != i
            ]
            total += max(0.0, rho + positive - min(negatives))
    return total


@pytest.mark.parametrize("rho", [0.0, 0.3, 5.0])
def test_hetero_centre_triplet_is_eq_6(rho):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([7, 7, 3, 3, 9, 9]).repeat(2)[torch.randperm(12, generator=generator)]
    visible = torch.zeros(12, dtype=torch.bool)
    for label in (3, 7, 9):
        visible[(labels == label).nonzero()[:2]] = True
    features = torch.randn(12, 4, generator=generator, requires_grad=True)
    loss = hetero_centre_triplet(features, labels, visible, 3, margin=rho)
    slow = slow_hetero_centre_triplet(features.detach().double().numpy(), labels, visible.numpy(), rho)
    assert loss.item() == pytest.approx(slow, rel=1e-5, abs=1e-5)
    hetero_centre_triplet(features * 0, labels, visible, 3, margin=rho).backward()  # all centres coincide
    assert torch.isfinite(features.grad).all()


def slow_batch_hard_triplet(features, labels, margin):
    distances = np.sqrt(((features[:, None] - features) ** 2).sum(2))
    total = 0.0
    for anchor in range(len(labels)):
        same = labels == labels[anchor]
        total += max(0.0, distances[anchor][same].max() - distances[anchor][~same].min() + margin)
    return total / len(labels)


def test_random_triplets_lie_between_the_easiest_and_the_hardest():
    features, labels = torch.randn(12, 4), torch.arange(3).repeat(4)
    generator, margin = torch.Generator().manual_seed(0), 100.0  # so large that no bracket is cut off
    hard = triplet(features, labels, settings_of(triplet_margin=margin), generator)
    settings = settings_of(triplet_margin=margin, triplet_mining="random")
    draws = [triplet(features, labels, settings, generator) for _ in range(200)]
    assert all(draw <= hard for draw in draws) and len({draw.item() for draw in draws}) > 100
    distances, same = torch.cdist(features, features), labels[:, None] == labels
    positives = (distances * same).sum() / (same.sum() - 12)
    expected = positives - distances[~same].mean() + 100
    assert torch.stack(draws).mean().item() == pytest.approx(expected.item(), abs=0.1)


# ------------------------------------------------------------------ eq. 7


@pytest.mark.parametrize("unit_features", [False, True])
def test_losses_are_eq_7(unit_features):
    numbers = {"overlap_weight": 0.5, "centre_weight": 0.7, "separation": 50, "identities_per_batch": 3}
    settings = settings_of(**numbers, unit_features=unit_features)
    output, batch = some_batch()
    found = losses(output, batch, settings)
    assert list(found) == ["loss", "identity_loss", "triplet_loss", "centre_loss", "overlap_loss"]

    labels, visible = batch.labels.numpy(), batch.visible.numpy()
    features = output.features.double().numpy()
    side_by_side = np.concatenate(list(features), axis=1)
    if unit_features:
        features, side_by_side = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (features, side_by_side))
    log_probabilities = output.logits.double().log_softmax(2).numpy()
    identity = -sum(log_probabilities[r, np.arange(12), labels].mean() for r in (0, 1))
    hard = sum(slow_batch_hard_triplet(features[r], labels, 0.3) for r in (0, 1))
    centre = slow_hetero_centre_triplet(side_by_side, labels, visible, 0.3)
    distances = (centres(output.maps[0], settings) - centres(output.maps[1], settings)).norm(dim=1).numpy()
    overlap = np.maximum(0, 1 - distances / 50).mean()
    assert found["identity_loss"].item() == pytest.approx(identity, rel=1e-5)
    assert found["triplet_loss"].item() == pytest.approx(hard, rel=1e-5)
    assert found["centre_loss"].item() == pytest.approx(centre, rel=1e-5)
    assert found["overlap_loss"].item() == pytest.approx(overlap, rel=1e-5)
    assert found["loss"].item() == pytest.approx(identity + hard + 0.7 * centre + 0.5 * overlap, rel=1e-5)


def test_without_sln_the_loss_is_l_reid():
    output, batch = some_batch()
    found = losses(Output(*(part[:1] for part in output)), batch, settings_of("baseline"))
    assert list(found) == ["loss", "identity_loss", "triplet_loss"]
    identity = functional.cross_entropy(output.logits[0], batch.labels).item()
    hard = slow_batch_hard_triplet(output.features[0].numpy(), batch.labels.numpy(), 0.3)
    assert found["loss"].item() == pytest.approx(identity + hard, rel=1e-5)


def test_the_centres_of_eq_6_are_each_of_one_modality():
    output, batch = some_batch()
    mixed_up = batch._replace(visible=torch.arange(12) % 2 == 0)
    settings = settings_of(identities_per_batch=3)
    assert losses(output, batch, settings)["centre_loss"] != losses(output, mixed_up, settings)["centre_loss"]
