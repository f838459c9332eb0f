"""NDMF-Net's modules against the paper's equations written out plainly."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UserError
from common.files import read_yaml
from common.runs.settings import load_settings

from .model import NDMFNet, NeighboringPartDependency, PartLevelChannelAttention, SpatialAttention
from .settings import Settings

WITHOUT = {  # what the rows of Table 5, and `pham`, leave out of the full model
    "baseline": {"pcam": False, "sam": False, "ndem": False},
    "pcam": {"sam": False, "ndem": False},
    "sam": {"pcam": False, "ndem": False},
    "ndem": {"pcam": False, "sam": False},
    "pham": {"ndem": False},
    "full": {},
}
ROWS = list(WITHOUT)


def settings_of(variant="full", *, demo=True, **overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="market1501", demo=demo, variant=variant, overrides=overrides)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("height", "N"), [(8, 4), (8, 8), (8, 1), (7, 3), (8, 6)])
def test_pcam_is_eq_1_to_3(height, N):
    torch.manual_seed(0)
    C, W = 5, 3
    module = PartLevelChannelAttention(C, N).double()
    x = torch.randn(2, C, height, W, dtype=torch.float64)
    output = module(x).detach().numpy()
    for b in range(2):
        row = 0
        for i, rows in enumerate(len(part) for part in np.array_split(np.arange(height), N)):
            part = x[b, :, row : row + rows].numpy()
            descriptor = np.concatenate([part.mean((1, 2)), part.max((1, 2))])
            attention = sigmoid(module.weight[i].detach().numpy() @ descriptor)
            np.testing.assert_allclose(output[b, :, row : row + rows], part * attention[:, None, None], atol=1e-12)
            row += rows


def test_sam_is_eq_4_and_5():
    torch.manual_seed(0)
    module = SpatialAttention().double()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    output = module(x).detach().numpy()
    kernel = module.convolution.weight.detach().numpy()[0]
    for b in range(2):
        descriptors = np.stack([x[b].numpy().mean(0), x[b].numpy().max(0)])
        padded = np.pad(descriptors, ((0, 0), (1, 1), (1, 1)))
        for row in range(5):
            for column in range(4):
                attention = sigmoid((kernel * padded[:, row : row + 3, column : column + 3]).sum())
                expected = x[b, :, row, column].numpy() * attention
                np.testing.assert_allclose(output[b, :, row, column], expected, atol=1e-12)


def lstm_direction(parameters, sequence):
    """Eq. 7, step by step; torch stacks the weights as input, forget, candidate, output."""
    W_x, W_h, b_x, b_h = parameters
    R = W_h.shape[1]
    h, C, states = np.zeros(R), np.zeros(R), []
    for x_t in sequence:
        i_t, f_t, candidate, o_t = np.split(W_x @ x_t + b_x + W_h @ h + b_h, 4)
        C = sigmoid(f_t) * C + sigmoid(i_t) * np.tanh(candidate)
        h = sigmoid(o_t) * np.tanh(C)
        states.append(h)
    return states


@pytest.mark.parametrize(("height", "N"), [(8, 4), (7, 3)])
def test_ndem_is_eq_7_and_8(height, N):
    torch.manual_seed(0)
    C, W, R, m = 3, 2, 4, 5
    settings = settings_of(num_parts=N, lstm_hidden_size=R, dependency_size=m, part_features="flatten")
    module = NeighboringPartDependency(C, (height, W), settings).double()
    x = torch.randn(2, C, height, W, dtype=torch.float64)
    output = module(x).detach().numpy()
    weights = {name: parameter.detach().numpy() for name, parameter in module.lstm.named_parameters()}
    tallest = math.ceil(height / N)
    for b in range(2):
        sequence = []
        for part in np.array_split(x[b].numpy(), N, axis=1):
            padded = np.zeros((C, tallest, W))
            padded[:, : part.shape[1]] = part
            sequence.append(padded.reshape(-1))
        for layer in range(2):
            directions = []
            for suffix, order in (("", 1), ("_reverse", -1)):
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                parameters = [weights[f"{name}_l{layer}{suffix}"] for name in names]
                directions.append(lstm_direction(parameters, sequence[::order])[::order])
            sequence = [np.concatenate(pair) for pair in zip(*directions, strict=True)]
        f_D = sigmoid(module.linear.weight.detach().numpy() @ np.concatenate(sequence))
        np.testing.assert_allclose(output[b], f_D, atol=1e-12)


def test_pooled_parts_are_their_means():
    settings = settings_of(num_parts=3, lstm_hidden_size=4, dependency_size=5, part_features="pool")
    module = NeighboringPartDependency(3, (7, 2), settings)
    x = torch.randn(2, 3, 7, 2)
    expected = torch.stack([x[:, :, 0:3].mean((2, 3)), x[:, :, 3:5].mean((2, 3)), x[:, :, 5:7].mean((2, 3))], dim=1)
    torch.testing.assert_close(module.sequence(x), expected)


def test_few_gates_start_saturated_at_the_papers_size():
    """With 65,536 inputs, nn.LSTM's own initialisation starts more than half of the gates beyond 0.01 and 0.99."""
    torch.manual_seed(0)
    module = NeighboringPartDependency(256, (64, 32), settings_of(demo=False, dependency_size=16))
    x = torch.randn(4, 256, 64, 32).relu() * 2  # layer1's maps: non-negative, rms about 1.4
    weight, bias = module.lstm.weight_ih_l0, module.lstm.bias_ih_l0 + module.lstm.bias_hh_l0
    preactivation = module.sequence(x) @ weight.T + bias
    i, f, _, o = torch.sigmoid(preactivation).chunk(4, dim=-1)
    gates = torch.cat([i, f, o])
    assert ((gates < 0.01) | (gates > 0.99)).float().mean() < 0.02


