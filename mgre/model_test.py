"""The network in every row of Tables 4, 5 and 7: gradients, test feature, compute; settings and learning rate."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from common.errors import UserError
from common.runs.settings import load_settings

from .losses import Batch, losses
from .model import MGRe, SemanticGuidance, weighted
from .regions import REGIONS, positions_of, prior_boxes, regions_of
from .scores import network_size
from .settings import Settings
from .train import learning_rate

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
    "boxes_detached": ([1, 2, 3, 4], [1, 2, 3]),
    "boxes_fixed": ([1, 2, 3, 4], []),
}


def settings_of(variant="full", *, demo=True, **overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="market1501", demo=demo, variant=variant, overrides=overrides)


def small(variant, **overrides):
    """A network that tests build and run in no time."""
    return MGRe(3, settings_of(variant, feature_size=8, location_channels=4, **overrides))


def given_boxes(settings, batch):
    return prior_boxes().expand(batch, -1, -1) if settings.pose_boxes else None


def test_convolving_and_upsampling_commute():
    torch.manual_seed(0)
    guidance = SemanticGuidance(6, 4).double()
    x, last = torch.randn(2, 4, 16, 8, dtype=torch.float64), torch.randn(2, 6, 4, 2, dtype=torch.float64)
    ours = guidance(x, last)
    guidance.upsample_first = True
    torch.testing.assert_close(guidance(x, last), ours)
    enlarged = functional.interpolate(last, size=(16, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, x + functional.conv2d(enlarged, guidance.convolution.weight))


@pytest.mark.parametrize("variant", ROWS)
def test_gradient_reaches_every_parameter_in_every_row(variant):
    torch.manual_seed(0)
    settings, model = settings_of(variant), small(variant)
    for stage in model.box_stages:  # zero at the start, so that nothing behind the last layer would have a gradient
        torch.nn.init.normal_(model.branches[str(stage)].location.linear.weight, std=0.1)
    output = model(torch.randn(4, 3, 128, 64), given_boxes(settings, 4))
    assert (list(output.features), list(output.boxes)) == ROWS[variant]
    assert all(boxes.shape[1] == len(regions_of(stage)) for stage, boxes in output.boxes.items())
    batch = Batch(torch.tensor([0, 0, 1, 1]), torch.rand(4, 7, 4), torch.ones(4, 7, dtype=torch.bool))
    losses(output, batch, settings)["loss"].backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith("neck.bias") for name in set(dict(model.named_parameters())) - set(trained))
    assert not [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("variant", ROWS)
def test_the_test_feature_is_eq_6(variant):
    model = small(variant).eval()
    images, boxes = torch.randn(2, 3, 128, 64), given_boxes(settings_of(variant), 2)
    feature = model.embed(images, boxes)
    stages, _ = ROWS[variant]
    size = 512 if stages == [4] else 8
    weights = [(0.35, 0.5, 0.7, 0.8)[stage - 1] for stage in stages]
    assert feature.shape == (2, len(stages) * size)
    norms = feature.unflatten(1, (len(stages), size)).norm(dim=2)
    torch.testing.assert_close(norms, torch.tensor(weights).expand(2, -1))
    torch.testing.assert_close(feature, weighted(model.stage_features(images, boxes), weights))


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
            settings = settings_of(variant, demo=False, pretrained="none", **overrides)
            model = MGRe(751, settings)
        return {name: value / 1e9 for name, value in network_size(model, settings).items()}

    assert gmacs("baseline", backbone="resnet101")["macs"] == pytest.approx(6.50, rel=0.01)
    assert gmacs("baseline", backbone="resnet152")["macs"] == pytest.approx(8.95, rel=0.01)
    full = gmacs("full")
    assert full["macs_as_printed"] == pytest.approx(7.89, rel=0.03)
    assert full["macs"] == pytest.approx(6.30, rel=0.01)


def test_sizes_of_the_paper():
    with torch.device("meta"):
        model = MGRe(751, settings_of(demo=False, pretrained="none"))
    assert [region.sampled_size(*{1: (64, 32), 2: (32, 16), 3: (16, 8)}[region.stage]) for region in REGIONS] == [
        (region.N, region.M) for region in REGIONS
    ]
    assert model.branches["1"].location.linear.in_features == 128 * 32 * 16
    assert [model.embeddings[name].linear.out_features for name in model.embeddings] == [512] * 4


def test_learning_rate_warms_up_and_steps_down():
    settings = settings_of(demo=False)
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


def test_rows_differ_from_the_full_model_in_nothing_else():
    one_score, no_scores = {"feature_weight_scores": False}, {"feature_weight_scores": False, "occluded_scores": False}
    expected = {
        "full": {},
        "baseline": {"stages": []} | one_score,
        "stage1": {"stages": [1]} | no_scores,
        "stage2": {"stages": [2]} | no_scores,
        "stage3": {"stages": [3]} | no_scores,
        "stages23": {"stages": [2, 3]} | no_scores,
        "single_grained_features": {"single_grained_features": True} | no_scores,
        "single_grained_regions": {"whole_image_stages": [1, 2, 3]} | no_scores,
        "whole_image_stage3": {"whole_image_stages": [3]} | no_scores,
        "baseline_jo": {"location_only": True} | no_scores,
        "without_jo": {"pose_boxes": True} | no_scores,
        "boxes_detached": {"box_gradient": "detached"} | no_scores,
        "boxes_fixed": {"fixed_boxes": True} | no_scores,
    }
    assert list(expected) == list(ROWS)
    for demo in (False, True):
        full = asdict(settings_of(demo=demo))
        assert full["stages"] == [1, 2, 3] and full["occluded_scores"] and full["feature_weight_scores"]
        for variant, changes in expected.items():
            of = asdict(settings_of(variant, demo=demo))
            assert {name: value for name, value in of.items() if value != full[name]} == changes, variant


def test_what_the_demo_changes():
    paper, demo = (asdict(settings_of(demo=demo)) for demo in (False, True))
    assert {name: value for name, value in demo.items() if value != paper[name]} == {
        "height": 128,
        "width": 64,
        "backbone": "resnet18",
        "pretrained": "synthetic",
        "location_channels": 64,
        "location_start": "mean",
        "box_gradient": "clipped",
        "box_gradient_factor": 0.3,
        "feature_size": 128,
        "identities_per_batch": 8,
        "num_epochs": 6,
        "warmup_epochs": 1,
        "decay_epochs": [3, 4, 5],
    }
    assert (paper["location_start"], paper["box_gradient"]) == ("table1", "full")


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(UserError, match="must be among stages"):
        settings_of("baseline", whole_image_stages=[3])
    with pytest.raises(UserError, match="exclude each other"):
        settings_of("without_jo", location_only=True)
    assert [variant for variant in ROWS if not settings_of(variant).needs_poses] == [
        "baseline",
        "single_grained_regions",
    ]
