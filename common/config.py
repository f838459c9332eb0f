"""A paper's settings: read from YAML in layers, validated against the dataclass in its train.py.

Layers, each over the one before: `config.yaml` (the paper's values), its `per_dataset` section for the data set,
`demo.yaml` (with --demo), the named section of `variants`, and `--set key=value` from the command line.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from common.errors import UserError

Schema = TypeVar("Schema")


def load_config(
    schema: type[Schema], folder: Path, *, dataset: str, demo: bool, variant: str, overrides: Mapping[str, Any]
) -> Schema:
    """The validated settings of one run.

    schema: a pydantic dataclass without defaults, one field for each key of `config.yaml`.
    overrides: key -> value, already parsed (see `parse_overrides`).
    Raises UserError for an unknown key (with the nearest known one), a missing key, a wrong type or a value out of
    range, naming the key and where it was set.
    """
    paper_values = read_yaml(folder / "config.yaml")
    per_dataset = paper_values.pop("per_dataset", None) or {}
    variants = paper_values.pop("variants", None) or {}
    if variant not in variants:
        raise UserError(
            f"unknown variant '{variant}'{nearest(variant, variants)}. {folder}/config.yaml has: {', '.join(variants)}"
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
    """The settings that a run wrote into its directory: one flat layer."""
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


def config_dict(config: Any) -> dict[str, Any]:
    """The settings as plain YAML and JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_hash(config: Any) -> str:
    """16 hex digits that change with any setting."""
    return hashlib.sha256(json.dumps(config_dict(config), sort_keys=True).encode()).hexdigest()[:16]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; loading runs no code. An empty file is an empty mapping."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if values is not None and not isinstance(values, dict):
        raise UserError(f"{path} must hold key: value lines")
    return values or {}


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def _validated(schema: type[Schema], values: dict, source: dict[str, str], file: Path) -> Schema:
    """The schema's instance; errors name the key, where it was set and, for a missing one, the file to add it to."""
    known = [field.name for field in dataclasses.fields(schema)]
    for key in values:
        if key not in known:
            raise UserError(f"unknown config key '{key}' in {source[key]}{nearest(key, known)}")
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
