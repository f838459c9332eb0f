"""The training loop of all phases, read from a run: rates, images, labels, gradients and Adam's steps."""

import copy
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from common.datasets.base import Sample, Subset
from common.errors import UserError
from common.runs import Run

from . import model as model_module
from . import pose_upkeep, train
from .attribute_tasks import UNLABELLED, AttributeTable
from .losses_test import plain_branch_loss
from .model import FGSAM, Baseline, network_of_phase
from .model_test import settings_of
from .network_test import NUM_VALUES, SMALL, narrow_resnet, plain_network
from .phases import hand_on, pose_identity, write_phase
from .pose_net import PoseNet
from .skeleton import PARTS

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's, in [0, 1]
PEOPLE, IMAGES = 8, 2  # in batches of 4 x 2: two steps an epoch
CODES = {100 + i: np.array([i % 2, (i + 1) % 2 if i != 3 else UNLABELLED, i % 3]) for i in range(PEOPLE)}
RATES = {1: (1e-3, 5e-4), 2: (1e-3, 5e-4), 3: (1e-4, 5e-5)}  # of each phase's two epochs


def picture(index):
    """(64, 32, 3) uint8 whose first pixel says which image it is, the last of its row whether it is mirrored."""
    pixels = np.random.default_rng(index).integers(0, 256, (64, 32, 3), np.uint8)
    pixels[0, 0], pixels[0, -1] = 5 * index, 250
    return pixels


AS_PRINTED = {"pose_rate": 1.0, "pose_loss": "none"}  # of the pose net in phases 2 and 3


def phase_0_file(folder, **overrides):
    """An untrained net as phase 0 would leave it, with maps that are not near 0, and its file."""
    torch.manual_seed(0)
    settings = settings_of(**SMALL | overrides)
    net = PoseNet(settings, cpb=False)
    for stream in (s for stage in net.stages for s in stage.values()):
        nn.init.normal_(stream[-1].weight, std=0.05)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    file = folder / "pose_net.pth"
    write_phase(file, pose_identity(train.__package__, settings), net)
    return net.eval(), file


