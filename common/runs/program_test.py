"""A paper's program: its options, its settings, and its record."""

import pytest
from pydantic.dataclasses import dataclass

from common.datasets.synthetic import make_dataset

from .program import Program
from .record import read_record

FILES = {
    "__init__.py": "",
    "count.py": "",
    "config.yaml": "{num_epochs: 60, margin: 0.3, variants: {full: {}, soft: {margin: 0}}}",
    "demo.yaml": "num_epochs: 3",
}


@dataclass(frozen=True)
class Settings:
    num_epochs: int
    margin: float


@pytest.fixture
def program(tmp_path, monkeypatch):
    """`python -m counting_paper.count --demo --seed 4` on the tiny Market-1501."""
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "counting_paper").mkdir()
    for name, text in FILES.items():
        (tmp_path / "counting_paper" / name).write_text(text)
    make_dataset(tmp_path / "market1501", like="market1501", size="tiny")
    argv = ["--demo", "--data-root", str(tmp_path), "--device", "cpu", "--seed", "4"]
    return Program.open("counting_paper", "count", argv, description="Count.", seed=0, num_steps=6)


def test_its_own_options_have_defaults(program):
    assert (program.arguments.seed, program.arguments.num_steps) == (4, 6)


def test_its_settings_are_the_variants(program):
    assert program.settings(Settings, "soft") == Settings(num_epochs=3, margin=0)
    assert program.settings(Settings, "full", demo=False, overrides={"margin": 1.0}) == Settings(60, 1.0)


def test_its_record_says_what_it_was_computed_on(program):
    record = read_record(program.write_record({"people": 7}, {"stripes": 2}))
    assert (record.paper, record.variant) == ("counting_paper", "count")
    assert (record.scores, record.config) == ({"people": 7}, {"stripes": 2})
    assert record.data.fingerprint == program.dataset.fingerprint and record.machine.device == "cpu"
