"""DFW's modules and losses against the paper's equations written out plainly."""

import copy
import json
import math

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from common.command_line import command_line
from common.config import load_config
from common.runs import Run, paper_folder
from dfw_crossmodal import figures
from dfw_crossmodal import train as training
from dfw_crossmodal.evaluate import LoadedRun
from dfw_crossmodal.losses import centres, hetero_centre_triplet, overlap_penalty, triplet
from dfw_crossmodal.model import Output, generalised_mean, model_size
from dfw_crossmodal.train import Config, build_model, build_optimiser, embedders, learning_rate, losses
from dfw_crossmodal.weakening import DynamicFeatureWeakening, response

ROWS = ["baseline", "dfw", "sln", "re", "dfw_re", "dfw_sln", "sln_re", "full"]


def config(variant="full", *, demo=True, dataset="sysu_mm01", **overrides):
    folder = paper_folder("dfw_crossmodal")
    return load_config(Config, folder, dataset=dataset, demo=demo, variant=variant, overrides=overrides)


def images(count=4, height=64, width=32, seed=0):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ eq. 1-3

# Two channels of 2 x 3 cells. Mean over channels: [[1, 2, 3], [0, 4, 2]]; maximum: [[2, 2, 5], [0, 4, 3]].
MAP = torch.tensor([[[[2.0, 2, 1], [0, 4, 3]], [[0.0, 2, 5], [0, 4, 1]]]])
RESPONSE = torch.tensor([[[3.0, 4, 8], [0, 8, 5]]])  # eq. 1; its mean is 28 / 6 = 4.67, its range 0 to 8


def test_response_is_eq_1():
    torch.testing.assert_close(response(MAP), RESPONSE)


@pytest.mark.parametrize(
    ("form", "numbers", "expected"),
    [
        # At or above the mean: 8, 8 and 5, so e = 3/6.
        ("D1", {"alpha": 0.2}, [[1, 1, 0.2], [1, 0.2, 0.2]]),
        ("D3", {}, [[1, 1, 1 / 2], [1, 1 / 2, 1 / 2]]),
        # Stretched to [0, 1]: 3/8, 4/8, 1, 0, 1, 5/8. At or above 0.5 are four, so e = 4/6; above 0.8 two, e = 2/6.
        ("D2", {"beta": 0.5}, [[1, 2 / 3, 2 / 3], [1, 2 / 3, 2 / 3]]),
        ("D2", {"beta": 0.8}, [[1, 1, 1 / 3], [1, 1 / 3, 1]]),
    ],
)
def test_matrix_is_eq_2_and_the_map_is_multiplied_by_it(form, numbers, expected):
    dfw = DynamicFeatureWeakening(form, **numbers)
    M = torch.tensor([expected], dtype=torch.float32)
    torch.testing.assert_close(dfw.matrix(RESPONSE), M)
    torch.testing.assert_close(dfw(MAP), MAP * M[:, None])
    gated = DynamicFeatureWeakening(form, **numbers, gate="sigmoid")
    by_hand = [
        [1 / (1 + math.exp(-f * m)) for f, m in zip(*rows, strict=True)] for rows in zip(RESPONSE[0], M[0], strict=True)
    ]
    torch.testing.assert_close(gated(MAP), MAP * torch.tensor(by_hand))  # eq. 3


@pytest.mark.parametrize("form", ["D1", "D2", "D3"])
def test_each_image_is_weakened_by_its_own_threshold(form):
    maps = torch.rand(5, 7, 6, 3) * torch.tensor([1.0, 10, 0.1, 3, 50]).view(5, 1, 1, 1)
    dfw = DynamicFeatureWeakening(form)
    torch.testing.assert_close(dfw(maps), torch.cat([dfw(maps[i : i + 1]) for i in range(5)]))


def test_weakening_keeps_shape_and_type_and_lets_gradients_through():
    maps = torch.rand(2, 5, 4, 3, dtype=torch.bfloat16, requires_grad=True)
    for gate in ("multiply", "sigmoid"):
        out = DynamicFeatureWeakening("D3", gate=gate)(maps)
        assert out.shape == maps.shape and out.dtype == maps.dtype
        (gradient,) = torch.autograd.grad(out.float().sum(), maps)
        assert torch.isfinite(gradient).all() and (gradient != 0).all()
    with pytest.raises(ValueError, match="D1, D2, D3, not 'D4'"):
        DynamicFeatureWeakening("D4")


