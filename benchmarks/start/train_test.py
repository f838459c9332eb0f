"""Learning attributes: the loss and its masks, resuming, and the file that is written."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.start.accuracy import accuracies, as_text, means, most_common
from benchmarks.start.attributes import HIDDEN, KINDS, NAMES, NUM_VALUES
from benchmarks.start.draw import Images
from benchmarks.start.train import AttributeNet, Training, attribute_loss, batches_from, kept_weights, train
from common import pretrained
from common.backbones import build_resnet
from common.errors import UserError

CPU = torch.device("cpu")


def blank_images(count=12):
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, values, count) for values in NUM_VALUES], axis=1)
    pixels = rng.integers(0, 256, (count, 3, 128, 64), dtype=np.uint8)
    return Images(pixels, labels, np.arange(count) % len(KINDS))


def test_the_loss_is_the_mean_over_attributes_of_the_mean_over_images_that_show_one():
    torch.manual_seed(0)
    logits = torch.randn(3, sum(NUM_VALUES), requires_grad=True)
    labels = torch.full((3, len(NUM_VALUES)), HIDDEN)
    labels[0, 0], labels[2, 0], labels[1, 2] = 1, 0, 1  # two images show the first attribute, one the third
    first = logits[:, : NUM_VALUES[0]].detach().log_softmax(1)
    start = NUM_VALUES[0] + NUM_VALUES[1]
    third = logits[:, start : start + NUM_VALUES[2]].detach().log_softmax(1)
    loss = attribute_loss(logits, labels)
    assert loss.item() == pytest.approx((-(first[0, 1] + first[2, 0]) / 2 - third[1, 1]).item() / 2, rel=1e-5)
    loss.backward()
    touched = logits.grad != 0
    assert touched[[0, 2], : NUM_VALUES[0]].all() and not touched[1, : NUM_VALUES[0]].any()
    assert not touched[:, NUM_VALUES[0] : start].any(), "nobody shows the second attribute"


def test_the_learning_rate_rises_and_falls_once():
    training = Training(images=64 * 100, batch=64)
    rates = [training.rate(step) for step in range(training.steps)]
    peak = int(np.argmax(rates))
    assert training.steps == 100 and peak == 9 and rates[peak] == pytest.approx(training.learning_rate)
    assert all(np.diff(rates[: peak + 1]) > 0) and all(np.diff(rates[peak:]) < 0)
    assert rates[-1] == pytest.approx(0, abs=1e-9) and rates[0] == pytest.approx(training.learning_rate / 10)


def test_a_pass_sees_each_image_once_and_a_resumed_one_the_same_batches():
    training = Training(images=8 * 12, batch=8)
    batches = list(batches_from(0, training, 32))
    assert len(batches) == 12
    for first in (0, 4, 8):
        assert sorted(np.concatenate(batches[first : first + 4]).tolist()) == list(range(32))
    assert not np.array_equal(batches[0], batches[4])
    for ours, theirs in zip(batches_from(6, training, 32), batches[6:], strict=True):
        assert np.array_equal(ours, theirs)


def test_a_resumed_training_ends_bitwise_identical_and_another_one_is_refused(tmp_path):
    images, training = blank_images(), Training(images=4 * 4, batch=4)
    whole, _ = train(images, training, CPU, tmp_path / "whole.pth", {"of": 1}, report=str)

    class Stopped(Exception):
        pass

    def stop(line):
        if line.startswith("step 3"):
            raise Stopped

    file = tmp_path / "stopped.pth"
    with pytest.raises(Stopped):
        train(images, training, CPU, file, {"of": 1}, every_seconds=0, report=stop)
    saved = torch.load(file, weights_only=True)["progress"]
    assert saved["step"] == 2, "stopped before the third step was saved"
    resumed, progress = train(images, training, CPU, file, {"of": 1}, every_seconds=0, report=str)
    for ours, theirs in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert [entry["step"] for entry in progress.log] == [1, 2, 3, 4]
    with pytest.raises(UserError, match=r"stopped\.pth was made with other options.*--force"):
        train(images, training, CPU, file, {"of": 2})


def test_what_is_kept_is_stem_to_layer3_with_kernels_in_half_precision(tmp_path, monkeypatch):
    model = AttributeNet()
    state = kept_weights(model)
    assert {name.partition(".")[0] for name in state} == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    for name, value in state.items():
        running = name.endswith("num_batches_tracked")
        assert value.dtype == (torch.float16 if value.dim() > 1 else torch.int64 if running else torch.float32), name
    torch.save(state, tmp_path / "resnet18.pth")
    record = {"sha256": pretrained.sha256_of(tmp_path / "resnet18.pth")}
    (tmp_path / "resnet18.json").write_text(json.dumps(record))
    monkeypatch.setattr(pretrained, "WEIGHTS_FOLDER", tmp_path)
    loaded = build_resnet("resnet18", last_stride=2, pretrained="synthetic").eval()
    backbone = model.backbone.eval()
    images = torch.randn(2, 3, 64, 32)
    for stage in ("stem", "layer1", "layer2", "layer3"):
        for ours, theirs in zip(
            getattr(loaded, stage).parameters(), getattr(backbone, stage).parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=2**-10, atol=1e-7)  # float16 has 10 bits of fraction
    maps = [net.layer3(net.layer2(net.layer1(net.stem(images)))) for net in (loaded, backbone)]
    torch.testing.assert_close(*maps, rtol=0.02, atol=0.02)


def test_accuracies_are_fractions_of_the_images_that_show_the_attribute():
    images = blank_images(8)
    images.kinds[:] = [0, 0, 0, 0, 3, 3, 3, 3]
    images.labels[:, 0] = [0, 0, 0, HIDDEN, 1, 1, 0, 1]
    images.labels[:, 1] = [0, 0, 1, 1, HIDDEN, HIDDEN, HIDDEN, HIDDEN]
    named = images.labels.copy()
    named[:, 0] = [0, 1, 0, 1, 1, 1, 1, 1]
    table = accuracies(named, images, np.zeros(len(NAMES), dtype=int))
    assert table["visible"][NAMES[0]] == {"accuracy": round(2 / 3, 4), "majority": 1.0}
    assert table["thermal"][NAMES[0]] == {"accuracy": 0.75, "majority": 0.25}
    assert table["visible"][NAMES[1]] == {"accuracy": 1.0, "majority": 0.5} and NAMES[1] not in table["thermal"]
    others = [1.0] * (len(NAMES) - 2)
    assert means(table)["visible"]["accuracy"] == pytest.approx(np.mean([2 / 3, 1.0, *others]), abs=1e-4)
    assert "gray" not in means(table) and "66.7% (100.0%)" in as_text(table)
    assert most_common(images)[0] in (0, 1) and most_common(images)[1] in (0, 1)
    assert most_common(Images(images.pixels, np.array([[2], [2], [1], [HIDDEN]]), images.kinds)).tolist() == [2]


def test_the_command_writes_weights_that_load_with_their_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    words = ["start", "--images", "192", "--worlds", "2", "--persons", "4", "--frames", "3", "--test-persons", "3"]
    words += ["--device", "cpu", "--out", str(tmp_path / "weights")]
    interrupted = tmp_path / "runs" / "start" / "last.pth"
    interrupted.parent.mkdir(parents=True)
    interrupted.touch()
    with pytest.raises(SystemExit):
        main(words)
    assert "add --resume, or --force" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert not interrupted.parent.exists(), "images and checkpoints are removed at the end"
    record = json.loads((tmp_path / "weights" / "resnet18.json").read_text())
    assert record["drawn"]["images"] == 24 and record["drawn"]["test_images"] == 9
    assert record["training"]["steps"] == 6 and math.isfinite(record["training"]["log"][-1]["loss"])
    assert record["drawn"]["test_seed"] not in record["drawn"]["seeds"]
    assert set(record["accuracy"]) == set(KINDS) and len(record["source_hash"]) == 16
    assert not {"host", "user", "path"} & set(record["machine"])
    monkeypatch.setattr(pretrained, "WEIGHTS_FOLDER", tmp_path / "weights")
    assert pretrained.weights_hash("synthetic") == record["sha256"][:12]
    assert build_resnet("resnet18", last_stride=1, pretrained="synthetic")(torch.rand(1, 3, 64, 32)).isfinite().all()
