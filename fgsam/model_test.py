"""FGSAM's modules, losses, tasks and skeleton against the paper's equations and tables."""

import math

import numpy as np
import pytest
import torch

from common.config import load_config
from common.datasets.base import DataSet, Sample, Subset
from common.errors import UserError
from common.provenance import paper_folder
from fgsam.attribute_tasks import PART_OF_TASK, AttributeTable, attribute_scores, read_attribute_table
from fgsam.bilinear import CountSketch, compact_bilinear, normalise_bilinear
from fgsam.losses import (
    UNLABELLED,
    attribute_losses,
    focal_triplet,
    mean_of_positive,
    triplet,
    triplet_distances,
)
from fgsam.model import FGSAM
from fgsam.pose_net import ChannelParseBlock, PoseNet
from fgsam.skeleton import JOINTS, LIMBS, NUM_CHANNELS, NUM_MAPS, PARTS, mirrored_joints, part_channels
from fgsam.train import Config, branch_loss, build_model, loss_terms


def config(variant="full", *, demo=True, **overrides):
    folder = paper_folder("fgsam")
    return load_config(Config, folder, dataset="market1501", demo=demo, variant=variant, overrides=overrides)


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
        net = PoseNet(width=1.0, batch_norm=False, cpb=True)
        outputs = net(torch.empty(1, 3, 256, 128))
    assert [tuple(maps.shape) for maps in outputs] == [(1, 57, 32, 16)] * 3
    convolutions = [m for m in net.front if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 64, 128, 128, 256, 256, 256, 256, 512, 512]
    assert sum(isinstance(m, ChannelParseBlock) for m in net.modules()) == 3


def test_each_channel_is_in_the_part_that_the_spec_says():
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


# ------------------------------------------------------------------ losses


def test_focal_triplet_is_eq_9_and_10():
    # d_ap, d_an: hard (lambda 1.2), inside the margin with lambda at its floor, easy; alpha 0.5, beta 0.01, gamma 2.
    positive = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
    negative = torch.tensor([0.6, 0.7, 1.2], dtype=torch.float64)
    by_hand = torch.tensor([1.2**2 * 0.7 + 0.79, 1.0 * 0.3 + 0.49, 0.0 + 0.19], dtype=torch.float64)
    found = focal_triplet(positive, negative, alpha=0.5, beta=0.01, gamma=2)
    torch.testing.assert_close(found, by_hand)
    torch.testing.assert_close(
        triplet(positive, negative, alpha=0.5), torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64)
    )
    assert mean_of_positive(triplet(positive, negative, alpha=0.5)).item() == pytest.approx((0.7 + 0.3) / 2)
    # The beta term is an absolute bound: nothing below it.
    near = focal_triplet(torch.tensor(0.005), torch.tensor(1.0), alpha=0.5, beta=0.01, gamma=2)
    assert near.item() == 0


@pytest.mark.parametrize(("detach", "slope"), [(False, 2 * 1.2 * 0.7 + 1.2**2 + 1), (True, 1.2**2 + 1)])
def test_the_weight_has_a_gradient_unless_detached(detach, slope):
    positive = torch.tensor(0.8, requires_grad=True)
    focal_triplet(positive, torch.tensor(0.6), alpha=0.5, beta=0.01, gamma=2, detach_weight=detach).backward()
    assert positive.grad.item() == pytest.approx(slope, rel=1e-5)


def test_a_batchs_loss_is_a_plain_loop_over_its_triplets():
    torch.manual_seed(0)
    embeddings, labels = torch.randn(7, 5), torch.tensor([0, 0, 1, 1, 1, 2, 2])
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    losses = []
    for a in range(7):
        for p in range(7):
            for n in range(7):
                if p != a and labels[p] == labels[a] != labels[n]:
                    d_ap, d_an = (unit[a] - unit[p]).norm().item(), (unit[a] - unit[n]).norm().item()
                    weight = max(d_ap - d_an + 1, 1)
                    losses.append(weight**2 * max(d_ap - d_an + 0.5, 0) + max(d_ap - 0.01, 0))
    expected = sum(losses) / sum(loss > 0 for loss in losses)
    assert branch_loss(embeddings, labels, config()).item() == pytest.approx(expected, rel=1e-5)
    positive, negative = triplet_distances(embeddings, labels, "hard")
    assert len(positive) == 7
    assert negative[0].item() == pytest.approx(min((unit[0] - unit[n]).norm().item() for n in range(2, 7)), rel=1e-5)