def test_two_lines_put_it_into_a_torchvision_resnet():
    network = torchvision.models.resnet18(weights=None).eval()
    plain = copy.deepcopy(network)
    network.layer3 = torch.nn.Sequential(network.layer3, DynamicFeatureWeakening("D3"))
    x = images(2)
    maps = plain.layer3(plain.layer2(plain.layer1(plain.maxpool(plain.relu(plain.bn1(plain.conv1(x)))))))
    weakened = DynamicFeatureWeakening("D3")(maps)
    assert (weakened <= maps).all() and (weakened < maps).any()
    expected = plain.fc(plain.avgpool(plain.layer4(weakened)).flatten(1))
    torch.testing.assert_close(network(x), expected)
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in plain.parameters())


# ------------------------------------------------------------------ eq. 4-5

PENALTY = {"separation": 100.0, "image_size": (288, 144), "temperature": 0.25}


def peak(*cells, rows=18, columns=9, height=9.0):
    maps = torch.zeros(len(cells), rows, columns)
    for image, (row, column) in enumerate(cells):
        maps[image, row, column] = height
    return maps


def test_generalised_mean_goes_from_mean_to_maximum():
    maps = torch.rand(3, 5, 4, 2) + 0.1
    torch.testing.assert_close(generalised_mean(maps, 1.0, dim=(2, 3)), maps.mean((2, 3)))
    torch.testing.assert_close(generalised_mean(maps, 60.0, dim=(1,)), maps.amax(1), rtol=0.03, atol=0)
    by_hand = ((1 + 8 + 27) / 3) ** (1 / 3)
    assert generalised_mean(torch.tensor([[1.0, 2, 3]]), 3.0, dim=(1,)).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("centre", ["hard", "soft"])
def test_overlap_is_eq_5_over_S_in_pixels_of_the_input(centre):
    # A cell is 16 x 16 pixels. Distances: 3 and 4 cells, 80 pixels; none; 12 cells, 192 pixels, beyond S.
    first, second = peak((2, 1), (5, 5), (1, 4)), peak((5, 5), (5, 5), (13, 4))
    loss = overlap_penalty(first, second, centre=centre, **PENALTY)
    assert 100 * loss.item() == pytest.approx((20 + 100 + 0) / 3, abs=0.1)
    found = centres(first, image_size=(288, 144), centre=centre, temperature=0.25)
    torch.testing.assert_close(found[0], torch.tensor([40.0, 24.0]))


def test_hard_maxima_give_no_gradient():
    first, second = peak((2, 1)).requires_grad_(), peak((4, 5)).requires_grad_()
    loss = overlap_penalty(first, second, centre="hard", **PENALTY)
    assert loss > 0 and not loss.requires_grad


def test_soft_maxima_are_pushed_apart():
    """Two bumps a fraction of a cell from one another, moved by the loss alone."""
    rows, columns = torch.meshgrid(torch.arange(18.0), torch.arange(9.0), indexing="ij")

    def bump(row, column):
        return torch.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4)[None]

    first, second = bump(8.0, 4.0).requires_grad_(), bump(8.3, 4.0).requires_grad_()
    optimiser = torch.optim.SGD([first, second], lr=1.0)

    def distance():
        sizes = {"image_size": (288, 144), "centre": "soft", "temperature": 0.25}
        return (centres(first, **sizes) - centres(second, **sizes)).norm().item()

    before = distance()
    assert 0 < before < 8
    for _ in range(300):
        optimiser.zero_grad()
        overlap_penalty(first, second, centre="soft", **PENALTY).backward()
        optimiser.step()
    assert distance() > 10 * before


def test_soft_maxima_that_coincide_have_a_finite_gradient():
    first = torch.rand(3, 18, 9)
    second = first.clone().requires_grad_()
    first.requires_grad_()
    overlap_penalty(first, second, centre="soft", **PENALTY).backward()
    assert torch.isfinite(first.grad).all() and torch.isfinite(second.grad).all()
    flat = torch.ones(1, 18, 9, requires_grad=True)
    overlap_penalty(flat, flat, centre="soft", **PENALTY).backward()
    assert torch.isfinite(flat.grad).all()


# ------------------------------------------------------------------ eq. 6 and the triplet of L_ReID


