import pytest
import torch
import torchvision

from common import backbones
from common.backbones import InstanceBatchNorm, build_resnet
from common.errors import UserError


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", (64, 128, 256, 512)), ("resnet50", (256, 512, 1024, 2048))]
)
@pytest.mark.parametrize("last_stride", [1, 2])
def test_stages_have_the_promised_channels_and_sizes(name, channels, last_stride):
    network = build_resnet(name, last_stride=last_stride, pretrained="none").eval()
    assert network.channels == channels
    x = network.stem(torch.rand(1, 3, 64, 32))
    sizes = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)
        sizes.append(tuple(x.shape[1:]))
    last = (4, 2) if last_stride == 1 else (2, 1)
    assert sizes == [(c, *size) for c, size in zip(channels, [(16, 8), (8, 4), (4, 2), last], strict=True)]


def test_forward_with_stride_2_is_torchvisions():
    torch.manual_seed(0)
    reference = torchvision.models.resnet18(weights=None).eval()
    torch.manual_seed(0)
    ours = build_resnet("resnet18", last_stride=2, pretrained="none").eval()
    images = torch.rand(2, 3, 64, 32)
    pooled = ours(images).mean((2, 3))
    torch.testing.assert_close(reference.fc(pooled), reference(images))


def test_instance_batch_norm_is_the_two_norms_written_out():
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm2d(5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 5, 4, 2)
    output = InstanceBatchNorm(norm)(x)
    for c in range(5):
        axes = (1, 2) if c < 2 else (0, 1, 2)  # the first 2 of 5 channels per image, the others over the batch
        mean, variance = x[:, c].mean(axes, keepdim=True), x[:, c].var(axes, correction=0, keepdim=True)
        expected = norm.weight[c] * (x[:, c] - mean) / (variance + 1e-5).sqrt() + norm.bias[c]
        torch.testing.assert_close(output[:, c], expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_ibn_replaces_the_first_norm_of_each_block_of_the_first_three_stages(name):
    network = build_resnet(name, last_stride=1, pretrained="none", ibn=True)
    found = [path for path, module in network.named_modules() if isinstance(module, InstanceBatchNorm)]
    blocks = {"resnet18": (2, 2, 2), "resnet50": (3, 4, 6)}[name]
    assert found == [f"layer{stage}.{block}.bn1" for stage, n in enumerate(blocks, 1) for block in range(n)]
    assert network(torch.rand(2, 3, 64, 32)).shape == (2, network.channels[3], 4, 2)


def test_pretrained_weights_are_copied_into_both_halves_of_ibn(tmp_path):
    reference = torchvision.models.resnet18(weights=None)
    norm = reference.layer2[1].bn1
    for values in (norm.weight.data, norm.bias.data, norm.running_mean):
        values.normal_()
    norm.running_var.uniform_(1, 2)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    ours = build_resnet("resnet18", last_stride=1, pretrained=str(tmp_path / "weights.pth"), ibn=True)
    torch.testing.assert_close(ours.layer2[1].conv1.weight, reference.layer2[1].conv1.weight)
    split = ours.layer2[1].bn1
    for name in ("weight", "bias"):
        halves = [getattr(split.instance_norm, name), getattr(split.batch_norm, name)]
        torch.testing.assert_close(torch.cat(halves), getattr(norm, name))
    torch.testing.assert_close(split.batch_norm.running_mean, norm.running_mean[64:])
    torch.testing.assert_close(split.batch_norm.running_var, norm.running_var[64:])


class IBN(torch.nn.Module):
    """As in IBN-Net's ibnnet/modules.py."""

    def __init__(self, planes):
        super().__init__()
        self.half = planes // 2
        self.IN = torch.nn.InstanceNorm2d(self.half, affine=True)
        self.BN = torch.nn.BatchNorm2d(planes - self.half)

    def forward(self, x):
        first, second = x.split([self.half, x.shape[1] - self.half], dim=1)
        return torch.cat([self.IN(first.contiguous()), self.BN(second.contiguous())], dim=1)


@pytest.mark.parametrize("prefix", ["", "module."])  # the latter in its older files
def test_weights_under_ibn_nets_names_give_its_network(tmp_path, prefix):
    torch.manual_seed(0)
    reference = torchvision.models.resnet18(weights=None)
    for block in (*reference.layer1, *reference.layer2, *reference.layer3):
        block.bn1 = IBN(block.bn1.num_features)
    for name, value in reference.state_dict().items():
        if "bn" in name and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    state = {prefix + name: value for name, value in reference.state_dict().items()}
    assert f"{prefix}layer3.1.bn1.IN.weight" in state and f"{prefix}layer3.1.bn1.BN.running_var" in state
    file = tmp_path / "resnet18_ibn_a.pth"
    torch.save(state, file)
    ours = build_resnet("resnet18", last_stride=2, pretrained=str(file), ibn=True).eval()
    images = torch.rand(2, 3, 64, 32)
    expected = reference.eval()(images)
    torch.testing.assert_close(reference.fc(ours(images).mean((2, 3))), expected)
    with pytest.raises(UserError, match=r"IBN-a.*ibn: false"):
        build_resnet("resnet18", last_stride=2, pretrained=str(file))
    del state[f"{prefix}layer3.1.bn1.BN.weight"]
    torch.save(state, file)
    with pytest.raises(UserError, match=r"resnet18_ibn_a\.pth is not a .*state dict of resnet18"):
        build_resnet("resnet18", last_stride=2, pretrained=str(file), ibn=True)


def test_ibn_draws_no_random_numbers_and_leaves_the_other_weights():
    networks = []
    for ibn in (False, True):
        torch.manual_seed(0)
        networks.append((build_resnet("resnet18", last_stride=1, pretrained="none", ibn=ibn), torch.rand(1)))
    (plain, after_plain), (split, after_split) = networks
    assert after_plain == after_split
    torch.testing.assert_close(split.layer3[0].conv1.weight, plain.layer3[0].conv1.weight)
    torch.testing.assert_close(split.layer4[0].bn1.weight, plain.layer4[0].bn1.weight)


def test_a_state_dict_file_is_loaded(tmp_path):
    reference = torchvision.models.resnet18(weights=None)
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    ours = build_resnet("resnet18", last_stride=1, pretrained=str(tmp_path / "weights.pth"))
    torch.testing.assert_close(ours.layer4[0].conv1.weight, reference.layer4[0].conv1.weight)


def test_the_cached_imagenet_file_is_loaded_without_the_network(tmp_path, monkeypatch):
    reference = torchvision.models.resnet18(weights=None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    file = tmp_path / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[1]
    file.parent.mkdir(parents=True)
    torch.save(reference.state_dict(), file)
    ours = build_resnet("resnet18", last_stride=1, pretrained="imagenet")
    torch.testing.assert_close(ours.layer1[0].conv1.weight, reference.layer1[0].conv1.weight)


def test_missing_weights_offline_name_the_file_and_what_can_be_done(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(UserError, match=r"resnet50-0676ba61\.pth(.|\n)*pretrained=FILE(.|\n)*pretrained=none"):
        build_resnet("resnet50", last_stride=1, pretrained="imagenet")


def test_bad_weights_and_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="no file"):
        build_resnet("resnet18", last_stride=1, pretrained=str(tmp_path / "absent.pth"))
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="not a torchvision state dict of resnet18"):
        build_resnet("resnet18", last_stride=1, pretrained=str(tmp_path / "broken.pth"))
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="not a torchvision state dict of resnet18"):
        build_resnet("resnet18", last_stride=1, pretrained=str(tmp_path / "other.pth"))
    with pytest.raises(UserError, match="unknown backbone 'vgg'"):
        build_resnet("vgg", last_stride=1, pretrained="none")
    assert "resnet18" in backbones.NAMES
