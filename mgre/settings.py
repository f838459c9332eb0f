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
    fixed_boxes: bool
    semantic_guidance: bool
    location_channels: Positive
    location_start: Literal["table1", "mean"]
    location_input_scale: Rate
    box_gradient: Literal["full", "scaled", "clipped", "detached"]
    box_gradient_factor: Rate
    feature_size: Positive
    feature_weights: Annotated[list[Rate], Field(min_length=4, max_length=4)]

    stage_loss_weight: Rate
    location_loss_weight: Rate
    location_units: Literal["image", "cells"]
    margin_units: Literal["image", "cells"]
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
    location_decay: Literal["coupled", "decoupled", "none"]
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
        given = [name for name in ("pose_boxes", "fixed_boxes") if getattr(self, name)]
        if self.location_only and given:
            raise ValueError(
                f"location_only and {given[0]} exclude each other: nothing would be learned from the boxes"
            )
        if len(given) > 1:
            raise ValueError("pose_boxes and fixed_boxes exclude each other")
        return self

    @property
    def needs_poses(self) -> bool:
        """Whether any stage has body regions."""
        return bool(set(self.stages) - set(self.whole_image_stages))