def slow_hetero_centre_triplet(features, labels, visible, rho):
    """Eq. 6, loop for loop."""
    identities = sorted(set(labels.tolist()))
    centre = {
        (modality, i): np.mean(
            [f for f, y, v in zip(features, labels, visible, strict=True) if y == i and v == modality], axis=0
        )
        for modality in (True, False)
        for i in identities
    }
    total = 0.0
    for own in (True, False):
        for i in identities:
            positive = np.linalg.norm(centre[own, i] - centre[not own, i])
            negatives = [
                np.linalg.norm(centre[own, i] - centre[n, j]) for n in (True, False) for j in identities if j != i
            ]
            total += max(0.0, rho + positive - min(negatives))
    return total


@pytest.mark.parametrize("rho", [0.0, 0.3, 5.0])
def test_hetero_centre_triplet_is_eq_6(rho):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([7, 7, 3, 3, 9, 9]).repeat(2)[torch.randperm(12, generator=generator)]
    visible = torch.zeros(12, dtype=torch.bool)
    for label in (3, 7, 9):
        visible[(labels == label).nonzero()[:2]] = True
    features = torch.randn(12, 4, generator=generator, requires_grad=True)
    loss = hetero_centre_triplet(features, labels, visible, margin=rho)
    slow = slow_hetero_centre_triplet(features.detach().double().numpy(), labels, visible.numpy(), rho)
    assert loss.item() == pytest.approx(slow, rel=1e-5, abs=1e-5)
    hetero_centre_triplet(features * 0, labels, visible, margin=rho).backward()  # all centres coincide
    assert torch.isfinite(features.grad).all()


def test_random_triplets_lie_between_the_easiest_and_the_hardest():
    features, labels = torch.randn(12, 4), torch.arange(3).repeat(4)
    sizes = {"margin": 100.0, "generator": torch.Generator().manual_seed(0)}  # no bracket is cut off
    hard = triplet(features, labels, mining="hard", **sizes)
    draws = [triplet(features, labels, mining="random", **sizes) for _ in range(200)]
    assert all(draw <= hard for draw in draws) and len({draw.item() for draw in draws}) > 100
    distances, same = torch.cdist(features, features), labels[:, None] == labels
    positives = (distances * same).sum() / (same.sum() - 12)
    expected = positives - distances[~same].mean() + 100
    assert torch.stack(draws).mean().item() == pytest.approx(expected.item(), abs=0.1)


# ------------------------------------------------------------------ the network


@pytest.mark.parametrize("variant", ROWS)
def test_gradient_reaches_every_parameter_in_every_row_of_table_1(variant):
    torch.manual_seed(0)
    settings = config(variant, height=64, width=32)
    model = build_model(settings, num_identities=5)
    labels = torch.tensor([0, 0, 1, 1]).repeat(2)
    visible = torch.arange(8) < 4
    terms = losses(model(images(seed=1), images(seed=2)), labels, visible, settings, torch.Generator())
    assert set(terms) == {"identity_loss", "triplet_loss"} | (
        {"centre_loss", "overlap_loss"} if settings.sln else set()
    )
    sum(terms.values()).backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.startswith("necks.") for name in set(dict(model.named_parameters())) - set(trained))
    assert not [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    optimised = [p for group in build_optimiser(model, settings).param_groups for p in group["params"]]
    assert {id(p) for p in optimised} == {id(p) for p in model.parameters()} and len(optimised) == len(set(optimised))


def test_table_1s_rows_have_what_they_name():
    def switches(variant):
        settings = config(variant)
        model = build_model(settings, num_identities=3)
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


def test_size_at_the_papers_settings():
    """Table 2: 23.74 M and 10.301 G for a pair. It prints 26.71 M for the whole model, whose FLOPs (15.150 G, one more
    layer4 for both images) need 38.70 M."""

    def size(variant):
        settings = config(variant, demo=False, pretrained="none")
        with torch.device("meta"):
            return model_size(build_model(settings, num_identities=395), settings.height, settings.width)

    baseline, full = size("baseline"), size("full")
    assert baseline["num_parameters"] == pytest.approx(23.73e6, rel=0.01)
    assert baseline["macs_pair"] == pytest.approx(10.26e9, rel=0.01)
    assert full["num_parameters"] == pytest.approx(38.70e6, rel=0.01)
    assert full["macs_pair"] - baseline["macs_pair"] == pytest.approx(4.849e9, rel=0.01)
    assert size("dfw") == baseline  # no parameters, and nothing that counts


def test_the_streams_are_apart_and_the_rest_is_shared():
    model = build_model(config(), num_identities=3).eval()
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


@pytest.mark.parametrize("places", [["layer2", "layer3"], ["layer3"], ["layer2"], []])
def test_weakening_stands_behind_the_named_stages(places):
    model = build_model(config("dfw", dfw_after=places), num_identities=3).eval()
    x = images(2)
    dfw = DynamicFeatureWeakening("D1", alpha=0.5)
    expected = model.visible_stream(x)
    for stage in ("layer2", "layer3"):
        expected = getattr(model, stage)(expected)
        expected = dfw(expected) if stage in places else expected
    torch.testing.assert_close(model.feature_maps(x, "visible")[0], model.sub_networks[0](expected))


def test_the_two_sub_networks_start_apart():
    model = build_model(config(), num_identities=3)
    for first, second in zip(model.sub_networks[0].parameters(), model.sub_networks[1].parameters(), strict=True):
        assert first is not second
        if first.ndim == 4:
            assert (first - second).std().item() == pytest.approx(0.1 * first.std().item(), rel=0.05)
    output = model(images(seed=1), images(seed=2))
    assert not torch.allclose(output.maps[0], output.maps[1])


# ------------------------------------------------------------------ training


def test_per_dataset_settings_are_the_papers():
    sysu, regdb = config(demo=False), config(demo=False, dataset="regdb-7")
    assert (sysu.identities_per_batch, sysu.images_per_identity, sysu.overlap_weight, sysu.dfw_alpha) == (
        6,
        6,
        0.5,
        0.5,
    )
    assert (regdb.identities_per_batch, regdb.images_per_identity, regdb.overlap_weight, regdb.dfw_alpha) == (
        8,
        4,
        1,
        0.2,
    )
    assert regdb == config(demo=False, dataset="regdb")


def test_learning_rate():
    settings = config(demo=False)
    for epoch, rate in {1: 0.01, 5: 0.05, 10: 0.1, 20: 0.1, 21: 0.01, 50: 0.01, 51: 0.001, 60: 0.001}.items():
        assert learning_rate(epoch, settings) == pytest.approx(rate)
    shares = [group["rate"] for group in build_optimiser(build_model(config(), 3), settings).param_groups]
    assert shares == [0.1, 1.0]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.AdamW)])
