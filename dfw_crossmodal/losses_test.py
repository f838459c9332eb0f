"""DFW's losses, with their gradients, against eq. 6 and 7 written out plainly; overlap_test.py has eq. 4-5."""

import pytest
import torch

from .losses import Batch, hetero_centre_triplet, losses, triplet
from .model import Output
from .overlap_test import less_the_mean, plain_penalty, settings_of

SIX_IMAGES = torch.tensor([0, 0, 1, 1, 2, 2])


def some_batch(seed=0):
    """Two sub-networks' output for three identities with two images of each modality, visible ones first."""
    generator = torch.Generator().manual_seed(seed)
    output = Output(
        torch.randn(2, 12, 5, generator=generator),
        torch.randn(2, 12, 7, generator=generator),
        torch.rand(2, 12, 18, 9, generator=generator),
    )
    return output, Batch(SIX_IMAGES.repeat(2), torch.arange(12) < 6, torch.Generator())


# ------------------------------------------------------------------ eq. 6 and the triplet of L_ReID


def brackets_of_eq_6(features, labels, visible, rho):
    """Loop for loop, without a hinge; (B, D) -> (2P,)."""
    identities = sorted(set(labels.tolist()))
    centre = {
        (modality, i): features[(labels == i) & (visible == modality)].mean(0)
        for modality in (True, False)
        for i in identities
    }
    brackets = []
    for own in (True, False):
        for i in identities:
            positive = ((centre[own, i] - centre[not own, i]) ** 2).sum() ** 0.5
            negatives = [
                ((centre[own, i] - centre[n, j]) ** 2).sum() ** 0.5 for n in (True, False) for j in identities if j != i
            ]
            brackets.append(rho + positive - min(negatives))
    return torch.stack(brackets)