def tiny_run(folder, seed=0, **overrides):
    """A run in `folder` at the printed settings on small images; image i is of identity i // IMAGES."""
    samples = []
    for i in range(PEOPLE * IMAGES):
        Image.fromarray(picture(i)).save(folder / f"{i}.png")
        samples.append(Sample(folder / f"{i}.png", person=100 + i // IMAGES, camera=i % IMAGES))
    schedule = {"phase_epochs": [2, 2, 2], "halving_epochs": [1, 1, 1], "checkpoint_epochs": 6}
    sizes = {"last_stride": 1, "identities_per_batch": 4, "images_per_identity": IMAGES, "precision": "fp32"}
    settings = settings_of(demo=False, **SMALL | schedule | sizes | {"pose_weights": "none"} | AS_PRINTED | overrides)
    dataset = SimpleNamespace(name="tiny", kind="real", folder=folder, fingerprint="0" * 16)
    dataset.train = Subset("train", tuple(samples))
    return Run(train.__package__, dataset, "full", settings, seed, torch.device("cpu"), folder)


class Step:
    """What an optimiser had before a step: each parameter's rate, value and gradient."""

    def __init__(self, optimiser, model):
        names = {parameter: name for name, parameter in model.named_parameters()}
        self.phase = 1 if isinstance(model, Baseline) else 3 if len(model.branches) > 1 else 2
        self.model = copy.deepcopy(model)
        self.rates, self.values, self.gradients = {}, {}, {}
        for group in optimiser.param_groups:
            assert group["weight_decay"] == 0 and group["betas"] == (0.9, 0.999) and group["eps"] == 1e-8
            for parameter in group["params"]:
                name = names[parameter]
                self.rates[name], self.values[name] = group["lr"], parameter.detach().clone()
                self.gradients[name] = None if parameter.grad is None else parameter.grad.clone()


def no_pose_data(run):
    raise UserError("no pose data")


def trained(folder, *, keep_steps=True, **overrides):
    """A run of all phases, its trained network, the optimiser's steps, and the images that the network received, pose
    images apart."""
    run, steps, received, posed, networks = tiny_run(folder, **overrides), [], [], [], []

    def receive(module, inputs):
        if isinstance(module, (Baseline, FGSAM)) and module.training:
            networks.append(module)
            received.append(inputs[0])
            posed.extend(inputs[1:])

    def keep(optimiser, *_):
        steps.append(Step(optimiser, networks[-1]))

    with ExitStack() as hooks:
        if keep_steps:
            hooks.callback(register_optimizer_step_pre_hook(keep).remove)
            hooks.callback(register_module_forward_pre_hook(receive).remove)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model_module.backbones, "build_resnet", narrow_resnet)
            values = {task: tuple(map(str, range(count))) for task, count in NUM_VALUES.items()}
            patch.setattr(train, "read_table", lambda _: AttributeTable(values, CODES))
            patch.setattr(pose_upkeep, "pose_run_for", no_pose_data)
            patch.setenv("REID_DATA", str(folder))
            model = train.train(run)
    return SimpleNamespace(run=run, model=model, steps=steps, received=received, posed=posed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return trained(folder, pose_weights=str(phase_0_file(folder)[1]))


def index_of(image):
    """Which image it is and whether it is mirrored, from what the network received; every pixel is checked."""
    pixels = (image.double().numpy().transpose(1, 2, 0) * STD + MEAN) * 255
    mirrored = bool(abs(pixels[0, 0] - 250).max() < 1e-3)
    pixels = pixels[:, ::-1] if mirrored else pixels
    index = round(pixels[0, 0, 0] / 5)
    assert np.abs(pixels - picture(index)).max() < 1e-3
    return index, mirrored


def order_and_flips(batches):
    """Which images the batches have in turn, and which of these are mirrored."""
    return tuple(zip(*(index_of(image) for images in batches for image in images), strict=True))


def test_each_phase_has_its_rates(whole):
    assert [step.phase for step in whole.steps] == [1] * 4 + [2] * 4 + [3] * 4
    for number, step in enumerate(whole.steps):
        expected = RATES[step.phase][number % 4 // 2]
        assert set(step.rates) == {name for name, _ in step.model.named_parameters()}
        assert all(rate == pytest.approx(expected) for rate in step.rates.values())
    log = whole.run.history.log
    assert [entry["phase"] for entry in log] == [1, 1, 2, 2, 3, 3]
    assert [entry["learning_rate"] for entry in log] == pytest.approx([r for rates in RATES.values() for r in rates])


def test_the_pose_nets_rate_is_a_share_of_the_phases_but_not_its_cpbs(tmp_path):
    found = trained(tmp_path, pose_rate=0.1, phase_epochs=[0, 1, 1])
    for step in found.steps:
        for name, rate in step.rates.items():
            own = name.startswith("pose_net.") and not name.startswith("pose_net.parse.")
            assert rate == pytest.approx(RATES[step.phase][0] * (0.1 if own else 1)), name


def test_images_are_mirrored_by_halves_and_in_batches_of_4_people(whole):
    assert len(whole.received) == 12
    found = [[index_of(image) for image in images] for images in whole.received]
    for batch in found:
        people = [index // IMAGES for index, _ in batch]
        assert len(batch) == 8 and len(set(people)) == 4 and all(people.count(person) == 2 for person in people)
    flips = [tuple(mirrored for _, mirrored in batch) for batch in found]
    assert 0.3 < np.mean(flips) < 0.7 and len(set(flips)) > 9  # of 256 possible ones each


def plain_loss(step, images):
    """A step's network in float64, and eq. 11 of the images that it received, under the labels that are read from their
    pixels."""
    plain = step.model.double()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            parameter.copy_(step.values[name])
    people = [index_of(image)[0] // IMAGES for image in images]
    labels = torch.tensor(people)
    found = plain_network(plain, images.double(), step.phase, training=True)
    embeddings, _, identity_logits, attribute_logits, _ = found
    loss = -sum(identity_logits.log_softmax(1)[i, label] for i, label in enumerate(people)) / len(people)
    for position, logits in enumerate(attribute_logits.values()):
        own = [CODES[100 + person][position] for person in people]
        known = [i for i, code in enumerate(own) if code != UNLABELLED]
        loss = loss - sum(logits.log_softmax(1)[i, own[i]] for i in known) / len(known)
    if step.phase == 3:
        loss = loss + sum(plain_branch_loss(f, labels, 0.5, 0.01, 2) for f in embeddings.values())
    return plain, loss


def assert_gradients(step, plain, loss):
    """Those that the optimiser had are those of `loss` by the parameters of `plain`."""
    names = [name for name, _ in plain.named_parameters()]
    gradients = torch.autograd.grad(loss, [p for _, p in plain.named_parameters()], allow_unused=True)
    largest = max(gradient.norm() for gradient in gradients if gradient is not None)
    for name, expected in zip(names, gradients, strict=True):
        given = step.gradients[name]
        assert given is not None, name
        error = (given.double() - expected).norm()
        assert error < 0.03 * expected.norm() + 1e-4 * largest, f"phase {step.phase}, {name}: {error}"


def test_each_steps_gradient_is_that_of_eq_1_to_11(whole):
    for step, images in zip(whole.steps, whole.received, strict=True):
        assert_gradients(step, *plain_loss(step, images))


def test_phase_2_starts_from_phase_0s_net_and_phase_3_from_phase_2s(whole):
    phase_0 = torch.load(whole.run.settings.pose_weights, weights_only=True)["model"]
    second, third = (next(step for step in whole.steps if step.phase == phase).values for phase in (2, 3))
    for name, value in phase_0.items():
        assert torch.equal(second[f"pose_net.{name}"], value) and not torch.equal(third[f"pose_net.{name}"], value)


@pytest.mark.parametrize(("phase", "new"), [(2, None), (3, (*PARTS, "attribute_classifiers"))])
def test_a_phase_gets_all_weights_and_statistics_that_both_networks_have(whole, monkeypatch, phase, new):
    """The running statistics of eq. 6-8's norms too, and the count sketches. Phase 1 hands on its backbone alone."""
    monkeypatch.setattr(model_module.backbones, "build_resnet", narrow_resnet)
    before = torch.load(whole.run.directory / f"phase{phase - 1}.pth", weights_only=True)["model"]
    model = network_of_phase(phase, PEOPLE, NUM_VALUES, whole.run.settings)
    fresh = copy.deepcopy(model.state_dict())
    hand_on(whole.run, phase, model)
    for name, value in model.state_dict().items():
        part = name.removeprefix("branches.").split(".")[0]
        handed_on = part not in new if new else part == "backbone"
        assert torch.equal(value, before[name] if handed_on else fresh[name]), name
        if handed_on and "running_" in name:
            assert not torch.equal(value, fresh[name]), f"{name}: to hand it on or not would be the same"


def test_weight_decay_is_that_of_the_settings_in_both_groups():
    settings = settings_of(weight_decay=0.3)
    for phase, groups in ((1, 1), (3, 2)):
        model = network_of_phase(phase, PEOPLE, NUM_VALUES, settings)
        optimiser = train.build_optimiser(model, phase, settings, fused=False)
        assert [group["weight_decay"] for group in optimiser.param_groups] == groups * [0.3]


def test_a_seed_decides_the_batches_flips_and_weights_to_start_from(whole, tmp_path):
    (tmp_path / "again").mkdir()
    torch.manual_seed(7)
    one_epoch = {"last_phase": 1, "phase_epochs": [1, 0, 0]}
    again, other = trained(tmp_path / "again", **one_epoch), trained(tmp_path, seed=1, **one_epoch)
    order, flips = order_and_flips(whole.received[:2])
    other_order, other_flips = order_and_flips(other.received)
    assert order_and_flips(again.received) == (order, flips)
    assert order != other_order and flips != other_flips
    for name, value in whole.steps[0].values.items():
        torch.testing.assert_close(again.steps[0].values[name], value, rtol=0, atol=0)
        assert value.ndim == 1 or not torch.allclose(other.steps[0].values[name], value), name


def test_each_phases_parameters_are_adams_by_hand(whole):
    """Kingma and Ba's Algorithm 1, begun again in each phase from the weights that the one before hands on."""
    steps = [[step for step in whole.steps if step.phase == phase] for phase in (1, 2, 3)]
    ends = [None, None, dict(whole.model.named_parameters())]
    for phase, own in enumerate(steps, start=1):
        for name, start in own[0].values.items():
            theta, m, v = start.double(), 0, 0
            for t, step in enumerate(own, start=1):
                torch.testing.assert_close(step.values[name].double(), theta, rtol=0, atol=1e-6)
                g = step.gradients[name].double()
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                rate = RATES[phase][(t - 1) // 2]
                theta = theta - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            if phase == 3:
                torch.testing.assert_close(ends[2][name].detach().double(), theta, rtol=0, atol=1e-6)
            handed_on = steps[phase][0].values.get(name) if phase < 3 else None
            dropped = "attribute_classifiers." if phase == 2 else "identity_classifier."
            if handed_on is not None and not name.startswith(dropped):
                torch.testing.assert_close(handed_on.double(), theta, rtol=0, atol=1e-6)
            elif handed_on is not None and handed_on.shape == theta.shape:
                assert not torch.allclose(handed_on.double(), theta, atol=1e-3), f"{name} starts again"


def test_a_test_feature_is_of_the_normalised_image(whole):
    pixels = np.stack([picture(3), picture(7)])
    found = train.embedder(whole.model.eval(), whole.run)(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    images = torch.from_numpy(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2))
    plain = copy.deepcopy(whole.model).double().eval()
    with torch.no_grad():
        compared = plain_network(plain, images, 3, training=False)[1]
    feature = torch.cat(list(compared.values()), dim=1)
    expected = feature / feature.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=6e-3)
