from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from common.errors import UserError
from common.runs.settings import load_settings, parse_overrides, run_label, settings_dict, settings_hash


@dataclass(frozen=True)
class Config:
    num_epochs: Annotated[int, Field(ge=0)]
    learning_rate: float
    attention: bool
    precision: Literal["auto", "fp32"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "num_epochs: 200\nlearning_rate: 3.5e-4\nattention: true\nprecision: auto\n"
        "per_dataset:\n  msmt17: {num_epochs: 100}\n"
        "variants:\n  full: {}\n  baseline: {attention: false}\n"
    )
    (tmp_path / "demo.yaml").write_text("num_epochs: 12\n")
    return tmp_path


def load(folder, dataset="market1501", demo=False, variant="full", **overrides):
    return load_settings(Config, folder, dataset=dataset, demo=demo, variant=variant, overrides=overrides)


def test_each_layer_overrides_the_one_before(folder):
    assert load(folder) == Config(200, 3.5e-4, True, "auto")
    assert load(folder, dataset="msmt17").num_epochs == 100
    assert load(folder, dataset="msmt17", demo=True).num_epochs == 12
    assert load(folder, demo=True, variant="baseline") == Config(12, 3.5e-4, False, "auto")
    assert load(folder, demo=True, num_epochs=1).num_epochs == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_epoch": 1}, r"unknown config key 'num_epoch' in --set; did you mean 'num_epochs'\?"),
        ({"num_epochs": -1}, r"'num_epochs' in --set is -1: .*greater than or equal to 0"),
        ({"num_epochs": "many"}, r"'num_epochs' in --set is 'many': .*integer"),
        ({"precision": "fp8"}, r"'precision' in --set is 'fp8': .*'auto' or 'fp32'"),
    ],
)
def test_bad_settings_are_named(folder, overrides, message):
    with pytest.raises(UserError, match=message):
        load(folder, **overrides)


def test_unknown_variant_missing_key_and_broken_yaml_are_named(folder):
    with pytest.raises(UserError, match=r"unknown variant 'base'; did you mean 'baseline'\?"):
        load(folder, variant="base")
    (folder / "demo.yaml").write_text("epochs: 3\n")
    with pytest.raises(UserError, match=r"unknown config key 'epochs' in .*demo\.yaml"):
        load(folder, demo=True)
    (folder / "config.yaml").write_text("num_epochs: 3\nvariants: {full: {}}\n")
    with pytest.raises(UserError, match="'learning_rate' has no value"):
        load(folder)
    (folder / "config.yaml").write_text("num_epochs: [3\n")
    with pytest.raises(UserError, match="not valid YAML"):
        load(folder)


def test_overrides_are_yaml():
    assert parse_overrides(["a=1", "b=false", "c=[1, 2]", "d=x=y"]) == {"a": 1, "b": False, "c": [1, 2], "d": "x=y"}
    with pytest.raises(UserError, match="key=value"):
        parse_overrides(["num_epochs"])


def test_the_hash_changes_with_any_setting(folder):
    hashes = {
        settings_hash(load(folder)),
        settings_hash(load(folder, demo=True)),
        settings_hash(load(folder, learning_rate=1)),
    }
    assert len(hashes) == 3
    assert settings_hash(load(folder)) == settings_hash(load(folder))
    assert settings_dict(load(folder))["precision"] == "auto"


def test_a_label_names_the_variant_and_its_overrides_in_order():
    assert run_label("full", {}) == "full"
    assert run_label("thin", {"width": 9, "num_epochs": 1}) == "thin+num_epochs=1+width=9"
    assert "/" not in run_label("full", {"pretrained": "a/b.pth"})
