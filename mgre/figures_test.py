"""Class activation maps against the logits that they explain; the figures; latency."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.datasets import open_dataset
from common.datasets.poses import read_joints
from common.datasets.synthetic import make_dataset
from common.runs import Program, Run
from common.runs.settings import load_settings

from . import figures, latency
from .activation import activation_maps, channel_weights, paste
from .evaluate import network_of
from .model import Embedding
from .settings import Settings
from .train_test import mean_boxes_of


@pytest.mark.parametrize("out_features", [5, None])
def test_channel_weights_are_what_a_channel_adds_to_the_logit(out_features):
    torch.manual_seed(0)
    embedding = Embedding(6, out_features, num_identities=3).eval()
    embedding.neck.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(embedding.neck.weight)
    first, second = torch.randn(2, 6, 4, 2)[:, None].unbind(0)
    labels = torch.tensor([2])
    logits = [embedding.logits(embedding.feature([x]))[0, 2] for x in (first, second)]
    pooled = [x.mean((2, 3)) + x.amax((2, 3)) for x in (first, second)]
    weights = channel_weights(embedding, labels)
    torch.testing.assert_close(logits[0] - logits[1], (weights * (pooled[0] - pooled[1])).sum())


@pytest.mark.parametrize("variant", ["full", "baseline"])
def test_no_map_is_blank_where_all_evidence_is_against_the_class(untrained, variant):
    model = untrained(variant).model
    for embedding in model.embeddings.values():
        torch.nn.init.constant_(embedding.classifier.weight, -1.0)
    with torch.no_grad():
        maps = activation_maps(model, torch.randn(2, 3, 128, 64), torch.tensor([0, 1]), (32, 16))
    for found in maps.values():
        assert (found.amin((1, 2)) >= 0).all() and (found.amax((1, 2)) > found.amin((1, 2))).all()


def test_paste_fills_the_box_and_nothing_else():
    drawn = paste(torch.full((1, 4, 3), 2.0), torch.tensor([[0.25, 0.5, 0.75, 1.0]]), (8, 4))
    expected = torch.zeros(1, 8, 4)
    expected[:, 4:, 1:3] = 2
    torch.testing.assert_close(drawn, expected)


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """untrained(variant, ...): a network as it is before training, on the tiny data set."""
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "market1501", like="market1501", size="tiny")
    dataset = open_dataset("market1501", tmp_path)

    def make(variant, **overrides):
        folder = Path(__file__).parent
        settings = load_settings(
            Settings, folder, dataset="market1501", demo=True, variant=variant, overrides=overrides
        )
        torch.manual_seed(0)
        run = Run("paper", dataset, variant, settings, 0, torch.device("cpu"), tmp_path / "run")
        loaded = network_of(run).ready()
        loaded.model.start_at(torch.tensor(mean_boxes_of(read_joints(dataset, dataset.train))))
        return loaded

    return make


def test_figures_are_small_and_their_data_are_returned(untrained, tmp_path):
    data = figures.regions({"MGRe": untrained("full")}, tmp_path / "regions.png")
    assert len(data["boxes"]) == len(data["images"]) == 6
    assert [row[0] for row in data["table"]["rows"]] == [*data["regions"], "mean"]
    assert data["table"]["headers"][1:] == ["mean IoU of Table 1's boxes", "of the mean boxes", "after training"]
    of = data["mean_iou"]
    assert data["table"]["rows"][-1][1:] == [f"{np.mean(of[name]):.3f}" for name in ("table1", "mean", "after")]
    data = figures.fig4({"MGRe": untrained("full"), "base model": untrained("baseline")}, tmp_path / "fig4.png")
    assert list(data["cover"]) == ["stage 1", "stage 2", "stage 3", "stage 4", "fused", "base model"]
    assert [row[0] for row in data["table"]["rows"]] == list(data["cover"])
    for name in ("regions.png", "fig4.png"):
        assert (tmp_path / name).stat().st_size < 300_000
        with Image.open(tmp_path / name) as sheet:
            assert sheet.width > 500


@pytest.mark.parametrize(("start", "boxes", "others"), [("mean", "mean", "table1"), ("table1", "table1", "mean")])
def test_boxes_before_training_are_where_the_network_starts(untrained, tmp_path, start, boxes, others):
    network = untrained("full", location_start=start, pretrained="none")
    of = figures.regions({"MGRe": network}, tmp_path / "regions.png")["mean_iou"]
    assert of["after"] == pytest.approx(of[boxes], abs=2e-3) and of["after"] != pytest.approx(of[others], abs=0.02)
    with Image.open(tmp_path / "regions.png") as sheet:
        before, after = np.split(np.array(sheet.convert("RGB"))[20:], 2, axis=1)  # below the titles
    assert (before != after).any(2).mean() < 0.01  # nothing is trained yet; frames may round to the next pixel


def test_latency_is_a_ratio_to_resnet101_in_the_same_run(untrained, tmp_path, monkeypatch):
    seconds = iter([1.0, 2.0, 4.0, 3.0] * 5)
    monkeypatch.setattr(latency, "_seconds", lambda model, images: next(seconds))
    argv = ["--demo", "--data-root", str(tmp_path), "--device", "cpu"]
    program = Program.open(__package__, "latency", argv, description="")
    measured = latency.measure(program, batch_size=1, repetitions=3)
    assert list(measured) == [network.key for network in latency.NETWORKS]
    assert [found["ratio"] for found in measured.values()] == [0.5, 1.0, 2.0, 1.5]
    gmacs = {name: (found["macs"] / 1e9, found["macs_as_printed"] / 1e9) for name, found in measured.items()}
    assert gmacs["resnet101"] == pytest.approx((6.479, 6.479), abs=0.001)
    assert gmacs["resnet152"] == pytest.approx((8.903, 8.903), abs=0.001)
    assert gmacs[latency.NETWORKS[-1].key] == pytest.approx(
        (6.302, 7.711), abs=0.001
    )  # as it runs, in the paper's order
