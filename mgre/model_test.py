"""MGRe's modules against the paper's equations written out plainly, and every row of Tables 4, 5 and 7."""

import pytest
import torch
from torch.nn import functional

from common.complexity import count_macs
from common.config import load_config
from common.errors import UserError
from common.provenance import paper_folder
from mgre.location import LocationModule, boxes_of
from mgre.losses import location_loss
from mgre.model import SemanticGuidance, boxes_from_poses, weighted
from mgre.regions import REGIONS, positions_of, prior_boxes, regions_of, target_boxes
from mgre.sampling import sample
from mgre.scores import model_size
from mgre.train import Config, build_model, learning_rate, loss_terms

# variant -> stages with a feature, stages that locate
ROWS = {
    "full": ([1, 2, 3, 4], [1, 2, 3]),
    "baseline": ([4], []),
    "stage1": ([1, 4], [1]),
    "stage2": ([2, 4], [2]),
    "stage3": ([3, 4], [3]),
    "stages23": ([2, 3, 4], [2, 3]),
    "single_grained_features": ([1, 2, 3, 4], [1, 2, 3]),
    "single_grained_regions": ([1, 2, 3, 4], []),
    "whole_image_stage3": ([1, 2, 3, 4], [1, 2]),
    "baseline_jo": ([4], [1, 2, 3]),
    "without_jo": ([1, 2, 3, 4], []),
}


def config(variant="full", *, demo=True, **overrides):
    folder = paper_folder("mgre")
    return load_config(Config, folder, dataset="market1501", demo=demo, variant=variant, overrides=overrides)


def small(variant, **overrides):
    """A network that tests build and run in no time."""
    return build_model(config(variant, feature_size=8, location_channels=4, **overrides), num_identities=3)


def given_boxes(settings, batch):
    return prior_boxes().expand(batch, -1, -1) if settings.pose_boxes else None


# ------------------------------------------------------------------ sampling, eq. 4-5


def eq_5(U, centre, lengths, size):
    """Eq. 5's double sum at eq. 4's coordinates with pixel centres. U: (C, H, W); centre in (0, 1); lengths in
    pixels."""
    C, H, W = U.shape
    (l_1, l_2), (N, M) = lengths, size
    V = torch.zeros(C, N, M, dtype=U.dtype)
    for row in range(N):
        for column in range(M):
            x_s = centre[0] * W + (column + 0.5 - M / 2) * l_1 / M - 0.5
            y_s = centre[1] * H + (row + 0.5 - N / 2) * l_2 / N - 0.5
            for n in range(H):
                for m in range(W):
                    V[:, row, column] += U[:, n, m] * max(0, 1 - abs(x_s - m)) * max(0, 1 - abs(y_s - n))
    return V


# Within the map, larger than it, smaller than a pixel, and mostly outside.
@pytest.mark.parametrize(
    ("centre", "lengths"),
    [((0.45, 0.6), (3.1, 4.2)), ((0.5, 0.5), (9, 12)), ((0.3, 0.2), (0.4, 0.6)), ((1.0, 0.1), (4, 5))],
)
def test_sampling_is_eq_5_as_a_double_sum(centre, lengths):
    torch.manual_seed(0)
    U = torch.randn(2, 7, 5, dtype=torch.float64)
    half = torch.tensor(lengths) / (2 * torch.tensor([5.0, 7.0]))
    box = torch.cat([torch.tensor(centre) - half, torch.tensor(centre) + half])
    output = sample(U[None], box[None], (4, 3))
    torch.testing.assert_close(output[0], eq_5(U, centre, lengths, (4, 3)), atol=1e-5, rtol=1e-4)


def test_a_box_of_the_whole_map_at_its_own_size_is_the_map():
    x = torch.randn(2, 3, 6, 4)
    torch.testing.assert_close(sample(x, torch.tensor([[0.0, 0, 1, 1]] * 2), (6, 4)), x)


