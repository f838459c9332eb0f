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


def plain_triplets(embeddings, labels, alpha=0.5, beta=0.01, gamma=2, *, squared=False, mining="all"):
    """Of each triplet of a batch the two terms of eq. 10, with gradients."""
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)

    def d(i, j):
        square = ((unit[i] - unit[j]) ** 2).sum()
        return square if squared else square.sqrt()

    found = []
    for a in range(len(labels)):
        positives = [i for i in range(len(labels)) if labels[i] == labels[a] and i != a]
        negatives = [i for i in range(len(labels)) if labels[i] != labels[a]]
        if mining == "hard":
            positives, negatives = [max(positives, key=lambda p: d(a, p))], [min(negatives, key=lambda n: d(a, n))]
        for p in positives:
            for n in negatives:
                zero = embeddings.new_zeros(())
                weight = torch.maximum(d(a, p) - d(a, n) + 1, zero + 1)
                separated = weight**gamma * torch.maximum(d(a, p) - d(a, n) + alpha, zero)
                found.append((separated, torch.maximum(d(a, p) - beta, zero)))
    return found


def mean_of_those_above_0(values):
    return sum(values) / max(1, sum(value.item() > 0 for value in values))


def plain_branch_loss(embeddings, labels, *constants, **options):
    """Eq. 10 with squared distances, the mean of each term over the triplets where it is not 0."""
    terms = zip(*plain_triplets(embeddings, labels, *constants, squared=True, **options), strict=True)
    return sum(mean_of_those_above_0(term) for term in terms)


def test_a_batchs_loss_is_a_plain_loop_over_its_triplets():
    torch.manual_seed(0)
    embeddings, labels = torch.randn(7, 5), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    expected = plain_branch_loss(embeddings, labels, 0.5, 0.01, 2).item()
    settings = settings_of()
    assert (settings.distance, settings.reduction) == ("squared", "apart")
    assert branch_loss(embeddings, labels, settings).item() == pytest.approx(expected, rel=1e-5)
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    positive, negative, valid = triplet_distances(embeddings, labels, "hard")
    assert valid.all() and valid.shape == labels.shape
    assert len(positive) == 7
    assert negative[0].item() == pytest.approx(min((unit[0] - unit[n]).norm().item() for n in range(2, 7)), rel=1e-5)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize(
    ("overrides", "plain"),
    [
        ({"reduction": "positive"}, lambda t: mean_of_those_above_0([first + second for first, second in t])),
        ({"reduction": "all"}, lambda t: sum(first + second for first, second in t) / len(t)),
        (
            {"reduction": "apart"},
            lambda t: mean_of_those_above_0([f for f, _ in t]) + mean_of_those_above_0([s for _, s in t]),
        ),
        ({"absolute": False}, lambda t: mean_of_those_above_0([first for first, _ in t])),
        ({"absolute": False, "reduction": "all"}, lambda t: sum(first for first, _ in t) / len(t)),
    ],
)
def test_each_reading_of_eq_10_with_its_gradient(overrides, plain, squared):
    """Most triplets satisfy the margin, so that the means are over different triplets; beta is beyond some pairs."""
    torch.manual_seed(2)
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    start = 3 * torch.eye(3)[labels] + 1.1 * torch.randn(7, 3)
    distance = "squared" if squared else "euclidean"
    settings = settings_of(distance=distance, beta=0.2, **overrides)
    found, expected = start.clone().requires_grad_(), start.double().requires_grad_()
    triplets = plain_triplets(expected, labels, 0.5, 0.2, 2, squared=squared)
    num_positive = [sum(term.item() > 0 for term in terms) for terms in zip(*triplets, strict=True)]
    assert 0 < num_positive[0] < num_positive[1] < len(triplets)
    branch_loss(found, labels, settings).backward()
    loss = plain(triplets)
    loss.backward()
    assert branch_loss(start, labels, settings).item() == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("overrides", [{}, {"focal": False}, {"gamma": 0}, {"alpha": 0.3, "beta": 0.3, "gamma": 3}])
@pytest.mark.parametrize("mining", ["all", "hard"])
def test_a_branchs_loss_follows_its_settings_with_its_gradient(overrides, mining):
    torch.manual_seed(0)
    start, labels = torch.randn(7, 5), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    constants = {"alpha": 0.5, "beta": 0.01, "gamma": 2} | {k: v for k, v in overrides.items() if k != "focal"}
    if "focal" in overrides:
        constants |= {"beta": torch.inf, "gamma": 0}
    found, expected = start.clone().requires_grad_(), start.double().requires_grad_()
    loss = branch_loss(found, labels, settings_of(mining=mining, **overrides))
    plain = plain_branch_loss(expected, labels, **constants, mining=mining)
    loss.backward()
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-4)
    torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-3, atol=1e-5)


def test_the_pose_loss_is_added_with_its_weight():
    torch.manual_seed(0)
    stages = tuple(torch.randn(2, 57, 3, 2) for _ in range(3))
    wanted, weights = [torch.randn(2, 57, 3, 2) for _ in range(3)], torch.randint(0, 2, (2, 57, 3, 2)).float()
    labels, settings = torch.tensor([0, 1]), settings_of("pose", pose_loss_weight=0.25)
    embeddings = {"plenary": torch.randn(2, 6)}
    output = Output(embeddings, torch.randn(2, 3), {}, embeddings, stages)
    found = losses(output, Batch(labels, labels[:, None][:, :0], 2, (wanted, weights)), settings)
    asked = sum((weights * (s - w) ** 2).sum().item() for s, w in zip(stages, wanted, strict=True)) / 2
    assert list(found) == ["loss", "identity_loss", "pose_loss"]
    assert found["pose_loss"].item() == pytest.approx(0.25 * asked, rel=1e-5)
    assert found["loss"].item() == pytest.approx(0.25 * asked + found["identity_loss"].item(), rel=1e-5)


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
    triplets = sum(plain_branch_loss(embedding, labels, 0.5, 0.01, 2).item() for embedding in embeddings.values())

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