def test_the_optimiser_is_the_one_asked_for_and_the_papers_is_sgd(name, kind):
    settings = config(demo=False, optimiser=name, backbone="resnet18", pretrained="none")
    optimiser = build_optimiser(build_model(settings, 3), settings)
    assert type(optimiser) is kind
    assert {group["weight_decay"] for group in optimiser.param_groups} == {settings.weight_decay}
    assert config(demo=False).optimiser == "sgd"


@pytest.fixture
def coloured_people(tmp_path):
    """A SYSU-MM01 folder whose visible images are pure red and whose infrared ones are grey; {person: cameras}."""
    people = {person: ((1, 3) if person % 2 else (4, 6)) for person in range(1, 9)}
    for camera in range(1, 7):
        (tmp_path / f"cam{camera}").mkdir()
    for person, (visible, infrared) in people.items():
        for camera, colour, count in ((visible, (255, 0, 0), 5), (infrared, (90, 90, 90), 1 + person % 4)):
            folder = tmp_path / f"cam{camera}" / f"{person:04d}"
            folder.mkdir()
            for number in range(count):
                Image.new("RGB", (16, 32), colour).save(folder / f"{number + 1:04d}.jpg", quality=100, subsampling=0)
    (tmp_path / "exp").mkdir()
    for half, persons in {"train": "1,2,3,4", "val": "5,6", "test": "7,8"}.items():
        (tmp_path / "exp" / f"{half}_id.txt").write_text(persons + "\n")
    return tmp_path


def a_run(folder, variant, colours="kept"):
    words = f"--demo --variant {variant} --device cpu --data-root {folder} --run-dir {folder}/run-{variant}".split()
    settings = "num_epochs=1 identities_per_batch=3 images_per_identity=2 height=64 width=32 padding=0 cache=false"
    settings += f" colours={colours} gamma_spread=0 gain_spread=0"
    arguments = command_line("x", dataset="sysu_mm01").parse_args([*words, "--set", *settings.split()])
    return Run.from_arguments("dfw_crossmodal", Config, arguments)