def test_places_are_not_rounded_where_the_map_is_bf16():
    x = torch.randn(1, 1, 64, 32).bfloat16()
    boxes = torch.tensor([[0.2013, 0.3049, 0.8123, 0.9077]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = sample(x, boxes, (8, 8))
    torch.testing.assert_close(output, sample(x.float(), boxes, (8, 8)), atol=1e-5, rtol=1e-4)


def test_the_gradient_in_the_box_parameters_is_that_of_finite_differences():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 6)
    direction = torch.randn(1, 2, 3, 4)
    parameters = torch.tensor([[[0.13, -0.21, 1.1, 1.3]]], requires_grad=True)  # atanh dC, log l of one region

    def value(p):
        boxes = boxes_of(p, torch.tensor([[0.5, 0.4]]), 8, 6)
        return (sample(x, boxes[:, 0], (3, 4)).double() * direction).sum()

    (gradient,) = torch.autograd.grad(value(parameters), parameters)
    for position in range(4):
        step = torch.zeros(1, 1, 4)
        step[..., position] = 1e-3
        with torch.no_grad():
            difference = (value(parameters + step) - value(parameters - step)) / 2e-3
        assert gradient[0, 0, position].item() == pytest.approx(difference.item(), rel=0.02, abs=0.01)


# ------------------------------------------------------------------ location, eq. 1-3


def test_boxes_are_eq_2():
    # W = 10, H = 20; tanh(atanh) = 0.1 and -0.2; l = (4, 5): x from (0.5 + 0.1) 10 - 2 to + 2, y from (0.75 - 0.2) 20 -
    # 2.5.
    parameters = torch.tensor([[[0.1, -0.2, 4.0, 5.0]]])
    parameters = torch.cat([parameters[..., :2].atanh(), parameters[..., 2:].log()], dim=2)
    box = boxes_of(parameters, torch.tensor([[0.5, 0.75]]), 20, 10)
    torch.testing.assert_close(box * torch.tensor([10, 20, 10, 20]), torch.tensor([[[4.0, 8.5, 8.0, 13.5]]]))


def test_location_loss_is_eq_3_with_unknown_boxes_left_out():
    boxes = torch.tensor([[[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1]], [[0.3, 0.3, 0.7, 0.9], [0, 0, 1, 1]]])
    low = torch.tensor([[0.3, 0.2], [0.25, 0.4]])  # min of the joints of the known regions, then max
    high = torch.tensor([[0.4, 0.5], [0.65, 0.75]])
    targets = torch.zeros(2, 2, 4)
    targets[:, 0] = torch.cat([low - 0.05, high + 0.05], dim=1)
    known = torch.tensor([[True, False], [True, False]])
    first = (0.1 - 0.25) ** 2 + (0.2 - 0.15) ** 2 + (0.5 - 0.45) ** 2 + (0.6 - 0.55) ** 2
    second = (0.3 - 0.2) ** 2 + (0.3 - 0.35) ** 2 + (0.7 - 0.7) ** 2 + (0.9 - 0.8) ** 2
    assert location_loss(boxes, targets, known).item() == pytest.approx((first + second) / 2)
    nothing = location_loss(boxes.requires_grad_(), targets, torch.zeros_like(known))
    nothing.backward()
    assert nothing == 0 and boxes.grad.abs().sum() == 0


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_boxes_start_at_table_1s_priors(stage):
    torch.manual_seed(0)
    regions = regions_of(stage)
    height, width = {1: (64, 32), 2: (32, 16), 3: (16, 8)}[stage]
    boxes = LocationModule(4, height, width, regions, hidden_channels=3)(torch.randn(2, 4, height, width))
    pixels = boxes[1] * torch.tensor([width, height, width, height])
    for region, (x_min, y_min, x_max, y_max) in zip(regions, pixels.tolist(), strict=True):
        assert (x_max - x_min, y_max - y_min) == pytest.approx((region.M, region.N))
        assert ((x_min + x_max) / 2, (y_min + y_max) / 2) == pytest.approx(
            (region.centre[0] * width, region.centre[1] * height), abs=1e-4
        )


def test_position_survives_in_the_location_module():
    """The same bright spot elsewhere gives other boxes once the last layer is not zero."""
    torch.manual_seed(0)
    module = LocationModule(1, 8, 8, regions_of(3), hidden_channels=2).eval()
    torch.nn.init.normal_(module.linear.weight)
    spots = torch.zeros(2, 1, 8, 8)
    spots[0, 0, 1, 1] = spots[1, 0, 5, 5] = 1
    first, second = module(spots)
    assert not torch.allclose(first, second)


# ------------------------------------------------------------------ guidance


def test_convolving_and_upsampling_commute():
    torch.manual_seed(0)
    guidance = SemanticGuidance(6, 4).double()
    x, last = torch.randn(2, 4, 16, 8, dtype=torch.float64), torch.randn(2, 6, 4, 2, dtype=torch.float64)
    ours = guidance(x, last)
    guidance.upsample_first = True
    torch.testing.assert_close(guidance(x, last), ours)
    enlarged = functional.interpolate(last, size=(16, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, x + functional.conv2d(enlarged, guidance.convolution.weight))


# ------------------------------------------------------------------ the whole network


@pytest.mark.parametrize("variant", ROWS)
def test_gradient_reaches_every_parameter_in_every_row(variant):
    torch.manual_seed(0)
    settings = config(variant)
    model = small(variant)
    for stage in model.box_stages:  # zero at the start, so that nothing behind the last layer would have a gradient
        torch.nn.init.normal_(model.branches[str(stage)].location.linear.weight, std=0.1)
    outputs = model(torch.randn(4, 3, 128, 64), given_boxes(settings, 4))
    assert (model.feature_stages, model.box_stages) == ROWS[variant]
    assert [boxes.shape[1] for boxes in outputs.boxes] == [len(regions_of(stage)) for stage in model.box_stages]
    targets, known = torch.rand(4, 7, 4), torch.ones(4, 7, dtype=torch.bool)
    terms = loss_terms(model, outputs, torch.tensor([0, 0, 1, 1]), targets, known, settings)
    sum(terms.values()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith("neck.bias") for name in set(dict(model.named_parameters())) - set(trained))
    assert not [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("variant", ROWS)
def test_the_test_feature_is_eq_6(variant):
    model = small(variant).eval()
    images, boxes = torch.randn(2, 3, 128, 64), given_boxes(config(variant), 2)
    feature = model.embed(images, boxes)
    stages, _ = ROWS[variant]
    size = 512 if stages == [4] else 8
    weights = [(0.35, 0.5, 0.7, 0.8)[stage - 1] for stage in stages]
    assert feature.shape == (2, len(stages) * size)
    norms = feature.unflatten(1, (len(stages), size)).norm(dim=2)
    torch.testing.assert_close(norms, torch.tensor(weights).expand(2, -1))
    torch.testing.assert_close(feature, weighted(model.stage_features(images, boxes), weights))


def test_eq_9_weighs_the_first_three_stages():
    model, settings = small("full"), config()
    outputs = model(torch.randn(4, 3, 128, 64))
    labels, targets = torch.tensor([0, 0, 1, 2]), prior_boxes().expand(4, -1, -1) + 0.1
    known = torch.ones(4, 7, dtype=torch.bool)

    def total(**changes):
        return sum(loss_terms(model, outputs, labels, targets, known, config(**changes)).values()).item()

    fourth = total(stage_loss_weight=0)
    assert total() - fourth == pytest.approx((total(stage_loss_weight=1) - fourth) / 2, rel=1e-5)
    located = loss_terms(model, outputs, labels, targets, known, settings)["location_loss"].item()
    assert located == pytest.approx(20 * 0.5 * 3 * 4 * 0.1**2, rel=1e-4)  # each box off by 0.1 on four sides
    smoothed = functional.cross_entropy(outputs.logits[3].float(), labels, label_smoothing=0.1).item()
    assert loss_terms(model, outputs, labels, targets, known, config(stage_loss_weight=0))[
        "identity_loss"
    ].item() == pytest.approx(smoothed)


def test_boxes_straight_from_poses_fall_back_to_the_priors():
    joints = torch.zeros(2, 17, 3)
    joints[0, 0] = torch.tensor([0.5, 0.1, 2])  # a nose only
    boxes = boxes_from_poses(*target_boxes(joints))
    torch.testing.assert_close(boxes[0, 0], torch.tensor([0.45, 0.05, 0.55, 0.15]))
    torch.testing.assert_close(boxes[0, 1], prior_boxes()[1])
    torch.testing.assert_close(boxes[1], prior_boxes())


def test_given_boxes_are_what_is_sampled():
    model = small("without_jo").eval()
    images, boxes = torch.randn(1, 3, 128, 64), prior_boxes()[None].clone()
    before = model.stage_features(images, boxes)
    boxes[:, positions_of(2)] += 0.1
    changed = (model.stage_features(images, boxes) - before).abs().amax((0, 2)) > 1e-6
    assert changed.tolist() == [False, True, False, False]


def test_whole_image_stages_and_single_grained_features_read_the_maps_they_name():
    model = small("single_grained_features")
    stage_maps = model.stage_maps(torch.randn(1, 3, 128, 64))
    assert all(stage_maps[stage] is stage_maps[4] for stage in (1, 2, 3)) and not model.guidance
    maps, _ = small("single_grained_regions").region_maps(torch.randn(1, 3, 128, 64))
    assert [len(maps[stage]) for stage in (1, 2, 3, 4)] == [1, 1, 1, 1]
    maps, _ = small("full").region_maps(torch.randn(1, 3, 128, 64))
    assert [tuple(x.shape[2:]) for x in maps[1]] == [(4, 4), (16, 8), (16, 8), (12, 16)]  # Table 1 on a 32x16 map
    assert [tuple(x.shape[2:]) for x in (*maps[2], *maps[3])] == [(8, 8), (8, 8), (8, 4)]


def test_compute_is_table_8s():
    """GMACs at 256x128; the paper calls them GFLOPs."""

    def gmacs(variant, **overrides):
        with torch.device("meta"):
            model = build_model(config(variant, demo=False, pretrained="none", **overrides), num_identities=751)
        return {name: value / 1e9 for name, value in model_size(model, 256, 128).items()}

    assert gmacs("baseline", backbone="resnet101")["macs"] == pytest.approx(6.50, rel=0.01)
    assert gmacs("baseline", backbone="resnet152")["macs"] == pytest.approx(8.95, rel=0.01)
    full = gmacs("full")
    assert full["macs_as_printed"] == pytest.approx(7.89, rel=0.03)
    assert full["macs"] == pytest.approx(6.30, rel=0.01)


def test_sizes_of_the_paper():
    with torch.device("meta"):
        model = build_model(config(demo=False, pretrained="none"), num_identities=751)
    assert [region.sampled_size(*{1: (64, 32), 2: (32, 16), 3: (16, 8)}[region.stage]) for region in REGIONS] == [
        (region.N, region.M) for region in REGIONS
    ]
    assert model.branches["1"].location.linear.in_features == 128 * 32 * 16
    assert [model.embeddings[name].linear.out_features for name in model.embeddings] == [512] * 4
    assert count_macs(model.branches["4"].extraction[0], torch.empty(1, 2048, 16, 8)) > 0


def test_learning_rate_warms_up_and_steps_down():
    settings = config(demo=False)
    expected = {
        0: 3.5e-6,
        5: 3.5e-4 * 0.505,
        10: 3.5e-4,
        119.9: 3.5e-4,
        120: 1.05e-4,
        150: 3.15e-5,
        239: 3.5e-4 * 0.3**4,
    }
    for epochs_done, rate in expected.items():
        assert learning_rate(epochs_done, settings) == pytest.approx(rate)


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(UserError, match="must be among stages"):
        config("baseline", whole_image_stages=[3])
    with pytest.raises(UserError, match="exclude each other"):
        config("without_jo", location_only=True)
    assert [variant for variant in ROWS if not config(variant).needs_poses] == ["baseline", "single_grained_regions"]
