"""DFW's network: its streams, its modules and its size, in the rows of Table 1."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from common.runs.settings import load_settings

from .losses import Batch, losses
from .model import CrossModalityNet, generalised_mean, model_size
from .settings import Settings
from .train import build_optimiser
from .weakening import DynamicFeatureWeakening

ROWS = ["baseline", "dfw", "sln", "re", "dfw_re", "dfw_sln", "sln_re", "full"]


def settings_of(variant="full", *, demo=True, **overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset="sysu_mm01", demo=demo, variant=variant, overrides=overrides)


def images(count=4, height=64, width=32, seed=0):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_generalised_mean_goes_from_mean_to_maximum():
    maps = torch.rand(3, 5, 4, 2) + 0.1
    torch.testing.assert_close(generalised_mean(maps, 1.0, dim=(2, 3)), maps.mean((2, 3)))
    torch.testing.assert_close(generalised_mean(maps, 60.0, dim=(1,)), maps.amax(1), rtol=0.03, atol=0)
    by_hand = ((1 + 8 + 27) / 3) ** (1 / 3)
    assert generalised_mean(torch.tensor([[1.0, 2, 3]]), 3.0, dim=(1,)).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("variant", ROWS)
def test_gradient_reaches_every_parameter_in_every_row_of_table_1(variant):
    torch.manual_seed(0)
    settings = settings_of(variant, height=64, width=32, identities_per_batch=2)
    model = CrossModalityNet(5, settings)
    batch = Batch(torch.tensor([0, 0, 1, 1]).repeat(2), torch.arange(8) < 4, torch.Generator())
    losses(model(images(seed=1), images(seed=2)), batch, settings)["loss"].backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.startswith("necks.") for name in set(dict(model.named_parameters())) - set(trained))
    assert not [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    optimised = [p for group in build_optimiser(model, settings).param_groups for p in group["params"]]
    assert {id(p) for p in optimised} == {id(p) for p in model.parameters()} and len(optimised) == len(set(optimised))


def test_table_1s_rows_have_what_they_name():
    def switches(variant):
        settings = settings_of(variant)
        model = CrossModalityNet(3, settings)
        weakened = sum(isinstance(module, DynamicFeatureWeakening) for module in model.weakening.values())
        return weakened, len(model.sub_networks), settings.erasing_probability > 0

    assert switches("baseline") == (0, 1, False)
    assert switches("dfw") == (2, 1, False)
    assert switches("sln") == (0, 2, False)
    assert switches("re") == (0, 1, True)
    assert switches("dfw_re") == (2, 1, True)
    assert switches("dfw_sln") == (2, 2, False)
    assert switches("sln_re") == (0, 2, True)
    assert switches("full") == (2, 2, True)


@pytest.mark.parametrize("dataset", ["sysu_mm01", "regdb", "regdb-10"])
def test_table_1s_rows_differ_in_nothing_else(dataset):
    without = {
        "DFW": {"dfw": False},
        "SLN": {"sln": False, "centre_triplet": False},
        "RE": {"erasing_probability": 0.0},
    }
    rows = {"baseline": (), "dfw": ("DFW",), "sln": ("SLN",), "re": ("RE",), "dfw_re": ("DFW", "RE")}
    rows |= {"dfw_sln": ("DFW", "SLN"), "sln_re": ("SLN", "RE"), "full": ("DFW", "SLN", "RE")}
    assert set(rows) == set(ROWS)
    folder = Path(__file__).parent
    for demo in (False, True):
        of = {
            row: asdict(load_settings(Settings, folder, dataset=dataset, demo=demo, variant=row, overrides={}))
            for row in rows
        }
        for row, parts in rows.items():
            expected = {}
            for part in without.keys() - parts:
                expected |= without[part]
            assert {name: value for name, value in of[row].items() if value != of["full"][name]} == expected, row


def test_size_at_the_papers_settings():
    """Table 2: 23.74 M and 10.301 G for a pair. It prints 26.71 M for the whole model, whose FLOPs (15.150 G, one more
    layer4 for both images) need 38.70 M."""

    def size(variant, num_identities=395):
        settings = settings_of(variant, demo=False, pretrained="none")
        with torch.device("meta"):
            return model_size(CrossModalityNet(num_identities, settings), settings)

    baseline, full = size("baseline"), size("full")
    assert baseline["num_parameters"] == pytest.approx(23.73e6, rel=0.01)
    assert baseline["macs_pair"] == pytest.approx(10.26e9, rel=0.01)
    assert size("baseline", num_identities=206) == baseline and size("full", num_identities=206) == full
    assert full["num_parameters"] == pytest.approx(38.70e6, rel=0.01)
    assert full["macs_pair"] - baseline["macs_pair"] == pytest.approx(4.849e9, rel=0.01)
    assert size("dfw") == baseline  # no parameters, and nothing that counts


def test_the_streams_are_apart_and_the_rest_is_shared():
    model = CrossModalityNet(3, settings_of()).eval()
    x = images(2)
    torch.testing.assert_close(model.embed(x, "visible"), model.embed(x, "infrared"))  # they start alike
    with torch.no_grad():
        for parameter in model.infrared_stream.parameters():
            parameter += 0.1
    assert not torch.allclose(model.embed(x, "visible"), model.embed(x, "infrared"))
    torch.testing.assert_close(model.embed(x, "infrared"), model.embed(x, "thermal"))
    output = model(x, x)
    assert (
        output.features.shape == (2, 4, 512) and output.logits.shape == (2, 4, 3) and output.maps.shape == (2, 4, 4, 2)
    )
    pooled = torch.stack([model.pooled(F_s) for F_s in model.feature_maps(x, "visible")])
    torch.testing.assert_close(output.features[:, :2], pooled)
    assert model.embed(x, "visible").shape == (2, 1024)
    torch.testing.assert_close(model.embed(x, "visible").norm(dim=1), torch.ones(2))


def test_swapped_modalities_change_the_features():
    model = CrossModalityNet(3, settings_of()).eval()
    with torch.no_grad():
        for parameter in model.infrared_stream.parameters():
            parameter += 0.05
    a, b = images(seed=1), images(seed=2)
    assert not torch.allclose(model(a, b).features, model(b, a).features.roll(4, dims=1))


@pytest.mark.parametrize("places", [["layer2", "layer3"], ["layer3"], ["layer2"], []])
def test_weakening_stands_behind_the_named_stages(places):
    model = CrossModalityNet(3, settings_of("dfw", dfw_after=places)).eval()
    x = images(2)
    dfw = DynamicFeatureWeakening("D1", alpha=0.5)
    expected = model.visible_stream(x)
    for stage in ("layer2", "layer3"):
        expected = getattr(model, stage)(expected)
        expected = dfw(expected) if stage in places else expected
    torch.testing.assert_close(model.feature_maps(x, "visible")[0], model.sub_networks[0](expected))


def test_the_two_sub_networks_start_apart():
    model = CrossModalityNet(3, settings_of())
    for first, second in zip(model.sub_networks[0].parameters(), model.sub_networks[1].parameters(), strict=True):
        assert first is not second
        if first.ndim == 4:
            assert (first - second).std().item() == pytest.approx(0.1 * first.std().item(), rel=0.05)
    output = model(images(seed=1), images(seed=2))
    assert not torch.allclose(output.maps[0], output.maps[1])
