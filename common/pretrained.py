"""The weights that a network starts from, as `pretrained` in a paper's settings names them.

`imagenet`: torchvision's IMAGENET1K_V1, downloaded once into the torch hub folder. `synthetic`: the stem to layer3 of a
resnet18, learned from synthetic people that no data set has (weights/README.md). `none`: random. Anything else is the
path of a torchvision state dict or, for a network with IBN-a, of one of IBN-Net's own (github.com/XingangPan/IBN-Net).
"""

import hashlib
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from common.errors import UserError
from common.files import read_json
from common.paths import REPOSITORY

WEIGHTS_FOLDER = REPOSITORY / "common" / "weights"
SYNTHETIC_BACKBONE = "resnet18"
IBN_NORM = ".bn1."  # of a block, which IBN-Net splits into IN and BN
RESTORE = "restore it with `git checkout -- common/weights`, or learn it again with `make start`"


def load_pretrained(network: torchvision.models.ResNet, name: str, pretrained: str, *, ibn: bool = False) -> None:
    """Put the weights that `pretrained` names into a new torchvision ResNet, `name`; draws no random numbers.

    ibn: its norms will be split in two afterwards, so that weights of IBN-a fit.

    Of `synthetic`, layer4 and the classifier stay as they are. UserError, saying what to do: the weights are missing,
    damaged, or of another network.
    """
    if pretrained == "none":
        return
    if pretrained == "imagenet":
        state = _imagenet_weights(name)
    elif pretrained == "synthetic":
        state = network.state_dict() | _synthetic_weights(name)
    else:
        state = _weights_of_file(name, Path(pretrained).expanduser(), ibn)
    network.load_state_dict(state)


def weights_hash(pretrained: str) -> str | None:
    """12 hex digits of the SHA-256 of the file that `pretrained` names; None for `imagenet`, which never changes, and
    `none`. UserError: the file is missing or, of `synthetic`, not the one in its record."""
    if pretrained in ("imagenet", "none"):
        return None
    if pretrained == "synthetic":
        return _checked_synthetic_file()[1][:12]
    return sha256_of(_existing(Path(pretrained).expanduser()))[:12]


def synthetic_file() -> Path:
    """Its record is beside it, with the suffix .json."""
    return WEIGHTS_FOLDER / f"{SYNTHETIC_BACKBONE}.pth"


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _imagenet_weights(name: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"pretrained: imagenet needs {weights.url}, and it could not be fetched ({error}).\n"
            f"       Fetch it on a machine that can and put it at {file},\n"
            f"       or give its path (--set pretrained=FILE), or train from scratch (--set pretrained=none)"
        ) from None


def _synthetic_weights(name: str) -> dict[str, Tensor]:
    if name != SYNTHETIC_BACKBONE:
        raise UserError(
            f"pretrained: synthetic has weights of {SYNTHETIC_BACKBONE} only, and the backbone is {name}: take "
            f"--set backbone={SYNTHETIC_BACKBONE}, or other weights (--set pretrained=imagenet, none or FILE)"
        )
    return torch.load(_checked_synthetic_file()[0], map_location="cpu", weights_only=True)


def _checked_synthetic_file() -> tuple[Path, str]:
    """The file and its SHA-256, which is that of its record."""
    file = synthetic_file()
    record = read_json(file.with_suffix(".json"))
    for needed in (file, file.with_suffix(".json")):
        if not needed.is_file():
            raise UserError(f"pretrained: synthetic needs {needed}, which is missing: {RESTORE}")
    digest = sha256_of(file)
    if digest != record["sha256"]:
        raise UserError(f"pretrained: {file} is damaged, as its SHA-256 is not the one in its record: {RESTORE}")
    return file, digest


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise UserError(
            f"pretrained: no file {file}. Give 'imagenet', 'synthetic', 'none' or the path of a torchvision state dict"
        )
    return file


def _weights_of_file(name: str, file: Path, ibn: bool) -> dict[str, Tensor]:
    _existing(file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        if any(key.endswith(IBN_NORM + "IN.weight") for key in state):
            if not ibn:
                raise UserError(f"pretrained: {file} has weights of IBN-a, and this network has none (ibn: false)")
            state = _without_ibn(state)
        getattr(torchvision.models, name)(weights=None).load_state_dict(state)
    except UserError:
        raise
    except Exception as error:  # whatever is wrong with the file, the user needs its name and what was expected
        raise UserError(f"pretrained: {file} is not a torchvision state dict of {name}: {error}") from None
    return state


def _without_ibn(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """IBN-Net's state dict under torchvision's names: both halves of a norm side by side. The instance norm's half has
    no running statistics and gets those of a new batch norm."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    split = {key.partition(IBN_NORM)[0] + IBN_NORM for key in state if IBN_NORM + "IN." in key}
    found = {key: value for key, value in state.items() if not key.startswith(tuple(split))}
    for norm in split:
        weight, bias = state[f"{norm}IN.weight"], state[f"{norm}IN.bias"]
        first = {"weight": weight, "bias": bias, "running_mean": torch.zeros_like(bias)}
        for name, values in (first | {"running_var": torch.ones_like(weight)}).items():
            found[norm + name] = torch.cat([values, state[f"{norm}BN.{name}"]])
    return found
