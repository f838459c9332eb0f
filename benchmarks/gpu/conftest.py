"""Papers at tiny size for the tests of `make gpu`."""

from pathlib import Path

import pytest
import torch

from benchmarks.gpu.subject import Scale, Subject, spec_of
from common.datasets.synthetic import make_dataset


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_dataset(root / "market1501", size="tiny", processes=1)
    return root


@pytest.fixture
def make_subject(tiny, tmp_path, monkeypatch):
    """make_subject(paper, device, **settings): a paper of Market-1501 on small images, three steps, eight images."""
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))

    def make(paper, device="cpu", **settings):
        settings = {"backbone": "resnet18", "height": 64, "width": 32} | settings
        small = Scale(steps=3, images=8, warm_up=1, seconds=0.01, data={"demo": tiny, "full": tiny}, set=settings)
        return Subject(spec_of(paper), torch.device(device), tmp_path / "kept", small)

    return make
