"""Starting weights by name: the synthetic file is checked, covers stem to layer3, and has a hash."""

import json

import pytest
import torch
import torchvision

from common import pretrained
from common.backbones import build_resnet
from common.errors import UserError
from common.pretrained import sha256_of, weights_hash

KEPT = ("conv1", "bn1", "layer1", "layer2", "layer3")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Weights with their record, as `make start` writes them, in place of the committed ones."""
    state = torchvision.models.resnet18(weights=None).state_dict()
    kept = {name: value.half() if value.dim() > 1 else value for name, value in state.items() if name.startswith(KEPT)}
    torch.save(kept, tmp_path / "resnet18.pth")
    (tmp_path / "resnet18.json").write_text(json.dumps({"sha256": sha256_of(tmp_path / "resnet18.pth")}))
    monkeypatch.setattr(pretrained, "WEIGHTS_FOLDER", tmp_path)
    return tmp_path


def build(name, weights):
    torch.manual_seed(0)
    return build_resnet(name, last_stride=1, pretrained=weights)


def test_stem_to_layer3_come_from_the_file_and_layer4_is_drawn_as_without_it(folder):
    file = torch.load(folder / "resnet18.pth", weights_only=True)
    plain, after_plain = build("resnet18", "none"), torch.rand(1)
    started, after_started = build("resnet18", "synthetic"), torch.rand(1)
    assert after_plain == after_started, "no further random numbers"
    assert torch.equal(started.stem[0].weight, file["conv1.weight"].float())
    assert torch.equal(started.layer3[1].conv2.weight, file["layer3.1.conv2.weight"].float())
    assert not torch.equal(started.layer1[0].conv1.weight, plain.layer1[0].conv1.weight)
    for ours, theirs in zip(started.layer4.parameters(), plain.layer4.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert {parameter.dtype for parameter in started.parameters()} == {torch.float32}


def test_another_backbone_is_told_what_to_take(folder):
    with pytest.raises(UserError, match=r"resnet18 only, and the backbone is resnet50.*--set backbone=resnet18"):
        build("resnet50", "synthetic")


def test_a_damaged_or_missing_file_names_it_and_how_to_restore_it(folder):
    file = folder / "resnet18.pth"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for use in (lambda: build("resnet18", "synthetic"), lambda: weights_hash("synthetic")):
        with pytest.raises(UserError, match=r"resnet18\.pth is damaged.*git checkout -- common/weights"):
            use()
    (folder / "resnet18.json").unlink()
    with pytest.raises(UserError, match=r"resnet18\.json, which is missing: .*git checkout"):
        build("resnet18", "synthetic")
    file.unlink()
    with pytest.raises(UserError, match=r"resnet18\.pth, which is missing"):
        weights_hash("synthetic")


def test_the_hash_is_that_of_the_file(folder, tmp_path):
    assert weights_hash("synthetic") == sha256_of(folder / "resnet18.pth")[:12]
    assert weights_hash("none") is None and weights_hash("imagenet") is None
    own = tmp_path / "own.pth"
    own.write_bytes(b"1")
    first = weights_hash(str(own))
    own.write_bytes(b"2")
    assert weights_hash(str(own)) != first
    with pytest.raises(UserError, match="no file"):
        weights_hash(str(tmp_path / "absent.pth"))


def test_the_committed_weights_are_those_of_their_record_and_complete():
    file = pretrained.synthetic_file()
    record = json.loads(file.with_suffix(".json").read_text())
    assert weights_hash("synthetic") == record["sha256"][:12]
    state = torch.load(file, map_location="cpu", weights_only=True)
    reference = torchvision.models.resnet18(weights=None).state_dict()
    wanted = {name: value for name, value in reference.items() if name.startswith(KEPT)}
    assert {name: value.shape for name, value in state.items()} == {name: v.shape for name, v in wanted.items()}
    assert all(torch.isfinite(value).all() for value in state.values())
    assert record["kept"] == list(KEPT) and file.stat().st_size < 6_000_000
    visible = record["mean_accuracy"]["visible"]
    assert visible["accuracy"] > visible["majority"], "learned less than the most common values"
