"""What tests of plans and of their estimates share."""

import json
from types import SimpleNamespace

import pytest

from benchmarks.reproduce import plan as plans
from benchmarks.reproduce.plan import make_plan
from benchmarks.spec import load_spec
from common.datasets.base import DataSet, Sample, Search, Subset
from common.runs.source import source_hash

SPEC = load_spec("ndmf_net")
TRAINED = 8 * 64  # images of the demo's epochs


@pytest.fixture
def market(tmp_path, monkeypatch):
    """64 images of 16 people called market1501, opened in place of any data set; runs are in tmp_path."""
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "market1501"
    folder.mkdir()
    samples = []
    for position in range(64):
        (folder / f"{position}.jpg").write_bytes(b"x" * position)
        samples.append(Sample(folder / f"{position}.jpg", position // 4, position % 2))
    subsets = {name: Subset(name, tuple(samples)) for name in ("train", "query", "gallery")}
    dataset = SimpleNamespace(kind="demo")

    def opened(name, root=None, *, size="demo"):
        searches = (Search("single_query", subsets["query"], subsets["gallery"]),)
        return DataSet(name, folder, subsets, searches, dataset.kind)

    monkeypatch.setattr(plans, "open_dataset", opened)
    monkeypatch.setattr("common.datasets.arguments.open_dataset", opened)
    return dataset


def planned(paper=SPEC, **changes):
    asked = {"scope": "headline", "only": (), "seeds": [0], "data_root": None, "device": "cpu", "force": False}
    return make_plan(paper, **(asked | changes))


def begin(plan, label, make_record, *, finished=False, source=None):
    """Write what an interrupted or a finished run leaves on disk."""
    run = plan.trained(label).run
    run.directory.mkdir(parents=True)
    (run.directory / "run.json").write_text(json.dumps(run.identity()))
    (run.directory / "log.jsonl").write_text('{"epoch": 1}\n' * 5)
    if finished:
        record = make_record(source_hash=source or source_hash("ndmf_net.train"))
        (run.directory / "result.json").write_text(record.model_dump_json())
