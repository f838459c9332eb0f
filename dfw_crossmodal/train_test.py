"""Training and figures on a tiny SYSU-MM01 folder: the schedule, and which images reach which stream."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common import augment
from common.datasets.base import Sample, Search, Subset
from common.runs import open_run
from common.runs.settings import load_settings

from . import figures
from . import train as training
from .evaluate import network_of
from .figures import may_be_shown
from .model import CrossModalityNet
from .settings import Settings
from .train import build_optimiser, embedders, learning_rate


def settings_of(*, dataset="sysu_mm01", demo=False, **overrides):
    folder = Path(__file__).parent
    return load_settings(Settings, folder, dataset=dataset, demo=demo, variant="full", overrides=overrides)


def test_regdbs_ten_trials_share_settings_of_their_own():
    regdb = settings_of(dataset="regdb")
    assert regdb != settings_of()
    assert all(settings_of(dataset=f"regdb-{trial}") == regdb for trial in range(2, 11))


def test_learning_rate():
    settings = settings_of()
    for epoch, rate in {1: 0.01, 5: 0.05, 10: 0.1, 20: 0.1, 21: 0.01, 50: 0.01, 51: 0.001, 60: 0.001}.items():
        assert learning_rate(epoch, settings) == pytest.approx(rate)
    model = CrossModalityNet(3, settings_of(demo=True))
    assert [group["rate"] for group in build_optimiser(model, settings).param_groups] == [0.1, 1.0]


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.AdamW)])
def test_the_optimiser_is_the_one_asked_for(name, kind):
    settings = settings_of(optimiser=name, backbone="resnet18", pretrained="none")
    optimiser = build_optimiser(CrossModalityNet(3, settings), settings)
    assert type(optimiser) is kind
    assert {group["weight_decay"] for group in optimiser.param_groups} == {settings.weight_decay}


@pytest.fixture
def coloured_people(tmp_path):
    """A SYSU-MM01 folder whose visible images are pure red and whose infrared ones are grey."""
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
    return open_run(__package__, Settings, [*words, "--set", *settings.split()], dataset="sysu_mm01")


def test_each_stream_receives_its_own_modality(coloured_people, monkeypatch):
    seen = {"visible": [], "infrared": []}

    def spied(num_identities, settings):
        model = CrossModalityNet(num_identities, settings)
        for name, found in seen.items():
            stream = getattr(model, f"{name}_stream")
            stream.register_forward_pre_hook(lambda module, args, found=found: found.append(args[0]))
        return model

    def colourful(x):
        """Whether all the pixels inside are red, or all grey; ImageNet's means and deviations undone."""
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (augment.IMAGENET_MEAN, augment.IMAGENET_STD))
        red, green, _ = (x.float() * std + mean)[:, :, 10:-10, 10:-10].unbind(1)
        return ((red - green).amin() > 0.9).item(), ((red - green).abs().amax() < 0.05).item()

    monkeypatch.setattr(training, "CrossModalityNet", spied)
    run = a_run(coloured_people, "baseline")
    run.begin()
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


def test_a_record_has_the_scores_of_the_first_search_for_its_own(coloured_people, monkeypatch):
    """And they are those of a network in evaluation mode, whose features do not depend on the rest of the batch."""
    made = {}

    def scored(embed, dataset, settings, **options):
        made.update(embed=embed, searches=[search.name for search in dataset.searches], options=options)
        images = torch.randint(0, 256, (4, 3, 64, 32), dtype=torch.uint8)
        for modality in ("visible", "infrared"):
            torch.testing.assert_close(embed[modality](images)[:1], embed[modality](images[:1]), rtol=1e-2, atol=1e-3)
        return {name: {"mAP": 0.1 * place, "rank1": 0.5} for place, name in enumerate(made["searches"])}

    monkeypatch.setattr(training, "evaluate", scored)
    words = f"--demo --variant baseline --device cpu --data-root {coloured_people} --run-dir {coloured_people}/run"
    settings = "num_epochs=1 identities_per_batch=3 images_per_identity=2 height=64 width=32 cache=false"
    training.main([*words.split(), "--set", *settings.split(), "pretrained=none"])
    scores = json.loads((coloured_people / "run" / "result.json").read_text())["scores"]
    assert made["searches"][0] == "all" and len(made["searches"]) > 1 and made["options"] == {"rerank": True}
    assert scores["mAP"] == scores["all"]["mAP"] == 0.0
    assert {name: scores[name]["mAP"] for name in made["searches"][1:]} == {
        name: pytest.approx(0.1 * place) for place, name in enumerate(made["searches"][1:], 1)
    }