@pytest.mark.parametrize("directions", [1, 2])
def test_what_reads_the_lstms_states_starts_larger_by_the_gain(directions):
    """Uniform within gain / sqrt(inputs); the weights that read the map, within 1 / sqrt(inputs)."""
    torch.manual_seed(0)
    module = NeighboringPartDependency(64, (32, 16), settings_of(dependency_gain=8.0, lstm_directions=directions))
    weights = {name: weight for name, weight in module.named_parameters() if "weight_ih" in name or "linear" in name}
    assert len(weights) == 2 * directions + 1
    for name, weight in weights.items():
        gain = 1 if weight.shape[1] == 64 * 4 * 16 else 8
        assert (gain == 1) == (name in ("lstm.weight_ih_l0", "lstm.weight_ih_l0_reverse", "lstm.0.weight_ih_l0"))
        bound = gain * weight.shape[1] ** -0.5
        assert 0.98 * bound < weight.abs().max() <= bound and abs(weight.std() / bound - 3**-0.5) < 0.02


def test_with_the_gain_f_D_differs_between_images_from_the_start():
    maps = torch.rand(32, 64, 32, 16, generator=torch.Generator().manual_seed(0))
    maps = maps * torch.linspace(0.1, 0.7, 32)[:, None, None, None]  # attended maps: brighter and darker images

    def deviation(gain):
        torch.manual_seed(0)
        return NeighboringPartDependency(64, (32, 16), settings_of(dependency_gain=gain))(maps).std(0).mean()

    assert deviation(1.0) < 0.005 and deviation(8.0) > 20 * deviation(1.0)


@pytest.mark.parametrize("variant", ROWS)
def test_shapes_and_unit_length_of_the_test_feature(variant):
    model = NDMFNet(7, settings_of(variant)).eval()
    feature, logits = model(torch.randn(3, 3, 128, 64))
    assert feature.shape == (3, 512) and logits.shape == (3, 7)
    torch.testing.assert_close(model.embed(torch.randn(3, 3, 128, 64)).norm(dim=1), torch.ones(3))
    assert model.feature_map(torch.randn(1, 3, 128, 64)).shape == (1, 512, 8, 4)


@pytest.mark.parametrize("variant", ROWS)
def test_rows_have_the_modules_they_name_and_differ_in_nothing_else(variant):
    with torch.device("meta"):
        model = NDMFNet(3, settings_of(variant, pretrained="none"))
    found = {type(module) for module in model.modules()}
    names = {"pcam": PartLevelChannelAttention, "sam": SpatialAttention, "ndem": NeighboringPartDependency}
    assert {name for name, module in names.items() if module not in found} == set(WITHOUT[variant])
    for demo in (False, True):
        full, row = (vars(settings_of(name, demo=demo)) for name in ("full", variant))
        assert {name: value for name, value in row.items() if value != full[name]} == WITHOUT[variant]


def test_every_variant_is_tested():
    assert set(read_yaml(Path(__file__).parent / "config.yaml")["variants"]) == set(ROWS)


