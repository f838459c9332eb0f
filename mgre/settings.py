"""MGRe's settings: types and ranges. Their values and sources stand in config.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Settings:
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]
    flip_probability: Share
    erasing_probability: Share

    backbone: str
    ibn: bool
    last_stride: Literal[1, 2]
    pretrained: str
    stages: list[Literal[1, 2, 3]]
    whole_image_stages: list[Literal[1, 2, 3]]
    single_grained_features: bool
    location_only: bool
    pose_boxes: bool
    semantic_guidance: bool
    location_channels: Positive
    feature_size: Positive
    feature_weights: Annotated[list[Rate], Field(min_length=4, max_length=4)]

    stage_loss_weight: Rate
    location_loss_weight: Rate
    label_smoothing: Share
    triplet_margin: Rate

    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    num_epochs: Count
    learning_rate: Rate
    warmup_start: Share
    warmup_epochs: Count
    decay_epochs: list[Positive]
    decay_factor: Share
    weight_decay: Rate
    validation_identities: Count

    occluded_scores: bool
    feature_weight_scores: bool
    occlusion_probability: Share

    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool
    checkpoint_epochs: Literal["auto"] | Positive

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if not set(self.whole_image_stages) <= set(self.stages):
            raise ValueError(f"whole_image_stages {self.whole_image_stages} must be among stages {self.stages}")
        if self.location_only and self.pose_boxes:
            raise ValueError("location_only and pose_boxes exclude each other: nothing would be learned from the boxes")
        return self

    @property
    def needs_poses(self) -> bool:
        """Whether any stage has body regions."""
        return bool(set(self.stages) - set(self.whole_image_stages))
