"""Deep mutual attention's modules against the paper's equations written out plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.runs.settings import load_settings

from .activity import rms
from .attention import MutualAttention
from .losses import Batch, losses
from .model import DescriptorPath, MutualAttentionNet, difference
from .settings import Settings

VARIANTS = ["full", "baseline", "literal"]  # in which a pair's own attention is used


def settings_of(variant="full", *, demo=True, **overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="market1501", demo=demo, variant=variant, overrides=overrides)


def small_model(variant="full", **overrides) -> MutualAttentionNet:
    torch.manual_seed(0)
    return MutualAttentionNet(7, settings_of(variant, height=64, width=32, **overrides))


def pair_of_batches(num_pairs=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, num_pairs, 3, 64, 32, generator=generator)


# ------------------------------------------------------------------ eq. 1-8


def plain_self_attention(f, channel_weight, self_weight):
    """Eq. 1-4 for one image: f (C, H, W)."""
    C, H, W = f.shape
    CA = [sum(channel_weight[k, c] * f[c].sum() / (H * W) for c in range(C)) for k in range(C)]  # eq. 2-3
    SA = np.zeros((C, H, W))
    for i in range(H):
        for j in range(W):
            SPA = sum(f[c, i, j] for c in range(C)) / C  # eq. 1
            for k in range(C):
                SA[k, i, j] = sum(self_weight[k, c] * SPA * CA[c] for c in range(C))  # eq. 4
    return SA


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_the_attention_is_eq_1_to_8(activation):
    torch.manual_seed(0)
    B, C, H, W = 2, 4, 3, 2
    module = MutualAttention(C, settings_of(activation=activation, normalisation="none")).double()
    f1, f2 = torch.randn(2, B, C, H, W, dtype=torch.float64)
    F1, F2 = (output.detach().numpy() for output in module(f1, f2))
    f1, f2 = f1.numpy(), f2.numpy()
    weights = [
        convolution.weight.detach().numpy()[:, :, 0, 0]
        for convolution in (module.channel_convolution, module.self_convolution, module.mutual_convolution)
    ]
    for b in range(B):
        SA1, SA2 = (plain_self_attention(f[b], *weights[:2]) for f in (f1, f2))
        for i in range(H):
            for j in range(W):
                product = [SA1[c, i, j] * SA2[c, i, j] for c in range(C)]  # eq. 5
                for k in range(C):
                    MA = sum(weights[2][k, c] * product[c] for c in range(C))  # eq. 6
                    MA = 1 / (1 + np.exp(-MA)) if activation == "sigmoid" else MA
                    for F, f in ((F1, f1), (F2, f2)):
                        assert F[b, k, i, j] == pytest.approx(f[b, k, i, j] * MA + f[b, k, i, j], abs=1e-12)


def test_the_literal_map_grows_with_the_fourth_power_of_the_activations():
    """Why eq. 1-8 as printed explode or do nothing."""
    torch.manual_seed(0)
    module = MutualAttention(8, settings_of("literal")).double()
    f1, f2 = torch.randn(2, 1, 8, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(module.mutual_map(3 * f1, 3 * f2), 81 * module.mutual_map(f1, f2))


def test_the_map_of_normalised_self_attention_has_a_scale_of_its_own_above_the_batch_norms_constant():
    torch.manual_seed(0)
    module = MutualAttention(64, settings_of(activation="none")).double()
    f1, f2 = torch.randn(2, 16, 64, 4, 2, dtype=torch.float64).relu()
    small, usual, large = (rms(module.mutual_map(scale * f1, scale * f2)) for scale in (0.1, 3, 30))
    assert 0.7 < usual < 1.5 and large == pytest.approx(usual, rel=0.01)
    assert small < 0.1  # the variance of SA, 1e-4 of that at a scale of 1, is below 1e-5


def test_normalising_self_attention_cancels_eq_4s_bias_alone():
    torch.manual_seed(0)
    module = MutualAttention(8, settings_of(attention_bias=True)).double()
    f1, f2 = torch.randn(2, 16, 8, 4, 2, dtype=torch.float64).relu()
    before = module.mutual_map(f1, f2)
    for kind, cancelled in (("self", True), ("channel", False), ("mutual", False)):
        with torch.no_grad():
            getattr(module, f"{kind}_convolution").bias += torch.arange(1.0, 9.0)
        assert torch.allclose(module.mutual_map(f1, f2), before) == cancelled, kind


def test_running_statistics_take_a_tenth_of_each_batch():
    torch.manual_seed(0)
    f1, f2 = torch.randn(2, 6, 4, 3, 2).relu()
    module = MutualAttention(4, settings_of())
    SA = module.self_attention(torch.cat([f1, f2])).detach()
    module.mutual_map(f1, f2)
    torch.testing.assert_close(module.self_normalisation.running_mean, 0.1 * SA.mean((0, 2, 3)))
    torch.testing.assert_close(module.self_normalisation.running_var, 0.9 + 0.1 * SA.var((0, 2, 3)))
    module = MutualAttention(4, settings_of(normalisation="batch"))
    MA = module.mutual_convolution(module.self_attention(f1) * module.self_attention(f2)).detach()
    module.mutual_map(f1, f2)
    torch.testing.assert_close(module.mutual_normalisation.running_mean, 0.1 * MA.mean((0, 2, 3)))
    norms = [norm for norm in small_model().modules() if hasattr(norm, "running_mean")]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.1, 1e-5)}


@pytest.mark.parametrize("num_pairs", [64, 32, 12, 6, 2])
def test_shuffled_attention_is_of_another_pair_as_often_of_the_other_label_on_held_out_pairs(num_pairs):
    """Whose positive half comes first. Maps of ones have MA's of their own: those of convolutions 1 are
    (C f)^2 (C f')^2 C, C channels."""
    module = MutualAttention(2, settings_of("shuffled", activation="none", normalisation="none")).double()
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    values = torch.arange(1, num_pairs + 1, dtype=torch.float64)
    F1, F2 = module(values.view(-1, 1, 1, 1).expand(-1, 2, 3, 2), torch.ones(num_pairs, 2, 3, 2, dtype=torch.float64))
    MA = F2[:, 0, 0, 0] - 1
    torch.testing.assert_close(F1[:, 0, 0, 0] / values - 1, MA)
    source = ((MA / MA[MA.argmin()]).sqrt() - 1).round().long()
    assert sorted(source.tolist()) == list(range(num_pairs)) and (source != torch.arange(num_pairs)).all()
    same = torch.arange(num_pairs) < num_pairs // 2
    agree = (same[source] == same).double().mean()
    assert agree == pytest.approx({2: 0, 6: 2 / 3}.get(num_pairs, 0.5))


@pytest.mark.parametrize("normalisation", ["none", "rms", "layer", "batch", "cosine", "correlation"])
def test_a_normalisation_has_no_parameters(normalisation):
    """What it scales, nothing can scale back into saturation but the convolution behind it."""
    module = MutualAttention(4, settings_of(normalisation=normalisation))
    kinds = ("channel", "self", "mutual")
    assert {name for name, _ in module.named_parameters()} == {f"{kind}_convolution.weight" for kind in kinds}


# ------------------------------------------------------------------ the two paths


@pytest.mark.parametrize("variant", VARIANTS)
def test_swapping_the_images_swaps_the_outputs_and_leaves_the_verification(variant):
    model = small_model(variant).eval()
    first, second = pair_of_batches()
    output, swapped = model(first, second), model(second, first)
    torch.testing.assert_close(swapped.verification_logits, output.verification_logits)
    torch.testing.assert_close(torch.cat(swapped.identity_logits.chunk(2)[::-1]), output.identity_logits)
    torch.testing.assert_close(model.same_probability(second, first), model.same_probability(first, second))


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
def test_gradient_reaches_every_parameter(activation):
    model = small_model(activation=activation).train()
    batch = Batch(torch.arange(8) % 7, torch.tensor([True, False, True, False]))
    losses(model(*pair_of_batches()), batch, settings_of())["loss"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_verification_alone_reaches_every_attention_convolution_and_the_descriptor():
    model = small_model().train()
    model(*pair_of_batches()).verification_logits[:, 0].sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    kinds = ("channel", "self", "mutual")
    convolutions = {f"attention{stage}.{kind}_convolution.weight" for stage in (3, 4) for kind in kinds}
    assert convolutions | {"embedding.0.weight", "backbone.stem.0.weight"} <= reached
    assert not {name for name in reached if name.startswith("classifier")}


@pytest.mark.parametrize("training", [True, False])
def test_a_mutual_map_of_zeros_makes_the_attended_path_the_plain_one(training):
    model = small_model(activation="none").train(training)
    for attention in (model.attention3, model.attention4):
        torch.nn.init.zeros_(attention.mutual_convolution.weight)
    maps3 = model.layer3_maps(torch.cat(tuple(pair_of_batches())))
    torch.testing.assert_close(model.attended_features(maps3), model.plain_features(maps3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_identical_images_differ_by_nothing_in_training_too(variant):
    model = small_model(variant).train()
    compared = []
    model.verifier.register_forward_pre_hook(lambda _, inputs: compared.append(inputs[0].detach()))
    images, others = pair_of_batches()
    model(images, images)
    model(images, others)
    identical, different = compared
    assert identical.max() < 1e-8 < 0.1 < different.max()


def test_running_statistics_of_layer4_are_those_of_the_plain_path():
    """As if there were no attended path; its own are kept apart."""
    model, plain_only = small_model().train(), small_model().train()
    for _ in range(3):
        model(*pair_of_batches())
        plain_only.plain_features(plain_only.layer3_maps(torch.cat(tuple(pair_of_batches()))))
    shared = ("backbone.", "embedding.")
    ours, expected = (
        {name: value for name, value in m.named_buffers() if name.startswith(shared)} for m in (model, plain_only)
    )
    assert len(ours) > 30
    for name, value in ours.items():
        torch.testing.assert_close(value, expected[name], msg=name)
    first = next(iter(model.attended_statistics.second))
    assert first.num_batches_tracked == 3
    assert not torch.allclose(first.running_mean, model.backbone.layer4[0].bn1.running_mean)


def test_the_attended_path_is_scored_as_it_was_trained():
    """The plain path's statistics would normalise its larger maps by too little."""
    model = small_model().train()
    for norm in (module for module in model.modules() if hasattr(module, "running_mean")):
        norm.momentum = 1.0  # the statistics become those of the last batch
    maps3 = model.layer3_maps(torch.cat(tuple(pair_of_batches(16))))
    trained = model.attended_features(maps3)
    model.plain_features(maps3)
    model.eval()
    own = (model.attended_features(maps3) - trained).square().mean()
    with model.attended_statistics:  # exchanged once more: the plain path's
        plains = (model.attended_features(maps3) - trained).square().mean()
    assert own < 0.01 * trained.square().mean()  # n - 1 and n in the variance
    assert plains > 10 * own


def test_the_difference_is_taken_before_dropout_and_sums_to_the_squared_distance():
    first, second = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0, 2.0, -1.0]])
    assert difference(first, second).tolist() == [[4.0, 0.0, 1.0]]
    torch.testing.assert_close(difference(first, second).sum(1), torch.cdist(first, second).square()[0])


def test_the_path_of_one_image_is_its_descriptor():
    model, images = small_model().eval(), pair_of_batches()[0]
    torch.testing.assert_close(DescriptorPath(model)(images), model.embed(images))


def test_the_papers_size():
    with torch.device("meta"):
        model = MutualAttentionNet(751, settings_of(demo=False, pretrained="none"))
        maps = model.feature_map(*torch.empty(2, 1, 3, 256, 188))
    assert maps.shape == (1, 2048, 8, 6)
    assert model.classifier.weight.shape == (751, 512) and model.verifier[-1].weight.shape == (2, 512)
    attention = sum(p.numel() for name, p in model.named_parameters() if name.startswith("attention"))
    assert attention == 3 * (1024**2 + 2048**2)
    baseline = [name for name, _ in small_model("baseline").named_parameters()]
    assert not [name for name in baseline if name.startswith("attention")]
