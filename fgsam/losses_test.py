"""FGSAM's losses against eq. 5 and eq. 9 to 11 written out plainly."""

import pytest
import torch

from .attribute_tasks import UNLABELLED
from .losses import (
    Batch,
    attribute_losses,
    branch_loss,
    focal_triplet,
    losses,
    mean_of_positive,
    triplet,
    triplet_distances,
)
from .model import Output
from .model_test import settings_of


def test_focal_triplet_is_eq_9_and_10():
    # d_ap, d_an: hard (lambda 1.2), inside the margin with lambda at its floor, easy; alpha 0.5, beta 0.01, gamma 2.
    positive = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
    negative = torch.tensor([0.6, 0.7, 1.2], dtype=torch.float64)
    by_hand = torch.tensor([1.2**2 * 0.7 + 0.79, 1.0 * 0.3 + 0.49, 0.0 + 0.19], dtype=torch.float64)
    found = sum(focal_triplet(positive, negative, alpha=0.5, beta=0.01, gamma=2))
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(
        triplet(positive, negative, alpha=0.5), torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64)
    )
    assert mean_of_positive(triplet(positive, negative, alpha=0.5)).item() == pytest.approx((0.7 + 0.3) / 2)
    # The beta term is an absolute bound: nothing below it.
    near = focal_triplet(torch.tensor(0.005), torch.tensor(1.0), alpha=0.5, beta=0.01, gamma=2)
    assert [term.item() for term in near] == [0, 0]


@pytest.mark.parametrize(("detach", "slope"), [(False, 2 * 1.2 * 0.7 + 1.2**2 + 1), (True, 1.2**2 + 1)])
def test_the_weight_has_a_gradient_unless_detached(detach, slope):
    positive = torch.tensor(0.8, requires_grad=True)
    sum(focal_triplet(positive, torch.tensor(0.6), alpha=0.5, beta=0.01, gamma=2, detach_weight=detach)).backward()
    assert positive.grad.item() == pytest.approx(slope, rel=1e-5)


def plain_branch_loss(embeddings, labels, alpha, beta, gamma):
    """Eq. 10 in a loop over the triplets of a batch, the mean over those whose loss is not 0."""
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    found = []
    for a in range(len(labels)):
        for p in range(len(labels)):
            for n in range(len(labels)):
                if p != a and labels[p] == labels[a] != labels[n]:
                    d_ap, d_an = (unit[a] - unit[p]).norm().item(), (unit[a] - unit[n]).norm().item()
                    weight = max(d_ap - d_an + 1, 1)
                    found.append(weight**gamma * max(d_ap - d_an + alpha, 0) + max(d_ap - beta, 0))
    return sum(found) / sum(loss > 0 for loss in found)


def test_a_batchs_loss_is_a_plain_loop_over_its_triplets():
    torch.manual_seed(0)
    embeddings, labels = torch.randn(7, 5), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    expected = plain_branch_loss(embeddings, labels, 0.5, 0.01, 2)
    assert branch_loss(embeddings, labels, settings_of()).item() == pytest.approx(expected, rel=1e-5)
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    positive, negative, valid = triplet_distances(embeddings, labels, "hard")
    assert valid.all() and valid.shape == labels.shape
    assert len(positive) == 7
    assert negative[0].item() == pytest.approx(min((unit[0] - unit[n]).norm().item() for n in range(2, 7)), rel=1e-5)


def test_losses_are_the_sum_of_eq_11():
    torch.manual_seed(0)
    labels, settings = torch.tensor([0, 0, 1, 1, 2]), settings_of(demo=False)
    embeddings = {"plenary": torch.randn(5, 6), "head": torch.randn(5, 3), "upper_arm": torch.randn(5, 3)}
    identity_logits, hat, sleeves = torch.randn(5, 3), torch.randn(5, 2), torch.randn(5, 2)
    output = Output(embeddings, identity_logits, {"hat": hat, "sleeves": sleeves}, embeddings)
    attributes = torch.tensor([[0, 1], [0, 1], [1, UNLABELLED], [1, UNLABELLED], [0, 0]])
    identity = -sum(identity_logits.log_softmax(1)[i, label] for i, label in enumerate(labels)).item() / 5
    attribute = 0.0
    for logits, own in ((hat, attributes[:, 0]), (sleeves, attributes[:, 1])):
        known = [i for i in range(5) if own[i] != UNLABELLED]
        attribute -= sum(logits.log_softmax(1)[i, own[i]].item() for i in known) / len(known)
    triplets = sum(plain_branch_loss(embedding, labels, 0.5, 0.01, 2) for embedding in embeddings.values())

    third = losses(output, Batch(labels, attributes, phase=3), settings)
    assert list(third) == ["loss", "identity_loss", "attribute_loss", "triplet_loss"]
    expected = [identity + attribute + triplets, identity, attribute, triplets]
    assert [term.item() for term in third.values()] == pytest.approx(expected, rel=1e-5)

    second = losses(output, Batch(labels, attributes, phase=2), settings)
    assert list(second) == ["loss", "identity_loss", "attribute_loss"]
    assert second["loss"].item() == pytest.approx(identity + attribute, rel=1e-5)

    first = losses(output._replace(attribute_logits={}), Batch(labels, attributes[:, :0], phase=1), settings)
    assert list(first) == ["loss", "identity_loss"]
    assert first["loss"].item() == pytest.approx(identity, rel=1e-5)


def test_unlabelled_attributes_add_no_loss_and_no_gradient():
    logits = {"hat": torch.randn(3, 2, requires_grad=True), "age": torch.randn(3, 4, requires_grad=True)}
    labels = torch.tensor([[1, UNLABELLED], [UNLABELLED, UNLABELLED], [0, UNLABELLED]])
    found = attribute_losses(logits, labels)
    log = logits["hat"].log_softmax(1)
    assert found["hat"].item() == pytest.approx(-(log[0, 1] + log[2, 0]).item() / 2, rel=1e-5)
    assert found["age"].item() == 0
    sum(found.values()).backward()
    assert logits["hat"].grad[1].abs().sum() == 0 and logits["age"].grad.abs().sum() == 0
