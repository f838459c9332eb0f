"""The table of what each module carries, from the figures' data."""

import json
import re

import pytest

from benchmarks.pages import carried
from benchmarks.pages.carried import PREFIX, carried_page
from benchmarks.publish import publish_record
from benchmarks.spec import known_papers, load_spec
from common.evaluation.carried import carried_rows

SCORES = {
    "nothing": {way: {"mAP": 0.60, "rank1": 0.80} for way in ("frozen", "shuffled")},
    "PCAM": {"frozen": {"mAP": 0.55, "rank1": 0.80}, "shuffled": {"mAP": 0.40, "rank1": 0.50}},
}


@pytest.fixture
def measure(tmp_path, make_record, monkeypatch, today):
    """measure(record_changes): publish NDMF-Net's run and its figure's data; returns the page."""
    monkeypatch.setattr(carried, "Today", lambda paper: today)

    def write(**more):
        record = make_record("full", **more)
        publish_record(record, tmp_path)
        file = tmp_path / "results" / "ndmf_net" / "figures" / "carried-demo.json"
        file.parent.mkdir(exist_ok=True)
        origin = {"run": "market1501-demo-full-s0", "finished": make_record("full").finished, "data": "d" * 16}
        file.write_text(json.dumps({"runs": {"NDMF-Net": origin}, "scores": SCORES}))
        return carried_page(tmp_path)

    return write


def test_changes_are_in_points_from_the_whole_network():
    assert carried_rows(SCORES) == [
        ["nothing", "60.0", "80.0", "60.0", "80.0"],
        ["PCAM", "55.0 (-5.0)", "80.0 (+0.0)", "40.0 (-20.0)", "50.0 (-30.0)"],
    ]


def test_one_table_has_the_modules_of_every_paper(measure):
    page = measure()
    assert "| [NDMF-Net](ndmf_net.md#what-each-module-carries) | PCAM | 55.0 (-5.0) |" in page
    for name in set(known_papers()) - {"ndmf_net"}:
        paper = load_spec(name)
        lines = [line for line in page.splitlines() if line.startswith(f"| [{paper.short}]")]
        documents = [document for document in paper.documents if document.id.startswith(PREFIX)]
        words = ["not run" if document.kind == "figure" else "other measures" for document in documents]
        assert [re.search(r"\| ([a-z ]+) \(", line)[1] for line in lines] == (words or ["not measured"])
    assert "other measures" in page  # of mutual attention, whose pairs make no search


def test_a_measurement_of_another_run_or_a_stale_one_is_marked(measure):
    assert "What" in measure() and "another run" not in measure() and "stale" not in measure()
    assert "measured on another run than the published one" in measure(finished="2026-11-21T00:00:00+00:00")
    assert "stale: the source code changed since this run" in measure(source_hash="0" * 16)
