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
        terms = [f_B @ whole[:, :512].T, *(f @ whole[:, 512:].T for f in (f_D1, f_D3, f_D1 + f_D3))]
        from_B, *from_D = [term.var(0).mean().item() for term in terms]
        shares = [found[name] for name in ("f_D1_share", "f_D3_share", "f_D_share")]
        assert shares == pytest.approx([variance / (from_B + from_D[2]) for variance in from_D], rel=1e-3)
    assert {name.rpartition("_")[0] for name in found} == {
        "f_B", "f_D1", "f_D3", "f_D", "pcam1", "pcam3", "sam1", "sam3",
    }  # fmt: skip


def test_saturated_gates_are_seen():
    model, images = network("pcam"), torch.randn(2, 3, 128, 64)
    assert activity(model, images)["pcam3_saturated"] < 0.5
    with torch.no_grad():
        model.attention3.pcam.weight.fill_(100.0)
    found = activity(model, images)
    assert found["pcam3_saturated"] == 1.0 and not [name for name in found if name.startswith(("f_D", "sam"))]


PCAM_ROWS = {f"PCAM after layer{stage}": [f"attention{stage}.pcam.gates"] for stage in (1, 3)}
SAM_ROWS = {f"SAM after layer{stage}": [f"attention{stage}.sam.gates"] for stage in (1, 3)}
NDEM_ROWS = {
    "NDEM after layer1": ["dependency1"],
    "NDEM after layer3": ["dependency3"],
    "both NDEMs": ["dependency1", "dependency3"],
}
CARRIERS = {"baseline": {}, "pcam": PCAM_ROWS, "sam": SAM_ROWS, "ndem": NDEM_ROWS, "pham": PCAM_ROWS | SAM_ROWS}
CARRIERS["full"] = PCAM_ROWS | SAM_ROWS | NDEM_ROWS


@pytest.mark.parametrize("variant", CARRIERS)
def test_replacing_any_carrier_changes_the_test_feature(variant):
    model, images = network(variant).eval(), torch.randn(3, 3, 128, 64)
    carriers = carriers_of(model)
    assert carriers == CARRIERS[variant]
    with torch.no_grad():
        before = model.embed(images)
        for row, names in carriers.items():
            with replaced_outputs(model, {name: frozen_to(torch.zeros(())) for name in names}):
                assert (model.embed(images) - before).abs().max() > 1e-4, row
        torch.testing.assert_close(model.embed(images), before)
