"""Every paper on a pretend GPU: the same log and scores as on the CPU, and one wait for the GPU in a step."""

import importlib
import itertools
import sys

import pytest
import torch
from torch import nn

from benchmarks.pretend_gpu import GPUTensor, PretendGPU
from benchmarks.spec import known_papers, load_spec
from common import devices
from common.datasets import reader_of
from common.datasets.synthetic import make_dataset
from common.evaluation import report
from common.paper import load_paper
from common.paths import package_folder
from common.runs import Meter, Run, meter
from common.runs.record import read_record
from common.runs.settings import load_settings

PAPERS = known_papers()
SMALL = {
    "fgsam": ["identities_per_batch=2", "pose_epochs=1"],
    "mutual_attention": ["pairs_per_batch=4"],
    "ndmf_net": ["identities_per_batch=2", "ndem=false"],  # a CPU's library computes its LSTM in another order
}
EPOCHS = {"fgsam": 3}  # a phase each


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in {reader_of(load_spec(paper).demo_data_sets[0]).NAME for paper in PAPERS}:
        make_dataset(root / name, like=name, size="tiny", processes=1)
    return root


@pytest.fixture
def one_implementation(monkeypatch):
    """The optimiser's plain loop on both devices; on a GPU torch would take kernels that round otherwise."""
    monkeypatch.setattr(Run, "fused", property(lambda self: False))
    for name in ("adam", "sgd"):
        module = sys.modules[f"torch.optim.{name}"]
        monkeypatch.setattr(module, "_default_to_fused_or_foreach", lambda *_, **__: (False, False))


@pytest.fixture
def waits_of_steps(monkeypatch):
    """waits_of_steps(gpu): from now on, how many waits there were from each step to the next of its epoch."""

    def watch(gpu):
        update, found = Meter.update, []

        def counted(meter, terms, num_images):
            update(meter, terms, num_images)
            found.append((meter.epoch, meter.num_steps, sum(gpu.waits.values())))

        monkeypatch.setattr(Meter, "update", counted)
        return lambda: [
            after[2] - before[2]
            for before, after in itertools.pairwise(found)
            if after[:2] == (before[0], before[1] + 1)
        ]

    return watch


def arguments(paper, tiny, directory, *more):
    words = ["--demo", "--data-root", str(tiny), "--run-dir", str(directory), *more]
    sets = [f"num_epochs={EPOCHS.get(paper, 2)}", "precision=fp32"]
    return [*words, "--set", *sets, *SMALL.get(paper, ["identities_per_batch=2"])]


def without_seconds(log):
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in log]


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.filterwarnings("ignore:k1 is")
def test_training_resuming_and_scoring_on_a_gpu_are_those_of_the_cpu(
    paper, tiny, tmp_path, monkeypatch, one_implementation, waits_of_steps
):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    train, evaluate = load_paper(paper).train, load_paper(paper).evaluate
    train.main(arguments(paper, tiny, tmp_path / "cpu", "--device", "cpu"))
    # On the GPU the run is interrupted after its first epoch, and resumed.
    saved = meter.write_checkpoint

    def stop_after_the_first(directory, checkpoint):
        saved(directory, checkpoint)
        if checkpoint["epoch"] == 1 and directory == tmp_path / "gpu":
            raise KeyboardInterrupt

    words = arguments(paper, tiny, tmp_path / "gpu", "--device", "cuda:0")
    with PretendGPU() as gpu:
        waits = waits_of_steps(gpu)
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(meter, "write_checkpoint", stop_after_the_first)
            train.main(words)
        train.main([*words, "--resume"])
    cpu, on_gpu = (read_record(tmp_path / name / "result.json") for name in ("cpu", "gpu"))
    assert without_seconds(on_gpu.log) == without_seconds(cpu.log)
    assert on_gpu.scores == cpu.scores
    assert on_gpu.machine.device == "cuda"
    assert len(waits()) >= 4 and max(waits()) == 1, gpu.waits.most_common(10)

    with PretendGPU():
        loaded = evaluate.load_run(tmp_path / "gpu", "cuda:0")
        assert all(isinstance(parameter, GPUTensor) for parameter in loaded.model.parameters())
        again = [str(tmp_path / "gpu"), "--rerank", "--device", "cuda:0"]
        found = report.evaluate_main(paper, evaluate.load_run, again)
    assert next(iter(found.values()))["mAP"] == pytest.approx(cpu.scores["mAP"], abs=1e-6)


def ndmf_net(device):
    schema, folder = load_paper("ndmf_net").settings.Settings, package_folder("ndmf_net")
    settings = load_settings(schema, folder, dataset="market1501", demo=True, variant="full", overrides={})
    return importlib.import_module("ndmf_net.model").NDMFNet(5, settings).to(device)


def test_the_lstms_of_ndmf_net_need_no_wait():
    with PretendGPU() as gpu:
        model, images = ndmf_net("cuda:0"), torch.randn(2, 3, 128, 64).to("cuda:0")
        model(images).feature.sum().backward()  # constants are copied
        before = sum(gpu.waits.values())
        model(images).feature.sum().backward()
        assert sum(gpu.waits.values()) == before


def test_the_lstm_and_what_else_needs_it_run_in_float32_under_autocast():
    model = ndmf_net("cpu")
    seen = {}

    def note(name):
        def hook(module, inputs, output):
            seen[name] = (output[0] if isinstance(output, tuple) else output).dtype

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.LSTM | nn.Conv2d):
            module.register_forward_hook(note(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.randn(2, 3, 128, 64))
    assert seen["dependency1.lstm"] == seen["dependency3.lstm"] == torch.float32
    assert seen["backbone.layer4.1.conv2"] == torch.bfloat16


def test_a_run_that_was_trained_in_another_precision_is_not_resumed(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    train = load_paper("ndmf_net").train
    words = ["--demo", "--variant", "baseline", "--data-root", str(tiny), "--run-dir", str(tmp_path / "run")]
    words += ["--device", "cpu", "--set", "num_epochs=1"]
    monkeypatch.setattr(devices, "select_precision", lambda setting, device: "fp32")
    train.main(words)
    (tmp_path / "run" / "result.json").unlink()
    monkeypatch.setattr(devices, "select_precision", lambda setting, device: "bf16")
    with pytest.raises(SystemExit) as stop:
        train.main([*words, "--resume"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "was trained in fp32" in message and "precision: auto is bf16 on this device" in message


# ------------------------------------------------------------------ the pretend GPU itself


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
        assert sum(gpu.waits.values()) == 5
        assert all("gpu_test.py" in line for _, line in gpu.waits)


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
