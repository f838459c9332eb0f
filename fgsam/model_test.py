"""FGSAM's networks, compact bilinear pooling, skeleton and schedule against the paper's equations and tables."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.files import read_yaml
from common.runs.settings import load_settings

from . import model as model_module
from .bilinear import CountSketch, compact_bilinear, normalise_bilinear
from .losses import Batch, losses
from .model import FGSAM, network_of_phase
from .pose_net import ChannelParseBlock, PoseNet
from .settings import Settings
from .skeleton import JOINTS, LIMBS, NUM_CHANNELS, NUM_MAPS, PARTS, mirrored_joints, part_channels
from .train import learning_rate


def settings_of(variant="full", *, demo=True, **overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="market1501", demo=demo, variant=variant, overrides=overrides)


# ------------------------------------------------------------------ compact bilinear pooling


def exact_bilinear(x, y):
    """The sum over positions of outer products, (B, C1 * C2)."""
    return torch.einsum("bchw,bdhw->bcd", x, y).flatten(1)


def test_the_sketch_of_an_outer_product_is_its_count_sketch():
    """Algorithm 2 spelled out: entry (i, j) goes to place h1(i) + h2(j) mod D with sign s1(i) s2(j)."""
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 3, 2), torch.randn(2, 4, 3, 2)
    first, second = CountSketch(5, 16, seed=1), CountSketch(4, 16, seed=2)
    expected = torch.zeros(2, 16)
    for b in range(2):
        for i in range(5):
            for j in range(4):
                place = (first.place[i] + second.place[j]) % 16
                expected[b, place] += first.sign[i] * second.sign[j] * (x[b, i] * y[b, j]).sum()
    torch.testing.assert_close(compact_bilinear(first(x), second(y), 16), expected, atol=1e-5, rtol=1e-5)


def test_inner_products_near_those_of_the_exact_feature_and_nearer_with_more_dimensions():
    torch.manual_seed(0)
    x, y = torch.randn(12, 24, 4, 2) + 0.3, torch.randn(12, 9, 4, 2) + 0.3
    exact = exact_bilinear(x, y)
    products = exact @ exact.T
    errors = {}
    for dimension in (64, 512, 4096):
        squares = []
        for seed in range(8):
            first, second = CountSketch(24, dimension, seed=seed), CountSketch(9, dimension, seed=100 + seed)
            sketch = compact_bilinear(first(x), second(y), dimension)
            squares.append((sketch @ sketch.T - products).square().mean())
        errors[dimension] = math.sqrt(sum(squares) / len(squares)) / products.diagonal().mean().item()
    assert errors[512] < errors[64] / 2 and errors[4096] < errors[512] / 2  # as 1 / sqrt(D): by 2.8 each time
    assert errors[4096] < 0.03


def test_signed_square_root_and_unit_length():
    normalised = normalise_bilinear(torch.tensor([[4.0, -9.0, 0.0]]))
    torch.testing.assert_close(normalised, torch.tensor([[2.0, -3.0, 0.0]]) / math.sqrt(13), atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------ pose resolve net and parts


def test_cpb_weights_lie_between_0_and_1_and_scale_channels():
    torch.manual_seed(0)
    block, x = ChannelParseBlock(NUM_CHANNELS, 4), 5 * torch.randn(3, NUM_CHANNELS, 4, 2)
    weights = block.weights(x)
    assert weights.shape == (3, NUM_CHANNELS, 1, 1) and weights.min() > 0 and weights.max() < 1
    hidden = torch.relu(block.squeeze.weight[:, :, 0, 0] @ x.mean((2, 3)).T + block.squeeze.bias[:, None])
    by_hand = torch.sigmoid(block.excite.weight[:, :, 0, 0] @ hidden + block.excite.bias[:, None]).T
    torch.testing.assert_close(weights[:, :, 0, 0], by_hand)
    torch.testing.assert_close(block(x), x * by_hand[:, :, None, None])


def test_pose_net_has_three_stages_of_57_channels_and_vgg_19s_front():
    with torch.device("meta"):
        net = PoseNet(settings_of(demo=False), cpb=True)
        outputs = net(torch.empty(1, 3, 256, 128))
    assert [tuple(maps.shape) for maps in outputs] == [(1, 57, 32, 16)] * 3
    convolutions = [m for m in net.front if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 64, 128, 128, 256, 256, 256, 256, 512, 512]
    assert sum(isinstance(m, ChannelParseBlock) for m in net.modules()) == 3


def test_each_channel_is_in_its_joints_and_limbs_part():
    sides = ("left", "right")

    def pairs(*names):
        return {f"{side}_{name}" for side in sides for name in names}

    joints = {
        "head": {"nose"} | pairs("eye", "ear"),
        "upper_body": {"neck"} | pairs("shoulder", "hip"),
        "upper_arm": pairs("shoulder", "elbow"),
        "lower_arm": pairs("elbow", "wrist"),
        "upper_leg": pairs("hip", "knee"),
        "lower_leg": pairs("knee", "ankle"),
    }
    limbs = {
        "head": [("neck", "nose")]
        + [("nose", f"{s}_eye") for s in sides]
        + [(f"{s}_eye", f"{s}_ear") for s in sides]
        + [(f"{s}_shoulder", f"{s}_ear") for s in sides],
        "upper_body": [("neck", f"{s}_{name}") for s in sides for name in ("shoulder", "hip")],
        "upper_arm": [(f"{s}_shoulder", f"{s}_elbow") for s in sides],
        "lower_arm": [(f"{s}_elbow", f"{s}_wrist") for s in sides],
        "upper_leg": [(f"{s}_hip", f"{s}_knee") for s in sides],
        "lower_leg": [(f"{s}_knee", f"{s}_ankle") for s in sides],
    }
    assert set(PARTS) == set(joints) and len(JOINTS) == 18 and len(LIMBS) == 19
    for part in PARTS:
        expected = {JOINTS.index(name) for name in joints[part]}
        for limb in limbs[part]:
            k = LIMBS.index(limb)
            expected |= {NUM_MAPS + 2 * k, NUM_MAPS + 2 * k + 1}
        assert set(part_channels(part)) == expected, part
    fields = [channel for part in PARTS for channel in part_channels(part) if channel >= NUM_MAPS]
    assert sorted(fields) == list(range(19, 57))  # each limb in one part
    assert all(18 not in part_channels(part) for part in PARTS)  # the background in none


def test_mirroring_joints_twice_changes_nothing():
    swap = mirrored_joints()
    assert [swap[i] for i in swap] == list(range(18))
    assert JOINTS[swap[JOINTS.index("left_knee")]] == "right_knee" and JOINTS[swap[17]] == "neck"


# ------------------------------------------------------------------ the networks

NUM_VALUES = {"gender": 2, "sleeves": 2, "handbag": 2, "upper_colour": 8, "lower_type": 2, "boots": 2}


@pytest.mark.parametrize(
    ("variant", "phase"), [("base", 1), ("pose", 2), ("full", 2), ("lram", 3), ("full", 3), ("no_cpb", 3)]
)
def test_gradient_reaches_every_parameter_in_every_row_and_phase(variant, phase):
    torch.manual_seed(0)
    settings = settings_of(variant, bilinear_size=128)
    num_values = NUM_VALUES if settings.attributes and phase > 1 else {}
    model = network_of_phase(phase, 3, num_values, settings).train()
    output = model(torch.randn(6, 3, 128, 64))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    attributes = torch.zeros(6, len(num_values), dtype=torch.int64)
    losses(output, Batch(labels, attributes, phase), settings)["loss"].backward()
    missed = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias before a norm without scale and shift has no effect.
    last = {f"pose_net.stages.2.{stream}" for stream in ("maps", "fields")}
    assert all(name.rpartition(".")[2] == "bias" and any(map(name.startswith, last)) for name in missed), missed


def test_no_two_count_sketches_are_drawn_alike():
    """Algorithm 2 takes the two inputs' hashes independent: with equal ones, (i, j) and (j, i) meet in one place."""
    model = network_of_phase(3, 3, NUM_VALUES, settings_of(bilinear_size=1024))
    sketches = [model.backbone_sketch, *(branch.sketch for branch in model.branches.values())]
    shortest = min(len(sketch.place) for sketch in sketches)
    draws = {tuple(sketch.place[:shortest].tolist()) for sketch in sketches}
    assert shortest > 2 and len(draws) == len(sketches) == 1 + 1 + len(PARTS)