def test_unlabelled_attributes_add_no_loss_and_no_gradient():
    logits = {"hat": torch.randn(3, 2, requires_grad=True), "age": torch.randn(3, 4, requires_grad=True)}
    labels = torch.tensor([[1, UNLABELLED], [UNLABELLED, UNLABELLED], [0, UNLABELLED]])
    found = attribute_losses(logits, labels)
    log = logits["hat"].log_softmax(1)
    assert found["hat"].item() == pytest.approx(-(log[0, 1] + log[2, 0]).item() / 2, rel=1e-5)
    assert found["age"].item() == 0
    sum(found.values()).backward()
    assert logits["hat"].grad[1].abs().sum() == 0 and logits["age"].grad.abs().sum() == 0


# ------------------------------------------------------------------ attribute tasks

TABLE_I = {
    "market1501": "gender hair sleeves lower_length lower_type hat backpack bag handbag age upper_colour lower_colour",
    "dukemtmcreid": "gender upper_length hat backpack bag handbag upper_colour lower_colour shoe_colour boots",
    "peta": "gender hair sleeves upper_length lower_type hat backpack bag age upper_colour lower_colour shoe_colour "
    "boots",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    from common.datasets import READERS
    from common.datasets.synthetic import make_dataset

    root = tmp_path_factory.mktemp("data")
    for name in TABLE_I:
        make_dataset(root / name, like=name, size="tiny", processes=1)
    return {name: READERS[name].read(root / name, name) for name in TABLE_I}


@pytest.mark.parametrize(("name", "count"), [("market1501", 12), ("dukemtmcreid", 10), ("peta", 13)])
def test_the_tasks_are_table_1s(tiny, name, count):
    """Table I ticks age and not bag for DukeMTMC-reID, whose annotation has bag and no age."""
    table = read_attribute_table(tiny[name])
    assert len(table.values) == count and set(table.values) == set(TABLE_I[name].split())
    labels = table.labels(tiny[name].train)
    assert labels.shape == (len(tiny[name].train), count)
    for position, size in enumerate(table.num_values.values()):
        assert labels[:, position].min() >= UNLABELLED and labels[:, position].max() < size
    assert {PART_OF_TASK[task] for task in table.values} <= set(PARTS)


def test_people_without_a_label_stay_without(tiny):
    table = AttributeTable({"hat": ("no", "yes")}, {7: np.array([1])})
    people = Subset("x", (Sample("a", 7, 0), Sample("b", 8, 0)))
    assert table.labels(people).tolist() == [[1], [UNLABELLED]]
    real = read_attribute_table(tiny["market1501"])
    gallery = tiny["market1501"].gallery
    distractors = gallery.persons <= 0
    assert distractors.any() and (real.labels(gallery)[distractors] == UNLABELLED).all()


def test_accuracy_stands_beside_the_majoritys(tmp_path):
    from PIL import Image

    for name in "abc":
        Image.new("RGB", (8, 16)).save(tmp_path / f"{name}.png")
    train = Subset("train", (Sample(tmp_path / "a.png", 1, 0), Sample(tmp_path / "a.png", 2, 0)))
    query = Subset("query", tuple(Sample(tmp_path / f"{n}.png", p, 0) for n, p in (("a", 3), ("b", 4), ("c", 5))))
    table = AttributeTable({"hat": ("no", "yes")}, {p: np.array([c]) for p, c in ((1, 0), (2, 0), (3, 0), (4, 1))})

    class Run:
        config = config(cache=False)
        dataset = DataSet("x", tmp_path, {"train": train, "query": query}, (type("S", (), {"query": query})(),))

    found = attribute_scores(lambda images: {"hat": torch.tensor([[0.2, 0.8]]).expand(len(images), 2)}, Run, table)
    assert found == {"hat": {"accuracy": 1 / 2, "majority": 1 / 2}}  # the third has no label
    with pytest.raises(UserError, match="has no attributes of its people"):
        read_attribute_table(DataSet("msmt17", tmp_path, {}, ()))


# ------------------------------------------------------------------ the whole

NUM_VALUES = {"gender": 2, "sleeves": 2, "handbag": 2, "upper_colour": 8, "lower_type": 2, "boots": 2}


@pytest.mark.parametrize(
    ("variant", "phase"), [("base", 1), ("pose", 2), ("full", 2), ("lram", 3), ("full", 3), ("no_cpb", 3)]
)
def test_gradient_reaches_every_parameter_in_every_row_and_phase(variant, phase):
    torch.manual_seed(0)
    settings = config(variant, bilinear_size=128)
    num_values = NUM_VALUES if settings.attributes and phase > 1 else {}
    model = build_model(settings, phase, 3, num_values).train()
    outputs = model(torch.randn(6, 3, 128, 64))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    attributes = torch.zeros(6, len(num_values), dtype=torch.int64)
    sum(loss_terms(outputs, labels, attributes, settings, phase).values()).backward()
    missed = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias in front of a norm without scale and shift cannot matter, and a constant added to all logits neither.
    last = {f"pose_net.stages.2.{stream}" for stream in ("maps", "fields")}
    assert all(name.rpartition(".")[2] == "bias" and any(map(name.startswith, last)) for name in missed), missed


def test_shapes_of_the_papers_network():
    with torch.device("meta"):
        settings = config(demo=False, pretrained="none", pose_pretrained="none")
        model = build_model(settings, 3, 751, NUM_VALUES).eval()
        outputs = model(torch.empty(2, 3, 256, 128))
    sizes = {name: tuple(embedding.shape) for name, embedding in outputs.embeddings.items()}
    assert sizes == {"plenary": (2, 512)} | dict.fromkeys(PARTS, (2, 256))
    assert outputs.identity_logits.shape == (2, 751)
    assert {task: logits.shape[1] for task, logits in outputs.attribute_logits.items()} == NUM_VALUES
    assert model.branch_of["boots"] == "lower_leg" and model.branch_of["gender"] == "head"


def test_the_test_feature_has_2048_numbers_and_unit_length():
    model = build_model(config(bilinear_size=64), 3, 3, NUM_VALUES).eval()
    feature = model.embed(torch.randn(2, 3, 128, 64))
    assert isinstance(model, FGSAM) and feature.shape == (2, 2048)
    torch.testing.assert_close(feature.norm(dim=1), torch.ones(2))


def test_rows_of_table_4_and_their_phases():
    assert [config(variant).phases for variant in ("base", "pose", "lram", "full")] == [
        [1],
        [1, 2],
        [1, 2, 3],
        [1, 2, 3],
    ]
    paper = config(demo=False)
    assert [paper.epochs_of(phase) for phase in paper.phases] == [150, 60, 400] and paper.num_epochs == 610
    assert config("pose", demo=False).num_epochs == 210
    scaled = config(demo=False, num_epochs=61)
    assert [scaled.epochs_of(phase) for phase in scaled.phases] == [15, 6, 40]
    assert [scaled.phase_of(epoch) for epoch in (1, 15, 16, 21, 22, 61)] == [1, 1, 2, 2, 3, 3]
    assert [config(num_epochs=1).epochs_of(phase) for phase in (1, 2, 3)] == [0, 0, 1]
    rates = [paper.learning_rate(phase, epoch) for phase, epoch in ((1, 50), (1, 51), (2, 51), (3, 100), (3, 101))]
    assert rates == pytest.approx([1e-3, 5e-4, 5e-4, 1e-4, 5e-5])
    with pytest.raises(UserError, match="phase is 3, but this variant ends with phase 2"):
        config("pose", phase=3)
