"""What one phase of the training leaves for the next: `phase<N>.pth` in the run's directory, `pose_net.pth` of phase 0.

Such a file says what it is of: paper, phase, data set and the settings that give the weights their shapes. Loading runs
no code (`weights_only=True`).
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from common.checkpoints import load_whole, save_whole
from common.errors import UserError
from common.runs import Run

from .model import PLENARY
from .settings import Config, PoseConfig

# The modules that a phase hands to the next (Sec. III-B: "the corresponding layers"). Phase 1 classifies identities
# from the pooled feature, phase 2 attributes from the plenary branch: the classifiers that follow read something else.
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
    """Write a phase's weights whole or not at all. UserError when the disk is full."""
    content = {"identity": identity, "model": model.state_dict()}
    save_whole(file, content, f"the weights of phase {identity['phase']}", "go on with --resume")


def read_phase(file: Path, expected: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in a phase's file. UserError: no such file, damaged, or not what `expected` says (named)."""
    if not file.is_file():
        raise UserError(
            f"phase {expected['phase'] + 1} starts from the weights of phase {expected['phase']}, and {file} does not "
            f"exist: train it first (--set phase={expected['phase']}), name its file (--set start_from=FILE), or train "
            "all phases in one run (--set phase=all)"
        )
    content = load_whole(file, "train that phase again, or name another file")
    found = content["identity"]
    for key, value in expected.items():
        if found.get(key) != value:
            raise UserError(
                f"{file} holds weights of another {key.replace('_', ' ')}: {found.get(key)}, and {value} is needed"
            )
    return content["model"]


def phase_identity(run: Run, phase: int) -> dict[str, Any]:
    """What the file of a run's phase 1, 2 or 3 says of itself."""
    config: Config = run.config
    identity = {
        "paper": run.paper,
        "phase": phase,
        "dataset": run.dataset.name,
        "data_fingerprint": run.dataset.fingerprint,
        "backbone": config.backbone,
        "bnneck": config.bnneck,
    }
    if phase >= 2:
        keys = ("pose_width_factor", "pose_batch_norm", "cpb", "bilinear_size", "plenary_size")
        identity |= {key: getattr(config, key) for key in keys}
    return identity


def pose_identity(paper: str, config: PoseConfig) -> dict[str, Any]:
    """What `pose_net.pth` says of itself; whose joints it was trained on does not matter to who loads it."""
    keys = ("pose_width_factor", "pose_batch_norm")
    return {"paper": paper, "phase": 0} | {key: getattr(config, key) for key in keys}


def previous_file(run: Run, phase: int) -> Path:
    """Where the weights come from that a phase starts with."""
    config: Config = run.config
    if config.phase == "all":
        return phase_file(run.directory, phase - 1)
    if config.start_from != "auto":
        return Path(config.start_from).expanduser()
    directory = run.directory.with_name(run.directory.name.replace(f"+phase={phase}", f"+phase={phase - 1}"))
    return phase_file(directory, phase - 1)


def hand_on(run: Run, phase: int, model: nn.Module) -> None:
    """Load what the phase before left into the model of a phase; nothing for phase 1. UserError as read_phase."""
    if phase == 1:
        return
    state = read_phase(previous_file(run, phase), phase_identity(run, phase - 1))
    for module in HANDED_ON[phase - 1]:
        own = {name.removeprefix(f"{module}."): value for name, value in state.items() if name.startswith(f"{module}.")}
        model.get_submodule(module).load_state_dict(own)


def load_pose_net(model: nn.Module, file: Path, paper: str, config: PoseConfig) -> None:
    """The pose resolve net of phase 0 into the model of phase 2, whose channel parse blocks begin anew."""
    state = read_phase(file, pose_identity(paper, config))
    for name in ("front", "adaptor", "stages"):
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        model.pose_net.get_submodule(name).load_state_dict(own)
