import pytest
import torch

from common import devices
from common.devices import autocast, select_device, select_precision
from common.errors import UserError


@pytest.fixture
def no_cuda(monkeypatch, tmp_path):
    """A machine whose torch sees no GPU; returns the path at which a driver is looked for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "NVIDIA_DRIVER", tmp_path / "version")
    return tmp_path / "version"


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(no_cuda, capsys):
    assert select_device("auto").type == "cpu"
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"--device cuda: torch .* finds no GPU here\. Use --device cpu"):
        select_device("cuda")


def test_a_gpu_that_torch_cannot_use_is_reported_with_what_can_be_done(no_cuda, capsys):
    no_cuda.touch()
    assert select_device("auto").type == "cpu"
    assert "TORCH_INDEX=" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"there is a GPU, but torch .* cannot use it(.|\n)*TORCH_INDEX="):
        select_device("cuda:0")


def test_a_gpu_number_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert select_device("cuda:1").index == 1
    with pytest.raises(UserError, match="there are 2 GPUs"):
        select_device("cuda:2")


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_gpus_use_bf16_from_ampere_on_and_fp16_before(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert select_precision("auto", torch.device("cuda")) == expected
    assert select_precision("fp32", torch.device("cuda")) == "fp32"


def test_cpus_use_bf16_where_it_is_native(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for native, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        assert select_precision("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_run_in_the_given_precision(precision, dtype):
    layer = torch.nn.Linear(4, 4)
    with autocast(torch.device("cpu"), precision):
        assert layer(torch.randn(2, 4)).dtype == dtype
