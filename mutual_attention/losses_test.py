"""The losses against eq. 10, 12 and 13 written out plainly."""

import pytest
import torch

from .losses import Batch, losses
from .model import Output
from .model_test import settings_of


def plain_cross_entropy(logits, classes):
    """The mean over rows of -log softmax at the true class."""
    terms = [-torch.log(torch.exp(row)[k] / torch.exp(row).sum()) for row, k in zip(logits, classes, strict=True)]
    return sum(terms) / len(terms)


def plain_losses(identity_logits, verification_logits, identities, same, *, alpha=0.5, images_of_a_pair=1):
    """Eq. 13, alpha as Sec. 5.1 prints it; a pair of one person has the first of two classes (eq. 12)."""
    identification = images_of_a_pair * plain_cross_entropy(identity_logits, identities)
    verification = plain_cross_entropy(verification_logits, [0 if pair else 1 for pair in same])
    loss = alpha * verification + identification
    return {"loss": loss, "identification_loss": identification, "verification_loss": verification}


def outputs(dtype=torch.float32):
    """Of three pairs and five identities."""
    torch.manual_seed(0)
    logits = (3 * torch.randn(6, 5)).to(dtype), (2 * torch.randn(3, 2)).to(dtype)
    return Output(*(values.requires_grad_() for values in logits)), Batch(
        torch.tensor([0, 3, 2, 0, 4, 1]), torch.tensor([True, False, False])
    )


@pytest.mark.parametrize("demo", [False, True])
@pytest.mark.parametrize(
    ("sets", "plain"),
    [
        ({}, {}),
        ({"identity_reduction": "sum"}, {"images_of_a_pair": 2}),
        ({"verification_weight": 0.3}, {"alpha": 0.3}),
    ],
)
def test_losses_and_their_gradients_are_eq_10_to_13(sets, plain, demo):
    output, batch = outputs()
    found = losses(output, batch, settings_of(demo=demo, **sets))
    expected = plain_losses(*output, batch.identities.tolist(), batch.same.tolist(), **plain)
    assert list(found) == list(expected)
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term, msg=name)
    slopes = [torch.autograd.grad(terms["loss"], tuple(output)) for terms in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_the_identity_loss_alone_is_a_variant():
    output, batch = outputs()
    found = losses(output, batch, settings_of("identity_only"))
    assert found["loss"].item() == found["identification_loss"].item()
    assert not settings_of("identity_only").attention


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_full_precision(dtype):
    """Outputs under autocast are in half precision; their losses are those of the same numbers in float32."""
    output, batch = outputs(dtype)
    found = losses(output, batch, settings_of())
    expected = plain_losses(*(o.float() for o in output), batch.identities.tolist(), batch.same.tolist())
    assert {name: term.dtype for name, term in found.items()} == dict.fromkeys(found, torch.float32)
    assert [term.item() for term in found.values()] == pytest.approx([t.item() for t in expected.values()], rel=1e-5)
