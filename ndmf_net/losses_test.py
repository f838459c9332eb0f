"""The losses against eq. 11 to 14 written out plainly."""

import math

import pytest
import torch

from common import distributed

from .losses import Batch, losses, smoothed_cross_entropy
from .model import Output
from .model_test import settings_of


def plain_cross_entropies(logits, labels, eps=0.1):
    """Eq. 11's terms with the labels of eq. 12, summed over classes, one for each image."""
    K, terms = logits.shape[1], []
    for n, y in enumerate(labels.tolist()):
        p = torch.exp(logits[n]) / torch.exp(logits[n]).sum()
        q = [1 - eps if k == y else eps / (K - 1) for k in range(K)]
        terms.append(-sum(q[k] * torch.log(p[k]) for k in range(K)))
    return torch.stack(terms)


def plain_triplets(features, labels, margin=0.3, *, squared=False):
    """Eq. 13's terms, with the furthest image of each anchor's identity and the nearest of another."""
    terms = []
    for a, anchor in enumerate(features):
        distances = [((anchor - other) ** 2).sum() for other in features]
        distances = distances if squared else [d**0.5 if d > 0 else d for d in distances]
        same = [d for other, d in enumerate(distances) if labels[other] == labels[a]]
        different = [d for other, d in enumerate(distances) if labels[other] != labels[a]]
        terms.append((max(same) - min(different) + margin).clamp(min=0))
    return torch.stack(terms)


def plain_losses(feature, logits, labels, *, alpha=0.3, beta=0.7, eps=0.1, margin=0.3, squared=False, summed=False):
    """Eq. 14, alpha and beta as Sec. IV-A.3 prints them; summed: over the images, as eq. 11 prints it."""
    terms = plain_cross_entropies(logits, labels, eps)
    identity = terms.sum() if summed else terms.mean()
    triplet = plain_triplets(feature, labels, margin, squared=squared).mean()
    return {"loss": alpha * identity + beta * triplet, "identity_loss": identity, "triplet_loss": triplet}


OTHER = {"identity_weight": 0.6, "triplet_weight": 1.5, "label_smoothing": 0.25, "triplet_margin": 0.8}


@pytest.mark.parametrize("demo", [False, True])
@pytest.mark.parametrize(
    ("settings", "equations"),
    [
        ({}, {}),
        ({"triplet_squared": True}, {"squared": True}),
        ({"identity_reduction": "sum"}, {"summed": True}),
        (OTHER, {"alpha": 0.6, "beta": 1.5, "eps": 0.25, "margin": 0.8}),
    ],
)
def test_losses_and_their_gradients_are_eq_11_to_14(settings, equations, demo):
    torch.manual_seed(0)
    labels = torch.tensor([4, 4, 1, 1, 1, 0, 0, 4])
    centres = 2 * torch.randn(5, 6)
    feature = (centres[labels] + 0.7 * torch.randn(8, 6)).requires_grad_()
    logits = (3 * torch.randn(8, 5)).requires_grad_()
    found = losses(Output(feature, logits), Batch(labels), settings_of(demo=demo, **settings))
    expected = plain_losses(feature, logits, labels, **equations)
    assert list(found) == list(expected)
    assert [term.item() for term in found.values()] == pytest.approx([t.item() for t in expected.values()], rel=1e-5)
    slopes = [torch.autograd.grad(terms["loss"], (feature, logits)) for terms in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-6)
    active = plain_triplets(feature, labels, squared=equations.get("squared", False)) > 0
    assert active.any() and not active.all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_two_processes_have_the_losses_of_their_common_batch(reduction, monkeypatch):
    """Each has half of it; the mean over processes is what is minimised."""
    torch.manual_seed(0)
    labels = torch.tensor([4, 4, 1, 1, 1, 0, 0, 4])
    feature, logits, settings = torch.randn(8, 6), torch.randn(8, 5), settings_of(identity_reduction=reduction)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "gather_with_gradient", lambda own: feature)
    monkeypatch.setattr(distributed, "gather", lambda own: labels)
    halves = slice(0, 4), slice(4, 8)
    found = [losses(Output(feature[half], logits[half]), Batch(labels[half]), settings) for half in halves]
    for name, expected in plain_losses(feature, logits, labels, summed=reduction == "sum").items():
        assert sum(terms[name].item() for terms in found) / 2 == pytest.approx(expected.item(), rel=1e-5)
        if name == "triplet_loss":  # mined in the batch of both
            assert found[0][name] == found[1][name]


def test_the_triplet_distance_is_plain_unless_chosen():
    """Two identities on a line at 0, 1 and 3, 5: each anchor's hardest triplet by hand."""
    output = Output(torch.tensor([[0.0], [1.0], [3.0], [5.0]]), torch.zeros(4, 3))
    batch = Batch(torch.tensor([0, 0, 1, 1]))
    plain = losses(output, batch, settings_of(demo=False))["triplet_loss"].item()
    squared = losses(output, batch, settings_of(demo=False, triplet_squared=True))["triplet_loss"].item()
    # 1 - 3 < -0.3, 1 - 2 < -0.3, 2 - 2 + 0.3, 2 - 4 < -0.3; with squares 1 - 9, 1 - 4, 4 - 4 + 0.3, 4 - 16.
    assert plain == pytest.approx(0.3 / 4) and squared == pytest.approx(0.3 / 4)
    wider = settings_of(demo=False, triplet_margin=2.5)
    assert losses(output, batch, wider)["triplet_loss"].item() == pytest.approx((0.5 + 1.5 + 2.5 + 0.5) / 4)
    wider = settings_of(demo=False, triplet_margin=3.5, triplet_squared=True)
    assert losses(output, batch, wider)["triplet_loss"].item() == pytest.approx((0.5 + 3.5) / 4)


def test_label_smoothing_is_eq_12_and_not_torchs():
    # Two images, three classes, softmax probabilities written out.
    probabilities = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=torch.float64)
    labels, eps = torch.tensor([0, 1]), 0.1
    by_hand = (
        -(0.9 * math.log(0.5) + 0.05 * math.log(0.3) + 0.05 * math.log(0.2))
        - (0.9 * math.log(0.1) + 0.05 * math.log(0.1) + 0.05 * math.log(0.8))
    ) / 2
    ours = smoothed_cross_entropy(probabilities.log(), labels, smoothing=eps).item()
    assert ours == pytest.approx(by_hand, rel=1e-6)
    torchs = torch.nn.functional.cross_entropy(probabilities.log(), labels, label_smoothing=eps).item()
    assert abs(ours - torchs) > 0.001


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_full_precision(dtype):
    """Outputs under autocast are in half precision; their losses are those of the same numbers in float32."""
    torch.manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1])
    half = Output(torch.randn(4, 64).to(dtype), torch.randn(4, 100).to(dtype))
    expected = plain_losses(half.feature.float(), half.logits.float(), labels)
    found = losses(half, Batch(labels), settings_of())
    assert {name: term.dtype for name, term in found.items()} == dict.fromkeys(found, torch.float32)
    assert [term.item() for term in found.values()] == pytest.approx([t.item() for t in expected.values()], rel=1e-5)
