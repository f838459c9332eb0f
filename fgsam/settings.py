"""Types and ranges of the settings; their values and sources stand in config.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
Pixels = Annotated[int, Field(ge=32)]


@dataclass(frozen=True)
class PoseConfig:
    """What the pose resolve net's training, phase 0, depends on: the keys of Config that begin with `pose`, and how it
    is computed."""

    pose_dataset: str
    pose_width_factor: AboveZero
    pose_batch_norm: bool
    pose_pretrained: Literal["imagenet", "none"]
    pose_image_height: Pixels
    pose_image_width: Pixels
    pose_sigma: AboveZero
    pose_limb_width: AboveZero
    pose_batch: Positive
    pose_epochs: Count
    pose_learning_rate: Rate
    flip_probability: Share
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool


@dataclass(frozen=True)
class Config(PoseConfig):
    """All settings of a run. num_epochs is never null here: it is what the trained phases have together."""

    height: Pixels
    width: Pixels

    last_phase: Literal[1, 2, 3]
    phase: Literal["all", 1, 2, 3]
    start_from: str

    backbone: str
    last_stride: Literal[1, 2]
    pretrained: str
    bnneck: bool
    attributes: bool
    cpb: bool
    bilinear_size: Positive
    plenary_size: Positive
    part_size: Positive

    focal: bool
    alpha: Rate
    beta: Rate
    gamma: Rate
    detach_weight: bool
    mining: Literal["all", "hard"]

    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    phase_epochs: Annotated[list[Count], Field(min_length=3, max_length=3)]
    num_epochs: Count | None
    learning_rates: Annotated[list[Rate], Field(min_length=3, max_length=3)]
    halving_epochs: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    weight_decay: Rate

    pose_weights: str

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if self.phase != "all" and self.phase > self.last_phase:
            raise ValueError(f"phase is {self.phase}, but this variant ends with phase {self.last_phase}")
        if self.num_epochs is None:
            object.__setattr__(self, "num_epochs", sum(self.phase_epochs[phase - 1] for phase in self.phases))
        return self

    @property
    def phases(self) -> list[int]:
        """Those that are trained, in turn."""
        return list(range(1, self.last_phase + 1)) if self.phase == "all" else [self.phase]

    def epochs_of(self, phase: int) -> int:
        """Those of the run's num_epochs that are a phase's: in proportion to phase_epochs, the last having the rest."""
        return self._epochs_until(phase) - self._epochs_until(phase - 1)

    def _epochs_until(self, phase: int) -> int:
        shares = [self.phase_epochs[trained - 1] for trained in self.phases]
        done = sum(share for trained, share in zip(self.phases, shares, strict=True) if trained <= phase)
        if phase >= self.phases[-1]:
            return self.num_epochs
        return self.num_epochs * done // sum(shares) if sum(shares) else 0

    def phase_of(self, epoch: int) -> int:
        """The phase that an epoch of the run, counted from 1, belongs to."""
        return next(phase for phase in self.phases if epoch <= self._epochs_until(phase))

    def epochs_before(self, phase: int) -> int:
        return self._epochs_until(phase - 1)

    def learning_rate(self, phase: int, epoch: int) -> float:
        """Sec. IV-B: halved after each `halving_epochs` of the phase; epochs of the phase count from 1."""
        return self.learning_rates[phase - 1] * 0.5 ** ((epoch - 1) // self.halving_epochs[phase - 1])


def pose_settings(config: Config) -> PoseConfig:
    """A run's settings without those that the pose resolve net does not depend on."""
    found: dict[str, Any] = {name: getattr(config, name) for name in PoseConfig.__dataclass_fields__}
    return PoseConfig(**found)
