"""NDMF-Net's settings: types and ranges. Values and sources are in config.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class Settings:
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]
    padding: Annotated[int, Field(ge=0)]
    flip_probability: Share
    erasing_probability: Share

    backbone: str
    last_stride: Literal[1, 2]
    pretrained: str
    pcam: bool
    sam: bool
    ndem: bool
    num_parts: Positive
    part_features: Literal["flatten", "pool"]
    lstm_hidden_size: Positive
    lstm_directions: Literal[1, 2]
    dependency_size: Positive
    dependency_gain: Annotated[float, Field(gt=0)]
    feature_size: Positive
    bnneck: bool
    classifier: Literal["normal", "resnet"]

    identity_weight: Rate
    triplet_weight: Rate
    identity_reduction: Literal["mean", "sum"]
    label_smoothing: Share
    triplet_margin: Rate
    triplet_squared: bool

    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=2)]
    num_epochs: Annotated[int, Field(ge=0)]
    learning_rate: Rate
    warmup_epochs: Annotated[int, Field(ge=0)]
    warmup_peak: Rate
    decay_epochs: list[Positive]
    weight_decay: Rate
    dependency_decay: Literal["coupled", "decoupled", "none"]
    adam_beta1: Annotated[float, Field(ge=0, lt=1)]

    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool
    checkpoint_epochs: Literal["auto"] | Positive

    @model_validator(mode="after")
    def _parts_fit(self) -> "Settings":
        rows = -(-self.height // 16)
        if (self.pcam or self.ndem) and self.num_parts > rows:
            raise ValueError(
                f"num_parts is {self.num_parts}, but layer3's map has only {rows} rows at height {self.height}"
            )
        return self
