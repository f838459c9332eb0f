"""A paper's settings: read from YAML in layers, validated against the dataclass in its settings.py.

Layers, each overriding the one before: `config.yaml` (the paper's values), its `per_dataset` section for the data set,
`demo.yaml` (with --demo), the named section of `variants`, and `--set key=value` from the command line.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from common.errors import UserError, did_you_mean
from common.files import read_yaml

Schema = TypeVar("Schema")


def load_settings(
    schema: type[Schema], folder: Path, *, dataset: str, demo: bool, variant: str, overrides: Mapping[str, Any]
) -> Schema:
    """The validated settings of one run.

    schema: a pydantic dataclass without defaults, one field for each key of `config.yaml`.
    overrides: key -> value, already parsed (see `parse_overrides`).
    UserError, naming the key and where it was set: an unknown key (with the nearest known one), a missing key, a wrong
    type, or a value out of range.
    """
    paper_values = read_yaml(folder / "config.yaml")
    per_dataset = paper_values.pop("per_dataset", None) or {}
    variants = paper_values.pop("variants", None) or {}
    if variant not in variants:
        raise UserError(
            f"unknown variant '{variant}'{did_you_mean(variant, variants)}. {folder}/config.yaml has: "
            f"{', '.join(variants)}"
        )
    layers = [
        (f"{folder.name}/config.yaml", paper_values),
        (f"{folder.name}/config.yaml, per_dataset: {dataset}", per_dataset.get(dataset) or {}),
        (f"{folder.name}/demo.yaml", read_yaml(folder / "demo.yaml") if demo else {}),
        (f"{folder.name}/config.yaml, variants: {variant}", variants[variant] or {}),
        ("--set", overrides),
    ]
    values, source = {}, {}
    for where, layer in layers:
        values |= layer
        source |= dict.fromkeys(layer, where)
    return _validated(schema, values, source, folder / "config.yaml")


def load_resolved(schema: type[Schema], file: Path) -> Schema:
    """The settings that a run wrote into its directory, without layers."""
    values = read_yaml(file)
    return _validated(schema, values, dict.fromkeys(values, str(file)), file)


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """`["num_epochs=60", "pretrained=none"]` -> {"num_epochs": 60, "pretrained": "none"}; values are YAML."""
    overrides = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UserError(f"--set takes key=value, got '{pair}'")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {pair}: the value is not valid YAML") from None
    return overrides


def settings_dict(settings: Any) -> dict[str, Any]:
    """The settings as plain YAML and JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def settings_hash(settings: Any) -> str:
    """16 hex digits that change with any setting."""
    return hashlib.sha256(json.dumps(settings_dict(settings), sort_keys=True).encode()).hexdigest()[:16]


def run_label(variant: str, overrides: Mapping[str, Any]) -> str:
    """The name of a variant with overrides, in directories, records and tables: `full+num_epochs=1+width=9`."""
    return "".join([variant, *(f"+{key}={overrides[key]}" for key in sorted(overrides))]).replace("/", "_")


def _validated(schema: type[Schema], values: dict, source: dict[str, str], file: Path) -> Schema:
    """The schema's instance; errors name the key, where it was set and, for a missing one, the file to add it to."""
    known = [field.name for field in dataclasses.fields(schema)]
    for key in values:
        if key not in known:
            raise UserError(f"unknown config key '{key}' in {source[key]}{did_you_mean(key, known)}")
    try:
        return TypeAdapter(schema).validate_python(values)
    except ValidationError as error:
        raise UserError(
            "\n       ".join(_explain(problem, values, source, file) for problem in error.errors())
        ) from None


def _explain(problem: Any, values: dict, source: dict[str, str], file: Path) -> str:
    key = str(problem["loc"][0]) if problem["loc"] else ""
    if problem["type"] == "missing":
        return f"config key '{key}' has no value: add it to {file}"
    if key in values:
        return f"config key '{key}' in {source[key]} is {values[key]!r}: {problem['msg']}"
    return f"config: {problem['msg'].removeprefix('Value error, ')}"
