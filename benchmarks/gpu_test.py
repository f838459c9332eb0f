"""The pretend GPU itself, and modules on it that are tested alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from benchmarks.pretend_gpu import GPUTensor, PretendGPU
from common import devices
from common.paper import load_paper
from common.paths import package_folder
from common.runs.settings import load_settings


def test_what_a_gpu_refuses_is_refused():
    with PretendGPU():
        on_gpu, on_cpu = torch.ones(3, device="cuda:0"), torch.ones(3)
        with pytest.raises(RuntimeError, match="expected all tensors on one device"):
            on_gpu + on_cpu
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            on_gpu.numpy()
        with pytest.raises(RuntimeError, match="one device"):
            on_cpu[torch.zeros(1, dtype=torch.int64, device="cuda:0")]
        with pytest.raises(RuntimeError, match="the generator is on cpu"):
            torch.rand(2, device="cuda:0", generator=torch.Generator())
        with pytest.raises(RuntimeError, match="one device"):
            torch.stack([on_gpu.sum(), on_cpu.sum()])
        with pytest.raises(RuntimeError, match="one device"):
            on_cpu.sum().add_(on_gpu.sum())
        for mode in (torch.no_grad, torch.inference_mode):
            with mode(), pytest.raises(RuntimeError, match="before they have arrived"):
                on_gpu.to("cpu", non_blocking=True)
        assert (on_gpu + 1).device == torch.device("cuda", 0) and (on_gpu * on_cpu.sum()).cpu().tolist() == [3, 3, 3]


def test_waits_are_counted_where_they_happen():
    with PretendGPU() as gpu:
        values = devices.to_device(torch.arange(4.0), torch.device("cuda", 0))  # pinned, asynchronous
        values = values * 2 + values.sum()
        assert not gpu.waits
        values.max().item()
        values.nonzero()
        values[values > 7]
        values.cpu()
        torch.ones(2).to("cuda:0")
        torch.cuda.synchronize()
        assert sum(gpu.waits.values()) == 6
        assert all("gpu_test.py" in line for _, line in gpu.waits)


def test_a_checkpoint_of_the_gpu_is_loaded_elsewhere_only_with_a_map_location(tmp_path):
    with PretendGPU():
        torch.save({"weight": torch.ones(3, device="cuda:0")}, tmp_path / "gpu.pth")
        torch.save({"weight": torch.ones(3)}, tmp_path / "cpu.pth")
        assert torch.load(tmp_path / "gpu.pth")["weight"].tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="map_location"):
        torch.load(tmp_path / "gpu.pth")
    for name, location in (("gpu.pth", "cpu"), ("cpu.pth", None)):
        assert torch.load(tmp_path / name, map_location=location)["weight"].tolist() == [1, 1, 1]


def test_threads_of_a_pool_have_the_gpu_too():
    with PretendGPU() as gpu, ThreadPoolExecutor(1) as pool:
        (found,) = pool.map(lambda values: values.to("cuda:0") + 1, [torch.ones(2)])
        assert isinstance(found, GPUTensor) and sum(gpu.waits.values()) == 1


def test_the_lstms_of_ndmf_net_need_no_wait():
    paper = load_paper("ndmf_net")
    schema, folder = paper.settings.Settings, package_folder("ndmf_net")
    settings = load_settings(schema, folder, dataset="market1501", demo=True, variant="full", overrides={})
    with PretendGPU() as gpu:
        model, images = paper.module("model").NDMFNet(5, settings).to("cuda:0"), torch.randn(2, 3, 128, 64).to("cuda:0")
        model(images).feature.sum().backward()  # constants are copied
        before = sum(gpu.waits.values())
        model(images).feature.sum().backward()
        assert sum(gpu.waits.values()) == before


def test_inference_mode_has_the_same_waits():
    with PretendGPU() as gpu, torch.inference_mode():
        values = torch.ones(2).to("cuda:0")
        assert (values + 1).to(values.device, torch.float64).cpu().tolist() == [2, 2]
        assert values.to(torch.ones(2)).device.type == "cpu"
        assert sum(gpu.waits.values()) == 3


def test_gradients_are_those_of_the_cpu():
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), torch.randn(2, 3, 8, 8)
    network(images).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    with PretendGPU():
        network.to("cuda:0")
        network(images.to("cuda:0")).square().sum().backward()
        found = [parameter.grad.cpu() for parameter in network.parameters()]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
