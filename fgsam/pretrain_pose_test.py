"""Phase 0's training loop, read from a run: images, rates, losses and gradients; and whose joints are scored."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.datasets import open_dataset
from common.datasets.synthetic import make_dataset
from common.runs import Run

from . import pretrain_pose
from .model_test import settings_of
from .network_test import SMALL, plain_pose_net
from .pose_data import PoseBatch, open_pose_images
from .pose_net import PoseNet
from .pose_test import plain_targets
from .skeleton import JOINTS, LIMBS
from .train_test import index_of, order_and_flips, picture

RATE, EPOCHS, STEPS = 1e-3, 3, 2  # STEPS: of an epoch


class MarkedPeople:
    """Ten images that show which they are, of a person each; the left elbow of the fourth is not labelled."""

    def __init__(self):
        places = 0.2 + 0.6 * torch.rand(10, 1, 18, 2, generator=torch.Generator().manual_seed(0))
        self.joints = torch.cat([places, torch.full((10, 1, 18, 1), 2.0)], dim=3)
        self.joints[3, 0, JOINTS.index("left_elbow"), 2] = 0

    def __len__(self):
        return 10

    def batch(self, indices):
        images = torch.stack([torch.from_numpy(picture(int(i))).permute(2, 0, 1) for i in indices])
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(indices), 1, 4)
        return PoseBatch(images, self.joints[indices], boxes, torch.zeros(len(indices), 8, 4, dtype=torch.bool))


def trained(folder, seed=0):
    """A run of phase 0, what it had before each of its steps, and the images that the net received."""
    own = {"pose_pretrained": "none", "pose_batch": 5, "pose_epochs": EPOCHS, "pose_learning_rate": RATE}
    own |= {"precision": "fp32", "pose_sigma": 0.8, "pose_limb_width": 0.7}
    settings = pretrain_pose.program_settings(settings_of(demo=False, **SMALL | own))
    dataset = SimpleNamespace(name="tiny", kind="real", folder=folder, fingerprint="0" * 16)
    run = Run(pretrain_pose.__package__, dataset, "full", settings, seed, torch.device("cpu"), folder)
    steps, nets = [], []

    def receive(module, inputs):
        if isinstance(module, PoseNet) and module.training:
            nets.append((module, inputs[0]))

    def keep(optimiser, *_):
        (group,), (net, images) = optimiser.param_groups, nets[-1]
        gradients = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
        steps.append(SimpleNamespace(rate=group["lr"], net=copy.deepcopy(net), gradients=gradients, images=images))

    hooks = register_optimizer_step_pre_hook(keep), register_module_forward_pre_hook(receive)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.runs.run.source_hash", lambda _: "0" * 16)
        pretrain_pose.train(run, MarkedPeople())
    for hook in hooks:
        hook.remove()
    return SimpleNamespace(run=run, steps=steps)


@pytest.fixture(scope="module")
def phase_0(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("phase_0"))


def shown(step):
    """(index, mirrored) of each image of a step."""
    return [index_of(image) for image in step.images]


def asked(index, mirrored):
    """What eq. 3-4 ask for of an image, and W, which is 0 for a joint without a label and its limbs: (57, 8, 4)."""
    joints = MarkedPeople().joints[index, 0].double()
    if mirrored:
        other = {"left": "right", "right": "left"}
        sides = [name.partition("_") for name in JOINTS]
        joints = joints[[JOINTS.index(f"{other[side]}_{joint}" if joint else side) for side, _, joint in sides]]
        joints[:, 0] = 1 - joints[:, 0]
    known = dict(zip(JOINTS, (joints[:, 2] > 0).tolist(), strict=True))
    W = [*known.values(), True, *(known[begin] and known[end] for begin, end in LIMBS for _ in "xy")]
    joints[:, :2] = joints[:, :2] * torch.tensor([4.0, 8.0]) - 0.5
    return plain_targets(joints[None], 8, 4, sigma=0.8, limb_width=0.7), torch.tensor(W)[:, None, None].double()


def test_the_rate_is_a_cosine_over_all_steps(phase_0):
    assert len(phase_0.steps) == EPOCHS * STEPS
    expected = [RATE * (1 + math.cos(math.pi * number / 6)) / 2 for number in range(6)]
    assert [step.rate for step in phase_0.steps] == pytest.approx(expected)


def test_each_epoch_has_each_image_once_and_mirrors_others_in_each_step(phase_0):
    found = [shown(step) for step in phase_0.steps]
    for epoch in range(EPOCHS):
        assert sorted(index for batch in found[STEPS * epoch :][:STEPS] for index, _ in batch) == list(range(10))
    flips = [tuple(mirrored for _, mirrored in batch) for batch in found]
    assert len(set(flips)) > EPOCHS and 10 < sum(map(sum, flips)) < 20  # of 30 images


def test_each_step_minimises_eq_3_and_4_on_the_images_that_it_received(phase_0):
    logged = {"loss": [], "maps_loss": [], "fields_loss": []}
    for step in phase_0.steps:
        net = step.net.double()
        wanted, W = (torch.stack(parts) for parts in zip(*(asked(*image) for image in shown(step)), strict=True))
        stages, _ = plain_pose_net(net, step.images.double(), cpb=False)
        squares = [W * (stage - wanted) ** 2 for stage in stages]
        maps_loss = sum(square[:, :19].sum() for square in squares) / 5  # images
        fields_loss = sum(square[:, 19:].sum() for square in squares) / 5
        names = [name for name, _ in net.named_parameters()]
        gradients = torch.autograd.grad(maps_loss + fields_loss, [parameter for _, parameter in net.named_parameters()])
        for name, expected in zip(names, gradients, strict=True):
            error = (step.gradients[name].double() - expected).norm()
            assert error < 1e-3 * expected.norm() + 1e-6, name
        for name, value in zip(logged, (maps_loss + fields_loss, maps_loss, fields_loss), strict=True):
            logged[name].append(value.item())
    for name, values in logged.items():
        means = [sum(values[STEPS * epoch :][:STEPS]) / STEPS for epoch in range(EPOCHS)]
        assert [entry[name] for entry in phase_0.run.history.log] == pytest.approx(means, rel=1e-4)


def test_a_seed_decides_the_batches_flips_and_weights_to_start_from(phase_0, tmp_path):
    (tmp_path / "again").mkdir()
    torch.manual_seed(7)
    again, other = trained(tmp_path / "again"), trained(tmp_path, seed=1)
    found, same, (other_order, other_flips) = (
        order_and_flips([step.images for step in each.steps]) for each in (phase_0, again, other)
    )
    assert found == same and found[0] != other_order and found[1] != other_flips
    start, restart, elsewhere = (dict(each.steps[0].net.float().named_parameters()) for each in (phase_0, again, other))
    for name, value in start.items():
        torch.testing.assert_close(value, restart[name], rtol=1e-6, atol=0)
        assert value.ndim == 1 or not torch.allclose(value, elsewhere[name]), name  # biases are 0


def test_phase_0_learns_from_the_training_people_and_is_scored_on_others(tmp_path):
    make_dataset(tmp_path / "market1501", like="market1501", size="tiny", processes=1)
    dataset = open_dataset("market1501", tmp_path)
    people, unseen = open_pose_images(dataset, settings_of(cache=False))
    assert people.store.paths == [sample.path for sample in dataset.train.samples]
    assert unseen.store.paths == [sample.path for sample in dataset.query.samples]
    assert not {s.person for s in dataset.train.samples} & {s.person for s in dataset.query.samples}