def test_shapes_of_the_papers_network():
    with torch.device("meta"):
        model = network_of_phase(3, 751, NUM_VALUES, settings_of(demo=False)).eval()
        output = model(torch.empty(2, 3, 256, 128))
    sizes = {name: tuple(embedding.shape) for name, embedding in output.embeddings.items()}
    assert sizes == {"plenary": (2, 512)} | dict.fromkeys(PARTS, (2, 256))
    assert output.identity_logits.shape == (2, 751)
    assert {task: logits.shape[1] for task, logits in output.attribute_logits.items()} == NUM_VALUES
    assert model.branch_of["boots"] == "lower_leg" and model.branch_of["gender"] == "head"


def test_the_test_feature_has_2048_numbers_and_unit_length():
    model = network_of_phase(3, 3, NUM_VALUES, settings_of(bilinear_size=64)).eval()
    feature = model.embed(torch.randn(2, 3, 128, 64))
    assert isinstance(model, FGSAM) and feature.shape == (2, 2048)
    torch.testing.assert_close(feature.norm(dim=1), torch.ones(2))


def test_rows_of_table_4_and_their_phases():
    phases = {variant: settings_of(variant).phases for variant in ("base", "pose", "lram", "full")}
    assert phases == {"base": [1], "pose": [1, 2], "lram": [1, 2, 3], "full": [1, 2, 3]}
    paper = settings_of(demo=False)
    assert [paper.epochs_until(phase) for phase in paper.phases] == [150, 150 + 60, 150 + 60 + 400]
    assert paper.num_epochs == 610 and settings_of("pose", demo=False).num_epochs == 210
    scaled = settings_of(demo=False, num_epochs=61)
    assert [scaled.epochs_until(phase) for phase in (0, *scaled.phases)] == [0, 15, 15 + 6, 15 + 6 + 40]
    assert [scaled.phase_of(epoch) for epoch in (1, 15, 16, 21, 22, 61)] == [1, 1, 2, 2, 3, 3]
    assert [settings_of(num_epochs=1).epochs_until(phase) for phase in (1, 2, 3)] == [0, 0, 1]
    alone = settings_of(phase=3, demo=False)
    assert alone.phases == [3] and [alone.epochs_until(phase) for phase in (2, 3)] == [0, 400]
    with pytest.raises(UserError, match="phase is 3, but this variant ends with phase 2"):
        settings_of("pose", phase=3)