def test_each_stream_receives_its_own_modality(coloured_people, monkeypatch):
    seen = {"visible": [], "infrared": []}

    def spied(settings, num_identities):
        model = build_model(settings, num_identities)
        for name, found in seen.items():
            stream = getattr(model, f"{name}_stream")
            stream.register_forward_pre_hook(lambda module, args, found=found: found.append(args[0]))
        return model

    def colourful(x):
        """Whether all the pixels inside are red, or all grey; ImageNet's means and deviations undone."""
        mean, std = (
            torch.tensor(v).view(1, 3, 1, 1) for v in (training.augment.IMAGENET_MEAN, training.augment.IMAGENET_STD)
        )
        red, green, _ = (x.float() * std + mean)[:, :, 10:-10, 10:-10].unbind(1)
        return ((red - green).amin() > 0.9).item(), ((red - green).abs().amax() < 0.05).item()

    monkeypatch.setattr(training, "build_model", spied)
    run = a_run(coloured_people, "baseline")
    run.begin(resume=False, force=False)
    model = training.train(run).eval()
    assert all(batch.shape == (6, 3, 64, 32) for batches in seen.values() for batch in batches)
    assert len(seen["visible"]) == len(seen["infrared"]) >= 5
    assert all(colourful(batch) == (True, False) for batch in seen["visible"])
    assert all(colourful(batch) == (False, True) for batch in seen["infrared"])

    for found in seen.values():
        found.clear()
    embed = embedders(model, run)
    for modality, stream in {"visible": "visible", "infrared": "infrared", "thermal": "infrared"}.items():
        embed[modality](torch.zeros(2, 3, 64, 32, dtype=torch.uint8))
        assert len(seen[stream]) == 1 and sum(map(len, seen.values())) == 1
        seen[stream].clear()


@pytest.mark.parametrize(("colours", "told_apart"), [("kept", True), ("luma", False), ("mixed", False)])
def test_a_network_that_never_saw_colours_gets_none_at_test_time(coloured_people, colours, told_apart):
    run = a_run(coloured_people, "baseline", colours)
    embed = embedders(build_model(run.config, run.dataset.train.num_identities).eval(), run)["visible"]
    coloured = torch.tensor([200, 60, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 64, 32)
    luma = torch.full((1, 3, 64, 32), round(0.299 * 200 + 0.587 * 60 + 0.114 * 90), dtype=torch.uint8)
    assert torch.equal(embed(coloured), embed(luma)) != told_apart


def test_swapped_modalities_change_what_is_learned():
    """The centres of eq. 6 and the streams both tell visible from infrared."""
    settings = config(height=64, width=32)
    model = build_model(settings, num_identities=3).eval()
    with torch.no_grad():
        for parameter in model.infrared_stream.parameters():
            parameter += 0.05
    a, b = images(seed=1), images(seed=2)
    assert not torch.allclose(model(a, b).features, model(b, a).features.roll(4, dims=1))
    features = torch.randn(2, 8, 16)
    output = Output(features, torch.zeros(2, 8, 3), torch.rand(2, 8, 4, 2))
    labels, visible = torch.tensor([0, 0, 1, 1]).repeat(2), torch.arange(8) < 4
    right = losses(output, labels, visible, settings, torch.Generator())["centre_loss"]
    wrong = losses(output, labels, torch.arange(8) % 2 == 0, settings, torch.Generator())["centre_loss"]
    assert right != wrong


def test_the_two_figures_are_drawn_with_their_numbers(coloured_people):
    def loaded(variant):
        run = a_run(coloured_people, variant)
        model = build_model(run.config, run.dataset.train.num_identities).eval()
        return LoadedRun(run, model, embedders(model, run))

    file = coloured_people / "figure.png"
    heat = figures.fig1({"Baseline": loaded("baseline"), "DFW": loaded("dfw")}, file)
    assert 0 < file.stat().st_size < 300_000 and json.dumps(heat)
    assert [image["modality"] for image in heat["images"]] == ["visible", "infrared"] * 2
    assert [image["person"] for image in heat["images"]] == [7, 7, 8, 8]
    assert set(heat["maps"]) == set(heat["cover"]) == {"Baseline", "DFW"}

    ranking = figures.fig6({"Ours": loaded("full")}, file)
    assert 0 < file.stat().st_size < 300_000 and json.dumps(ranking)
    assert [query["direction"] for query in ranking["queries"]] == ["visible_to_infrared"] * 2 + ["all"] * 2
    for query in ranking["queries"]:
        assert query["correct"] == [name.split("/")[1] == query["name"].split("/")[1] for name in query["ranked"]]
        assert query["similarity"] == sorted(query["similarity"], reverse=True)