def test_pcam_and_fusion_start_as_linear_layers_do():
    """Uniform within 1 / sqrt(inputs)."""
    torch.manual_seed(0)
    model = NDMFNet(3, settings_of(pretrained="none"))
    for weight in (model.attention1.pcam.weight, model.attention3.pcam.weight, model.fusion.weight):
        bound = weight.shape[-1] ** -0.5
        assert 0.98 * bound < weight.abs().max() <= bound and abs(weight.std() / bound - 3**-0.5) < 0.02


def test_later_stages_read_the_attended_maps():
    """Eq. 6 and Fig. 2."""
    model = NDMFNet(3, settings_of("sam")).eval()
    images = torch.randn(1, 3, 128, 64)
    x1, _, _ = model.feature_maps(images)
    plain = model.backbone.layer1(model.backbone.stem(images))
    torch.testing.assert_close(x1, model.attention1(plain))
    assert not torch.allclose(x1, plain)
    torch.testing.assert_close(
        model.feature_maps(images)[1], model.attention3(model.backbone.layer3(model.backbone.layer2(x1)))
    )


def test_lstm_inputs_at_the_papers_size():
    with torch.device("meta"):
        model = NDMFNet(751, settings_of(demo=False, pretrained="none"))
    assert model.dependency1.lstm.input_size == 65536
    assert model.dependency3.lstm.input_size == 1024 * 2 * 8
    assert model.fusion.weight.shape == (2048, 2048 + 512)
    assert sum(p.numel() for p in model.dependency1.lstm.parameters()) == pytest.approx(33.7e6, rel=0.01)
    assert sum(p.numel() for p in model.dependency3.lstm.parameters()) == pytest.approx(8.5e6, rel=0.02)


@pytest.mark.parametrize("num_parts", [1, 2, 4, 6, 8])
def test_the_part_counts_of_fig_7_run_at_demo_size(num_parts):
    model = NDMFNet(3, settings_of(num_parts=num_parts)).eval()
    assert torch.isfinite(model.embed(torch.randn(2, 3, 128, 64))).all()


def test_more_parts_than_rows_are_refused():
    with pytest.raises(UserError, match="num_parts is 16, but layer3's map has only 8 rows at height 128"):
        settings_of(num_parts=16)
    assert settings_of("baseline", num_parts=16).num_parts == 16  # the baseline has no parts
    with pytest.raises(ValueError, match="only 8 rows"):
        NDMFNet(3, replace(settings_of("baseline", num_parts=16), pcam=True))


PAPER = {  # what the text prints
    "height": 256, "width": 128, "padding": 10, "identities_per_batch": 16, "images_per_identity": 4,  # Sec. IV-A.3
    "weight_decay": 5e-4, "adam_beta1": 0.9, "num_epochs": 200, "num_parts": 8,
    "identity_weight": 0.3, "triplet_weight": 0.7,
    "backbone": "resnet50", "last_stride": 1, "pretrained": "imagenet",  # Sec. III-A
    "warmup_epochs": 10, "warmup_peak": 3.5e-5, "learning_rate": 3.5e-4, "decay_epochs": [40, 70],  # eq. 17
    "pcam": True, "sam": True, "ndem": True,  # Fig. 2
}  # fmt: skip
READINGS = {  # where it is silent, the README's table
    "flip_probability": 0.5, "erasing_probability": 0.5, "part_features": "flatten", "lstm_hidden_size": 64,
    "lstm_directions": 2, "dependency_size": 512, "dependency_gain": 8.0, "dependency_decay": "coupled",
    "feature_size": 2048, "bnneck": False, "identity_reduction": "mean", "label_smoothing": 0.1, "triplet_margin": 0.3,
    "triplet_squared": False,
}  # fmt: skip
DEMO = {  # a smaller network on smaller images, in smaller batches, for fewer epochs
    "height": 128, "width": 64, "padding": 5, "backbone": "resnet18", "pretrained": "synthetic", "feature_size": 512,
    "identities_per_batch": 8, "num_epochs": 8, "warmup_epochs": 1, "decay_epochs": [4, 7],
}  # fmt: skip


def test_settings_are_the_papers_and_the_readmes():
    assert vars(settings_of(demo=False)).items() >= (PAPER | READINGS).items()


def test_the_demo_keeps_head_losses_optimiser_rates_and_augmentation():
    paper, demo = vars(settings_of(demo=False)), vars(settings_of())
    assert {name: value for name, value in demo.items() if value != paper[name]} == DEMO
