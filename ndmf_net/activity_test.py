"""What is logged of the modules, against plain computations; and that carriers name what the network has."""

from pathlib import Path

import pytest
import torch

from common.probes import frozen_to, replaced_outputs
from common.runs.settings import load_settings

from .activity import activity, carriers_of
from .model import NDMFNet
from .settings import Settings


def network(variant="full", **overrides):
    torch.manual_seed(0)
    overrides = {"pretrained": "none", "dependency_size": 6, "lstm_hidden_size": 4} | overrides
    folder = Path(__file__).parent
    settings = load_settings(Settings, folder, dataset="market1501", demo=True, variant=variant, overrides=overrides)
    return NDMFNet(5, settings)


def test_the_log_has_gates_deviations_and_the_share_of_f_D():
    model, images = network(), torch.randn(4, 3, 128, 64)
    found = activity(model, images)
    assert model.training
    with torch.no_grad():
        model.eval()
        x1 = model.backbone.layer1(model.backbone.stem(images))
        pcam = model.attention1.pcam(x1)
        gates = torch.sigmoid(model.attention1.sam.convolution(torch.stack([pcam.mean(1), pcam.amax(1)], dim=1)))
        assert found["sam1_mean"] == pytest.approx(gates.mean().item(), rel=1e-5)
        assert found["sam1_spread"] == pytest.approx(gates.std().item(), rel=1e-4)
        x1, x3, x4 = model.feature_maps(images)
        f_B, f_D1, f_D3 = x4.mean((2, 3)), model.dependency1(x1), model.dependency3(x3)
        assert found["f_D3_deviation"] == pytest.approx(f_D3.var(0).mean().sqrt().item(), rel=1e-4)
        lstm = dict(model.dependency1.lstm.named_parameters())
        squares = [(weight**2).sum() for name, weight in lstm.items() if "weight" in name]
        count = sum(weight.numel() for name, weight in lstm.items() if "weight" in name)
        assert found["f_D1_weights"] == pytest.approx((sum(squares) / count).sqrt().item(), rel=1e-5)
        whole = model.fusion.weight
        terms = f_B @ whole[:, :512].T, (f_D1 + f_D3) @ whole[:, 512:].T
        variances = [term.var(0).mean() for term in terms]
        assert found["f_D_share"] == pytest.approx((variances[1] / sum(variances)).item(), rel=1e-3)
    assert {name.rpartition("_")[0] for name in found} == {
        "f_B", "f_D1", "f_D3", "f_D", "pcam1", "pcam3", "sam1", "sam3",
    }  # fmt: skip


def test_saturated_gates_are_seen():
    model, images = network("pcam"), torch.randn(2, 3, 128, 64)
    assert activity(model, images)["pcam3_saturated"] < 0.5
    with torch.no_grad():
        model.attention3.pcam.weight.fill_(100.0)
    found = activity(model, images)
    assert found["pcam3_saturated"] == 1.0 and "f_D_share" not in found and "sam1_mean" not in found


@pytest.mark.parametrize(("variant", "count"), [("full", 7), ("baseline", 0), ("pcam", 2), ("sam", 2), ("ndem", 3)])
def test_replacing_any_carrier_changes_the_test_feature(variant, count):
    model, images = network(variant).eval(), torch.randn(3, 3, 128, 64)
    carriers = carriers_of(model)
    assert len(carriers) == count
    with torch.no_grad():
        before = model.embed(images)
        for row, names in carriers.items():
            with replaced_outputs(model, {name: frozen_to(torch.zeros(())) for name in names}):
                assert (model.embed(images) - before).abs().max() > 1e-4, row
        torch.testing.assert_close(model.embed(images), before)
