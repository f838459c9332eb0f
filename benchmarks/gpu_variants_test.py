"""The variants of each paper for a few steps on a pretend GPU: the CPU's losses, and one wait for it in a step."""

import pytest

from benchmarks.gpu_runs import GPU, PAPERS, command_line, small_runs, trained_steps, waits_between_steps
from benchmarks.pretend_gpu import PretendGPU
from common.files import read_yaml
from common.paths import package_folder

# Settings with code of their own, beside the variants of config.yaml.
SETTINGS = {"ndmf_net": [("sam", ["triplet_squared=true", "bnneck=false"])]}
PHASE_2, PHASE_3 = ["phase_epochs=[0, 1, 0]", "num_epochs=1"], ["phase_epochs=[0, 0, 1]", "num_epochs=1"]
MORE = {
    ("fgsam", "pose"): [*PHASE_2, "pose_weights=none", "pose_loss=none"],
    ("fgsam", "lram"): [*PHASE_3, "pose_weights=none", "pose_loss=none", "mining=hard"],
    ("fgsam", "no_cpb"): [*PHASE_3, "pose_weights=none", "pose_loss=none", "detach_weight=true", "bnneck=true"],
}
# `full` is trained in gpu_training_test.py; the others have parts of its code, and none of their own.
LEFT_OUT = {
    "dfw_crossmodal": {"full", "dfw", "sln", "re", "dfw_re", "dfw_sln", "sln_re"},
    "fgsam": {"full", "base"},
    "mgre": {"full", "stage1", "stage2", "stage3", "stages23", "whole_image_stage3"},
    "mutual_attention": {"full"},
    "ndmf_net": {"full", "pcam", "sam", "ndem"},  # the LSTM is tested below
}


def cases():
    for paper in PAPERS:
        variants = read_yaml(package_folder(paper) / "config.yaml")["variants"]
        for variant in variants.keys() - LEFT_OUT.get(paper, set()):
            yield paper, variant, MORE.get((paper, variant), [])
        yield from ((paper, variant, sets) for variant, sets in SETTINGS.get(paper, []))


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory):
    with small_runs(tmp_path_factory.mktemp("small")) as patch:
        yield patch


def on_both_devices(paper, data, folder, *sets, variant="full", more=()):
    """The loss terms of each step on the CPU and on the GPU, and the waits from each step to the next."""
    cpu = trained_steps(paper, [*command_line(paper, data, folder / "cpu", *sets, variant=variant), *more])
    with PretendGPU() as gpu, waits_between_steps(gpu) as waits:
        words = command_line(paper, data, folder / "gpu", *sets, variant=variant, device=GPU)
        return cpu, trained_steps(paper, [*words, *more]), waits()


@pytest.mark.parametrize(("paper", "variant", "sets"), sorted(cases()))
def test_a_variant_learns_on_a_gpu_as_on_the_cpu(paper, variant, sets, tiny_data, tmp_path):
    cpu, gpu, waits = on_both_devices(paper, tiny_data, tmp_path, *sets, variant=variant)
    assert gpu == cpu
    assert waits and set(waits) == {1}


def test_a_thermal_data_set_is_learned_on_a_gpu_as_on_the_cpu(tiny_data, tmp_path):
    sets = ["dfw_form=D3", "dfw_gate=sigmoid", "colours=kept", "overlap_centre=hard"]
    cpu, gpu, waits = on_both_devices("dfw_crossmodal", tiny_data, tmp_path, *sets, more=["--dataset", "regdb"])
    assert gpu == cpu and set(waits) == {1}


def test_drawing_triplets_waits_for_the_labels(tiny_data, tmp_path):
    """They are drawn on the CPU, so that a seed means the same on every device: two draws for each sub-network."""
    sets = ["triplet_mining=random", "dfw_form=D2", "colours=luma", "optimiser=sgd", "unit_features=true"]
    sets += ["overlap_map=deviation", "overlap_centre=straight"]
    cpu, gpu, waits = on_both_devices("dfw_crossmodal", tiny_data, tmp_path, *sets)
    assert gpu == cpu
    assert set(waits) == {1 + 2 * 2 * 2}  # the mask to the CPU, and what was drawn back


def test_the_lstm_learns_on_a_gpu_nearly_as_on_the_cpu(tiny_data, tmp_path):
    """A CPU's library computes an LSTM in another order: equal up to rounding, which Adam's first steps enlarge."""
    cpu, gpu, waits = on_both_devices("ndmf_net", tiny_data, tmp_path, "ndem=true", "part_features=pool")
    for one, other in zip(gpu, cpu, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    assert set(waits) == {1}


def test_fp16_scales_the_loss_and_waits_once_more(tiny_data, tmp_path):
    """On GPUs before Ampere; a scale is a power of 2. GradScaler asks whether a gradient overflowed."""
    folder, variant = tmp_path, {"variant": "baseline"}
    cpu = trained_steps("ndmf_net", command_line("ndmf_net", tiny_data, folder / "cpu", **variant))
    with PretendGPU(capability=(7, 0)) as gpu, waits_between_steps(gpu) as waits:
        words = command_line("ndmf_net", tiny_data, folder / "gpu", "precision=auto", **variant, device=GPU)
        steps = trained_steps("ndmf_net", words)
    for one, other in zip(steps, cpu, strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    assert set(waits()) == {2}