def test_the_rows_differ_in_nothing_else():
    epochs = {False: (150, 210), True: (5, 7)}  # of the shorter rows, at the paper's and at demo size
    for demo, (base, pose) in epochs.items():
        expected = {
            "full": {},
            "base": {"last_phase": 1, "num_epochs": base},
            "pose": {"last_phase": 2, "attributes": False, "num_epochs": pose},
            "lram": {"focal": False},
            "no_cpb": {"cpb": False},
        }
        full = asdict(settings_of(demo=demo))
        assert set(read_yaml(Path(__file__).parent / "config.yaml")["variants"]) == set(expected)
        for row, own in expected.items():
            assert {k: v for k, v in asdict(settings_of(row, demo=demo)).items() if v != full[k]} == own, row


def test_phase_1_starts_from_the_pretrained_backbone_and_later_phases_from_the_phase_before(monkeypatch):
    asked, build = [], model_module.backbones.build_resnet

    def note(name, **more):
        asked.append((name, more))
        return build(name, **more | {"pretrained": "none"})

    monkeypatch.setattr(model_module.backbones, "build_resnet", note)
    settings = settings_of(pretrained="somewhere.pth", bilinear_size=16)
    for phase in (1, 2, 3):
        network_of_phase(phase, 3, NUM_VALUES, settings)
    given = ["somewhere.pth", "none", "none"]
    assert asked == [("resnet18", {"last_stride": 1, "pretrained": pretrained}) for pretrained in given]


def test_the_demos_phases_end_at_the_papers_share_of_their_first_rate():
    for settings in (settings_of(), settings_of(demo=False)):
        first, last = ([learning_rate(phase, epoch, settings) for phase, epoch in enumerate(epochs, start=1)]
                       for epochs in ((1, 1, 1), settings.phase_epochs))  # fmt: skip
        assert [end / begin for begin, end in zip(first, last, strict=True)] == [1 / 4, 1 / 2, 1 / 8]


def test_learning_rates_are_halved_within_their_phase():
    paper = settings_of(demo=False)
    rates = [learning_rate(phase, epoch, paper) for phase, epoch in ((1, 50), (1, 51), (2, 51), (3, 100), (3, 101))]
    assert rates == pytest.approx([1e-3, 5e-4, 5e-4, 1e-4, 5e-5])
