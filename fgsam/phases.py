"""The weights that one phase of the training hands to the next: `phase<N>.pth` in the run's directory, and
`pose_net.pth` of phase 0.

Each file has an identity: paper, phase, data set and the settings that determine the shapes of the weights. Loading
runs no code (`weights_only=True`).
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.errors import UserError
from common.runs import Run, checkpoints

from .model import PLENARY
from .pose_net import PoseNet
from .settings import PoseSettings, Settings

# The modules that a phase hands to the next (Sec. III-B: "the corresponding layers"). Not the identity classifier of
# phase 1 nor the attribute classifiers of phase 2: the next phase's read another feature.
HANDED_ON = {
    1: ("backbone",),
    2: (
        "backbone", "pose_net", "backbone_norm", "maps_norm", "fields_norm", "backbone_sketch", f"branches.{PLENARY}",
        "neck", "identity_classifier",
    ),
}  # fmt: skip


def phase_file(directory: Path, phase: int) -> Path:
    return directory / f"phase{phase}.pth"


def write_phase(file: Path, identity: dict[str, Any], model: nn.Module) -> None:
    """Write a phase's weights atomically. UserError when the disk is full."""
    content = {"identity": identity, "model": model.state_dict()}
    checkpoints.save_tensors(file, content, "Free some space and resume with --resume")


def read_phase(file: Path, expected: dict[str, Any], advice: str) -> dict[str, Tensor]:
    """The weights in a phase's file. UserError: no file (with `advice`), damaged, or another identity than expected."""
    if not file.is_file():
        raise UserError(f"the weights of phase {expected['phase']} are needed, but {file} does not exist: {advice}")
    content = checkpoints.load_tensors(file, "train that phase again, or name another file")
    found = content["identity"]
    for key, value in expected.items():
        if found.get(key) != value:
            raise UserError(
                f"{file} holds weights of another {key.replace('_', ' ')}: {found.get(key)}, but {value} is needed"
            )
    return content["model"]


def phase_identity(run: Run, phase: int) -> dict[str, Any]:
    """The identity of a run's phase1.pth, phase2.pth or phase3.pth."""
    settings: Settings = run.settings
    identity = {
        "paper": run.paper,
        "phase": phase,
        "dataset": run.dataset.name,
        "data_fingerprint": run.dataset.fingerprint,
        "backbone": settings.backbone,
        "bnneck": settings.bnneck,
    }
    if phase >= 2:
        keys = ("pose_width_factor", "pose_batch_norm", "cpb", "bilinear_size", "plenary_size")
        identity |= {key: getattr(settings, key) for key in keys}
    return identity


def pose_identity(paper: str, settings: PoseSettings) -> dict[str, Any]:
    """The identity of `pose_net.pth`. Its data set is left out: a net trained on any joints may be loaded."""
    keys = ("pose_width_factor", "pose_batch_norm")
    return {"paper": paper, "phase": 0} | {key: getattr(settings, key) for key in keys}


def previous_file(run: Run, phase: int) -> Path:
    """The file of the weights that a phase starts from."""
    settings: Settings = run.settings
    if settings.phase == "all":
        return phase_file(run.directory, phase - 1)
    if settings.start_from.endswith(".pth"):
        return Path(settings.start_from).expanduser()
    if settings.start_from != "auto":
        name = f"{run.dataset.name}-{run.dataset.kind}-{settings.start_from}-s{run.seed}"
        return phase_file(run.directory.with_name(name), phase - 1)
    directory = run.directory.with_name(run.directory.name.replace(f"+phase={phase}", f"+phase={phase - 1}"))
    return phase_file(directory, phase - 1)


def hand_on(run: Run, phase: int, model: nn.Module) -> None:
    """Load the weights of the phase before into the model of a phase; none into that of phase 1.

    UserError as read_phase.
    """
    if phase == 1:
        return
    advice = (
        f"train it first (--set phase={phase - 1}), name its file (--set start_from=FILE), or train all phases in one "
        "run (--set phase=all)"
    )
    label = run.settings.start_from
    if run.settings.phase != "all" and label != "auto" and not label.endswith(".pth"):
        advice = f"train the run {label} of the same data set and seed first"
    state = read_phase(previous_file(run, phase), phase_identity(run, phase - 1), advice)
    for module in HANDED_ON[phase - 1]:
        own = {name.removeprefix(f"{module}."): value for name, value in state.items() if name.startswith(f"{module}.")}
        model.get_submodule(module).load_state_dict(own)


def load_pose_net(net: PoseNet, file: Path, paper: str, settings: PoseSettings) -> None:
    """Load phase 0's weights into a pose resolve net, whose channel parse blocks stay as initialised."""
    advice = "name another file of phase 0, or let it be trained (--set pose_weights=auto)"
    state = read_phase(file, pose_identity(paper, settings), advice)
    for name in ("front", "adaptor", "stages"):
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        net.get_submodule(name).load_state_dict(own)
