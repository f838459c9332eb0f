"""What is computed in half precision, and what must not be: seen before autocast, whose lists differ by device.

A pretend GPU has no autocast, so this runs on the CPU in bf16.
"""

from collections import defaultdict
from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from benchmarks import gpu_runs
from benchmarks.gpu_runs import PAPERS, POSE_NET, command_line, small_runs, trained_steps
from common import devices
from common.paper import load_paper
from common.runs import open_run

HALF = (torch.bfloat16, torch.float16)
# Exponentials, logarithms, roots, powers, norms, coordinates, Fourier transforms, and the LSTM.
EXACT = {
    "exp",
    "log",
    "log_softmax",
    "softmax",
    "logsumexp",
    "cross_entropy",
    "sqrt",
    "rsqrt",
    "pow",
    "__pow__",
    "tanh",
}
EXACT |= {"normalize", "norm", "linalg_vector_norm", "cdist", "std", "var", "grid_sample", "lstm"}
EXACT |= {"fft_rfft", "fft_irfft", "fft_fft", "fft_ifft"}
IN_HALF_UNDER_AUTOCAST = {"lstm"}  # whatever its input
VIEWS = {"float", "__get__", "__getitem__", "__iter__", "unbind", "split", "chunk", "__len__", "size", "dim"}
# What must be seen of each paper, so that a watch that sees nothing is noticed.
NETWORK = {
    "dfw_crossmodal": {"pow", "normalize"},
    "fgsam": {"fft_rfft", "fft_irfft", "sqrt", "softmax", "normalize"},
    "mgre": {"grid_sample", "exp", "tanh", "normalize"},
    "mutual_attention": {"softmax"},
    "ndmf_net": {"lstm", "normalize"},
}


class Watch(TorchFunctionMode):
    """Collects {operation: types of its floating-point inputs}: of the whole run and of the loss functions.

    autocast: the operations called under autocast; results: {operation: types of its results}.
    """

    def __init__(self):
        super().__init__()
        self.network, self.losses, self.results = (defaultdict(set) for _ in range(3))
        self.autocast: dict[str, set[str]] = {"network": set(), "losses": set()}
        self.place = "network"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, leaves = getattr(func, "__name__", str(func)), pytree.tree_leaves((args, kwargs))
        floats = {leaf.dtype for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.dtype.is_floating_point}
        (self.losses if self.place == "losses" else self.network)[name] |= floats
        if torch.is_autocast_enabled("cpu"):
            self.autocast[self.place].add(name)
        result = func(*args, **kwargs or {})
        if isinstance(result, torch.Tensor):
            self.results[name].add(result.dtype)
        return result

    @contextmanager
    def inside(self, module, *names):
        """Within it, a module's functions of these names, and what they call, are loss functions."""

        def watched(function):
            def call(*arguments, **named):
                self.place = "losses"
                try:
                    found = function(*arguments, **named)
                finally:
                    self.place = "network"
                terms = found.values() if isinstance(found, dict) else found
                assert {term.dtype for term in terms} == {torch.float32}
                return found

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setattr(module, name, watched(getattr(module, name)))
            yield

    def check(self) -> None:
        assert torch.bfloat16 in self.results["conv2d"]  # autocast is on
        assert not {name for name in EXACT & self.network.keys() if self.network[name] & {*HALF}}
        assert not self.autocast["network"] & IN_HALF_UNDER_AUTOCAST
        assert self.losses
        assert not {name for name, types in self.losses.items() if types & {*HALF}} - VIEWS
        assert not self.autocast["losses"]  # which would compute their matrix products in half precision


@pytest.fixture(autouse=True)
def small(tmp_path):
    with small_runs(tmp_path) as patch:
        patch.setattr(gpu_runs, "STEPS", 1)
        yield patch


@pytest.mark.parametrize("paper", PAPERS)
def test_losses_and_what_is_sensitive_in_a_network_are_float32_under_autocast(paper, tiny_data, tmp_path):
    """In a step of training, and in what is scored."""
    module = load_paper(paper)
    sets = {"fgsam": ["phase_epochs=[0, 0, 1]", "pose_weights=none", "pose_loss=none"], "ndmf_net": ["ndem=true"]}
    words = command_line(paper, tiny_data, tmp_path / "run", *sets.get(paper, []), "num_epochs=1", "precision=bf16")
    with Watch() as watch, watch.inside(module.train, "losses"):
        assert trained_steps(paper, words)
        run = open_run(paper, module.settings.Settings, words)
        loaded = module.evaluate.network_of(run).ready()
        images = torch.randint(256, (2, 3, run.settings.height, run.settings.width), dtype=torch.uint8)
        for embed in loaded.embed.values() if isinstance(loaded.embed, dict) else [loaded.embed]:
            embed(images)
        if paper == "fgsam":
            module.train.attribute_predictor(loaded.model, run)(images)
        if paper == "mutual_attention":
            module.train.verifier(loaded.model, run, torch.zeros(3, 1, 1))(images, images)
    watch.check()
    assert watch.network.keys() >= NETWORK.get(paper, set())
    assert watch.losses.keys() & {"cross_entropy", "log_softmax"}


def test_the_targets_and_losses_of_fgsams_phase_0_are_float32_under_autocast(tiny_data, tmp_path):
    program = load_paper("fgsam").module("pretrain_pose")
    words = ["--demo", "--dataset", "coco_keypoints", "--data-root", str(tiny_data), "--device", "cpu"]
    words += ["--run-dir", str(tmp_path / "run"), "--set", "precision=bf16"]
    with Watch() as watch, watch.inside(program, "targets", "pose_losses"):
        program.main([*words, *POSE_NET])
    watch.check()
    assert {"exp", "square"} <= watch.losses.keys() and "log" in watch.network  # find_joints


def in_losses(half, x):
    return half + 1


def in_losses_under_autocast(half, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ x


def in_the_network(half, x):
    return half.exp()


def an_lstm(half, x):
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.backends.mkldnn.flags(enabled=False):
        return torch.nn.LSTM(2, 2)(x)


@pytest.mark.parametrize(
    ("mistake", "place", "name"),
    [
        (in_losses, "losses", "add"),
        (in_losses_under_autocast, "losses", "matmul"),
        (in_the_network, "network", "exp"),
        (an_lstm, "network", "lstm"),
    ],
)
def test_a_watch_sees_a_mistake(mistake, place, name):
    x = torch.ones(1, 2, 2)
    with Watch() as watch:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = torch.conv2d(x[None], x[None])
        watch.place = "losses"
        half.float().exp()
        watch.check()
        watch.place = place
        mistake(half, x)
    with pytest.raises(AssertionError, match=name):
        watch.check()


def test_a_run_that_was_trained_in_another_precision_is_not_resumed(tiny_data, tmp_path, monkeypatch, capsys):
    train = load_paper("ndmf_net").train
    words = command_line("ndmf_net", tiny_data, tmp_path / "run", "precision=auto", variant="baseline")
    monkeypatch.setattr(devices, "select_precision", lambda setting, device: "fp32")
    train.main(words)
    (tmp_path / "run" / "result.json").unlink()
    monkeypatch.setattr(devices, "select_precision", lambda setting, device: "bf16")
    with pytest.raises(SystemExit) as stop:
        train.main([*words, "--resume"])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "was trained in fp32" in message and "precision: auto is bf16 on this device" in message