@pytest.mark.parametrize(("colours", "told_apart"), [("kept", True), ("luma", False), ("mixed", False)])
def test_a_network_that_never_saw_colours_gets_none_at_test_time(coloured_people, colours, told_apart):
    embed = network_of(a_run(coloured_people, "baseline", colours)).ready().embed["visible"]
    coloured = torch.tensor([200, 60, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 64, 32)
    luma = torch.full((1, 3, 64, 32), round(0.299 * 200 + 0.587 * 60 + 0.114 * 90), dtype=torch.uint8)
    assert torch.equal(embed(coloured), embed(luma)) != told_apart


def test_both_figures_are_drawn_with_their_numbers(coloured_people):
    def loaded(variant):
        torch.manual_seed(0)
        network = network_of(a_run(coloured_people, variant)).ready()
        for layer in network.model.sub_networks[1:].modules():
            if isinstance(layer, torch.nn.Conv2d):  # else the second sub-network is nearly the first, as it starts
                torch.nn.init.kaiming_normal_(layer.weight)
        return network

    file = coloured_people / "figure.png"
    heat = figures.fig1({"Baseline": loaded("baseline"), "DFW": loaded("dfw")}, file)
    assert 0 < file.stat().st_size < 300_000 and json.dumps(heat)
    assert [image["modality"] for image in heat["images"]] == ["visible", "infrared"] * 2
    assert [image["person"] for image in heat["images"]] == [7, 7, 8, 8]
    assert set(heat["maps"]) == set(heat["cover"]) == {"Baseline", "DFW"} and not heat["overlap"]
    assert all(len(row) == len(heat["table"]["headers"]) == 3 for row in heat["table"]["rows"])

    heat = figures.fig1({"Baseline": loaded("baseline"), "SLN": loaded("sln")}, file)
    assert list(heat["maps"]) == ["Baseline", "SLN, 1", "SLN, 2"]
    assert heat["maps"]["SLN, 1"] != heat["maps"]["SLN, 2"]
    # The maps are rounded to two digits, so that a cell this near to one half may count on either side.
    above, near = ([np.array(heat["maps"][f"SLN, {n}"]) > bound for n in (1, 2)] for bound in (0.506, 0.494))
    least = [(a & b).sum() / (c | d).sum() for a, b, c, d in zip(*above, *near, strict=True)]
    most = [(c & d).sum() / (a | b).sum() for a, b, c, d in zip(*above, *near, strict=True)]
    assert 0 < np.mean(least) - 1e-3 < heat["overlap"]["SLN"] < np.mean(most) + 1e-3 < 1
    assert [row[3] for row in heat["table"]["rows"]] == ["–"] + [f"{heat['overlap']['SLN']:.0%}"] * 2

    network = loaded("full")
    ranking = figures.fig6({"Ours": network}, file)
    assert 0 < file.stat().st_size < 300_000 and json.dumps(ranking)
    directions = ["(a) visible to infrared"] * 2 + ["(b) infrared to visible"] * 2
    assert [query["direction"] for query in ranking["queries"]] == directions
    assert [row[0] for row in ranking["table"]["rows"]] == directions
    for query in ranking["queries"]:
        assert query["correct"] == [name.split("/")[1] == query["name"].split("/")[1] for name in query["ranked"]]
        assert query["similarity"] == sorted(query["similarity"], reverse=True)
    for query in ranking["queries"]:
        unit = []
        for name in (query["name"], query["ranked"][0]):
            path = network.run.dataset.folder / name
            modality = "visible" if name.split("/")[0] in {"cam1", "cam2", "cam4", "cam5"} else "infrared"
            pixels = torch.from_numpy(np.array(Image.open(path).resize((32, 64)))).permute(2, 0, 1)
            unit.append(network.embed[modality](pixels[None])[0].double())
        assert query["similarity"][0] == pytest.approx((unit[0] @ unit[1]).item(), abs=1e-3)
    shown = len(ranking["queries"][0]["ranked"])
    assert ranking["table"]["headers"] == ["Search", "Query", f"correct in top {shown}"]
    assert [row[2] for row in ranking["table"]["rows"]] == [str(sum(q["correct"])) for q in ranking["queries"]]


def test_queries_shown_have_a_match_and_no_camera_that_is_another_ones_place():
    """Camera 3's queries have no answers in camera 2, so the other way round neither are shown."""

    def subset(*people_and_cameras):
        return Subset("all", tuple(Sample(Path("x.png"), *each) for each in people_and_cameras))

    query, gallery = subset((1, 1), (1, 2), (2, 4), (3, 5)), subset((1, 3), (2, 6))
    shown = {protocol: may_be_shown(Search("all", query, gallery, protocol)) for protocol in ("sysu_mm01", "regdb")}
    assert shown["sysu_mm01"].tolist() == [True, False, True, False]
    assert shown["regdb"].tolist() == [True, True, True, False]
