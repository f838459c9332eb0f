"""What a module carries: all if only it tells people apart, nothing if nothing reads it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from common.datasets import READERS
from common.datasets.synthetic import make_dataset
from common.evaluation import LoadedRun
from common.evaluation.carried import carried_figure, carried_scores, mean_outputs


class Network(nn.Module):
    """`colour` is read, `unread` is not."""

    def __init__(self):
        super().__init__()
        self.colour, self.unread = nn.Identity(), nn.Identity()

    def forward(self, images):
        values = images.float().mean((2, 3)) / 255
        self.unread(values)
        return self.colour(values)


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    make_dataset(tmp_path / "market1501", like="market1501", size="tiny")
    dataset = READERS["market1501"].read(tmp_path / "market1501")
    run = SimpleNamespace(dataset=dataset, settings=SimpleNamespace(height=32, width=16, cache=False))
    model = Network()
    return LoadedRun(run, model, model)


def test_the_mean_is_over_the_training_images(loaded):
    pixels = []
    loaded.model.register_forward_hook(lambda _module, inputs, _output: pixels.append(inputs[0]))
    mean = mean_outputs(loaded, ["colour"])["colour"]
    images = torch.cat(pixels).double()
    assert len(images) == len(loaded.run.dataset.train)
    torch.testing.assert_close(mean.double(), images.mean((0, 2, 3)) / 255, atol=1e-6, rtol=0)


def test_what_is_read_carries_the_scores_and_what_is_not_carries_nothing(loaded, tmp_path):
    scores = carried_scores(loaded, {"colour": ["colour"], "unread": ["unread"]})
    whole = scores["nothing"]["frozen"]
    assert scores["unread"] == {"frozen": whole, "shuffled": whole}
    assert scores["colour"]["frozen"]["mAP"] < whole["mAP"]
    assert scores["colour"]["shuffled"]["mAP"] != whole["mAP"]
    found = carried_figure(loaded, {"colour": ["colour"]}, tmp_path / "carried.png")
    assert (tmp_path / "carried.png").stat().st_size > 1000
    assert [row[0] for row in found["table"]["rows"]] == ["nothing", "colour"]
    change = 100 * (scores["colour"]["frozen"]["mAP"] - whole["mAP"])
    assert found["table"]["rows"][1][1].endswith(f"({change:+.1f})")
