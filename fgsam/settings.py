"""FGSAM's settings: types and ranges. Their values and sources stand in config.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
Pixels = Annotated[int, Field(ge=32)]


@dataclass(frozen=True)
class PoseSettings:
    """What phase 0, the training of the pose resolve net, depends on."""

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
    pose_flip_probability: Share
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool
    checkpoint_epochs: Literal["auto"] | Positive


@dataclass(frozen=True)
class Settings(PoseSettings):
    """All settings of a run. num_epochs, where null in config.yaml, becomes the sum over the trained phases."""

    height: Pixels
    width: Pixels
    flip_probability: Share

    last_phase: Literal[1, 2, 3]
    phase: Literal["all", 1, 2, 3]
    start_from: str

    backbone: str
    last_stride: Literal[1, 2]
    pretrained: str
    bnneck: bool
    attributes: bool
    cpb: bool
    parts: bool
    taskless_branches: bool
    unit_branches: bool
    pose_pooling: Literal["after_norm", "before_norm"]
    bilinear_scale: Literal["unit_variance", "unit_length"]
    bilinear_size: Positive
    plenary_size: Positive
    part_size: Positive

    focal: bool
    absolute: bool
    distance: Literal["euclidean", "squared"]
    reduction: Literal["positive", "all", "apart"]
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
    pose_trained: bool
    pose_rate: Rate
    pose_loss: Literal["none", "joints", "maps"]
    pose_loss_weight: Rate

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if self.phase != "all" and self.phase > self.last_phase:
            raise ValueError(f"phase is {self.phase}, but this variant ends with phase {self.last_phase}")
        if not self.pose_trained and self.pose_loss != "none":
            raise ValueError("pose_loss trains the pose resolve net, but pose_trained is false: set pose_loss to none")
        if self.pose_weights == "none" and self.pose_loss == "maps":
            raise ValueError("pose_loss: maps needs phase 0's maps, but pose_weights is none: set pose_loss to none")
        if self.num_epochs is None:
            object.__setattr__(self, "num_epochs", sum(self.phase_epochs[phase - 1] for phase in self.phases))
        return self

    @property
    def phases(self) -> list[int]:
        """The phases that the run trains, in order."""
        return list(range(1, self.last_phase + 1)) if self.phase == "all" else [self.phase]

    def epochs_until(self, phase: int) -> int:
        """The run's last epoch of a phase, 0 for one before the first. num_epochs is split in proportion to
        phase_epochs, and the last phase takes what is left."""
        if phase >= self.phases[-1]:
            return self.num_epochs
        shares = [self.phase_epochs[trained - 1] for trained in self.phases]
        done = sum(share for trained, share in zip(self.phases, shares, strict=True) if trained <= phase)
        return self.num_epochs * done // sum(shares) if sum(shares) else 0

    def phase_of(self, epoch: int) -> int:
        """The phase that an epoch of the run, counted from 1, belongs to."""
        return next(phase for phase in self.phases if epoch <= self.epochs_until(phase))
