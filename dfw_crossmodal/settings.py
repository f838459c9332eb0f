"""DFW's settings: types and ranges. Their values and sources stand in config.yaml."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Settings:
    height: Annotated[int, Field(ge=32)]
    width: Annotated[int, Field(ge=32)]
    padding: Annotated[int, Field(ge=0)]
    flip_probability: Share
    erasing_probability: Share
    colours: Literal["kept", "luma", "mixed"]
    gamma_spread: Rate
    gain_spread: Rate

    backbone: str
    last_stride: Literal[1, 2]
    pretrained: str
    dfw: bool
    dfw_form: Literal["D1", "D2", "D3"]
    dfw_alpha: Share
    dfw_beta: Share
    dfw_gate: Literal["multiply", "sigmoid"]
    dfw_after: list[Literal["layer2", "layer3"]]
    sln: bool
    sln_noise: Rate
    gem_power: AboveZero

    overlap_weight: Rate
    separation: AboveZero
    separation_unit: Literal["pixels", "cells"]
    separation_height: Positive
    overlap_divided: bool
    overlap_map: Literal["pooled", "deviation", "weakened"]
    overlap_centre: Literal["soft", "straight", "hard"]
    overlap_temperature: AboveZero
    centre_triplet: bool
    centre_weight: Rate
    centre_reduction: Literal["sum", "mean"]
    centre_hinge: bool
    centre_margin: Rate
    label_smoothing: Share
    triplet_margin: Rate
    unit_features: bool
    triplet_mining: Literal["hard", "random"]

    identities_per_batch: Annotated[int, Field(ge=2)]
    images_per_identity: Annotated[int, Field(ge=1)]
    num_epochs: Annotated[int, Field(ge=0)]
    optimiser: Literal["sgd", "adam"]
    learning_rate: Rate
    backbone_rate: Rate
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Rate
    warmup_epochs: Annotated[int, Field(ge=0)]
    decay_epochs: list[Positive]

    precision: Literal["auto", "bf16", "fp16", "fp32"]
    cache: bool
    checkpoint_epochs: Literal["auto"] | Positive