@pytest.mark.parametrize("rho", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("hinge", [True, False])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_hetero_centre_triplet_is_eq_6(rho, hinge, reduction):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([7, 7, 3, 3, 9, 9]).repeat(2)[torch.randperm(12, generator=generator)]
    visible = torch.zeros(12, dtype=torch.bool)
    for label in (3, 7, 9):
        visible[(labels == label).nonzero()[:2]] = True
    features = (torch.randn(12, 4, generator=generator) + 0.3 * labels[:, None]).requires_grad_()
    settings = settings_of(identities_per_batch=3, centre_margin=rho, centre_hinge=hinge, centre_reduction=reduction)
    brackets = brackets_of_eq_6(features, labels, visible, rho)
    assert rho == 5.0 or brackets.min() < 0 < brackets.max()
    brackets = brackets.clamp(min=0) if hinge else brackets
    expected = brackets.sum() / (6 if reduction == "mean" else 1)
    loss = hetero_centre_triplet(features, labels, visible, settings)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    slopes = [torch.autograd.grad(each, features)[0] for each in (loss, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)
    hetero_centre_triplet(features * 0, labels, visible, settings).backward()  # all centres coincide
    assert torch.isfinite(features.grad).all()


def batch_hard_triplets(features, labels, margin):
    """Each anchor's term; at distance 0 the gradient is 0."""
    terms = []
    for anchor, own in zip(features, labels, strict=True):
        distances = [((anchor - other) ** 2).sum() for other in features]
        distances = [d**0.5 if d > 0 else d for d in distances]
        same = [d for d, label in zip(distances, labels, strict=True) if label == own]
        different = [d for d, label in zip(distances, labels, strict=True) if label != own]
        terms.append((max(same) - min(different) + margin).clamp(min=0))
    return torch.stack(terms)


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


def plain_losses(output, batch, *, weight, S=100.0, centre_weight=1.0, unit=False, smoothing=0.0, **centre_of):
    """Eq. 7 and its terms, the centres of eq. 5 as those of each map less its mean over the batch, with S over which
    L_op is taken and lambda as `weight`.

    Without SLN (one sub-network) L_ReID alone. centre_of: as in `plain_centre`.
    """
    labels, visible = batch.labels, batch.visible
    features, side_by_side = list(output.features), torch.cat(list(output.features), dim=1)
    if unit:
        features = [f / (f**2).sum(1, keepdim=True) ** 0.5 for f in features]
        side_by_side = side_by_side / (side_by_side**2).sum(1, keepdim=True) ** 0.5
    probabilities = [torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True) for logits in output.logits]
    identity = 0.0
    for p in probabilities:
        q = torch.full_like(p, smoothing / p.shape[1])
        q[torch.arange(len(labels)), labels] += 1 - smoothing
        identity = identity - (q * torch.log(p)).sum() / len(labels)
    hard = sum(batch_hard_triplets(f, labels.tolist(), 0.3).mean() for f in features)
    if len(features) == 1:
        return {"loss": identity + hard, "identity_loss": identity, "triplet_loss": hard}
    centre = brackets_of_eq_6(side_by_side, labels, visible, 0.3).clamp(min=0).sum()
    overlap = plain_penalty(*(less_the_mean(maps, visible) for maps in output.maps), S=S, **centre_of)
    return {
        "loss": identity + hard + centre_weight * centre + weight * overlap,
        "identity_loss": identity,
        "triplet_loss": hard,
        "centre_loss": centre,
        "overlap_loss": overlap,
    }


def assert_same_losses(found, expected, output):
    assert list(found) == list(expected)
    values = [[term.item() for term in terms.values()] for terms in (found, expected)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    read = output if "overlap_loss" in found else output[:2]
    slopes = [torch.autograd.grad(terms["loss"], read, retain_graph=True) for terms in (found, expected)]
    for own, plain in zip(*slopes, strict=True):
        assert (own - plain).norm() < 1e-3 * plain.norm()


PAPER = [  # what Sec. 4.3 and 4.4 print, and what the demo changes of it
    ({}, {"weight": 0.5}),
    ({"dataset": "regdb"}, {"weight": 1.0}),
    ({"demo": True}, {"weight": 0.5}),
    ({"unit_features": True}, {"weight": 0.5, "unit": True}),
    ({"label_smoothing": 0.1}, {"weight": 0.5, "smoothing": 0.1}),
    ({"overlap_weight": 0.9, "centre_weight": 0.2}, {"weight": 0.9, "centre_weight": 0.2}),
    ({"separation": 200}, {"weight": 0.5, "S": 200.0}),
]


def test_settings_are_those_that_the_paper_prints():
    """Sec. 4.3 and 4.4: P, K, lambda, S and DFW's form and factor on each data set, SGD at 0.1 for 60 epochs."""
    names = "identities_per_batch images_per_identity overlap_weight separation dfw_form dfw_alpha"
    names += " dfw_gate centre_weight"
    for dataset, values in {
        "sysu_mm01": [6, 6, 0.5, 100, "D1", 0.5, "multiply", 1],
        "regdb": [8, 4, 1.0, 100, "D1", 0.2, "multiply", 1],
    }.items():
        settings = settings_of(dataset=dataset)
        assert [getattr(settings, name) for name in names.split()] == values
        assert (settings.optimiser, settings.learning_rate, settings.num_epochs) == ("sgd", 0.1, 60)
        assert (settings.momentum, settings.weight_decay, settings.warmup_epochs) == (0.9, 5e-4, 10)  # the field's


@pytest.mark.parametrize(("set_to", "printed"), PAPER)
def test_losses_and_their_gradients_are_eq_7(set_to, printed):
    settings = settings_of(identities_per_batch=3, height=288, width=144, **set_to)
    if "demo" in set_to:  # its own choice, see README
        printed = printed | {"centre_weight": settings.centre_weight}
    output, batch = some_batch()
    output = Output(*(part.requires_grad_() for part in output))
    found = losses(output, batch, settings)
    assert_same_losses(found, plain_losses(output, batch, **printed), output)
    assert all(term > 0.01 for term in found.values())


@pytest.mark.parametrize("variant", ["baseline", "dfw", "re", "dfw_re"])
def test_without_sln_the_loss_is_l_reid(variant):
    output, batch = some_batch()
    output = Output(*(part[:1].clone().requires_grad_() for part in output))
    found = losses(output, batch, settings_of(variant, identities_per_batch=3))
    assert_same_losses(found, plain_losses(output, batch, weight=0), output)


def test_eq_6_can_be_had_without_sln_and_sln_without_eq_6():
    output, batch = some_batch()
    one = Output(*(part[:1] for part in output))
    found = losses(one, batch, settings_of("baseline", identities_per_batch=3, centre_triplet=True))
    assert list(found) == ["loss", "identity_loss", "triplet_loss", "centre_loss"]
    centre = brackets_of_eq_6(one.features[0], batch.labels, batch.visible, 0.3).clamp(min=0).sum().item()
    assert found["centre_loss"].item() == pytest.approx(centre, rel=1e-5) and centre > 0
    without = losses(output, batch, settings_of("sln", identities_per_batch=3, centre_triplet=False))
    assert list(without) == ["loss", "identity_loss", "triplet_loss", "overlap_loss"]
    whole = losses(output, batch, settings_of("sln", identities_per_batch=3))
    assert without["loss"].item() == pytest.approx((whole["loss"] - whole["centre_loss"]).item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_full_precision(dtype):
    """Outputs under autocast are in half precision; their losses are those of the same numbers in float32."""
    output, batch = some_batch()
    half = Output(*(part.to(dtype) for part in output))
    full = Output(*(part.float() for part in half))
    found, expected = (losses(each, batch, settings_of(identities_per_batch=3)) for each in (half, full))
    assert {name: term.dtype for name, term in found.items()} == dict.fromkeys(found, torch.float32)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_centres_of_eq_6_are_each_of_one_modality():
    output, batch = some_batch()
    mixed_up = batch._replace(visible=torch.arange(12) % 2 == 0)
    settings = settings_of(identities_per_batch=3)
    assert losses(output, batch, settings)["centre_loss"] != losses(output, mixed_up, settings)["centre_loss"]
