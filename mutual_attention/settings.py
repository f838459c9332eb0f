"""Deep mutual attention's settings: types and ranges. Their values and sources stand in config.yaml."""

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
    flip_probability: Share
    erasing_probability: Share

    backbone: str
    last_stride: Literal[1, 2]
    pretrained: str
    attention: bool
    activation: Literal["sigmoid", "none"]
    normalisation: Literal["none", "rms", "layer", "batch", "cosine", "correlation"]
    temperature: Annotated[float, Field(gt=0)]
    attention_gain: Literal["relu", "linear"]
    attention_bias: bool
    attention_pairing: Literal["own", "shuffled"]
    output_initialisation: Literal["near_zero", "kaiming"]
    descriptor: Literal["plain", "before_relu", "self_attended", "mean_attended"]
    descriptor_size: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]

    verification_weight: Rate
    identity_reduction: Literal["mean", "sum"]

    pairs_per_batch: Annotated[int, Field(ge=2)]
    num_epochs: Annotated[int, Field(ge=0)]
    learning_rate: Rate
    decay: Literal["geometric", "step"]
    decay_start: Annotated[int, Field(ge=0)]
    decay_end: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Rate

    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool
    checkpoint_epochs: Literal["auto"] | Positive

    @model_validator(mode="after")
    def _decay_takes_time(self) -> "Settings":
        if self.decay_end <= self.decay_start:
            raise ValueError(f"decay_end is {self.decay_end}, and must come after decay_start, {self.decay_start}")
        return self
