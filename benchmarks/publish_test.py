"""What may become a committed record, and how it is written."""

import json

import pytest

from benchmarks import publish
from benchmarks.records import published_records
from benchmarks.spec import RunSpec, load_spec
from common.provenance import source_hash

SPEC = load_spec("ndmf_net")
FULL = RunSpec(variant="full")
PUBLISHED_COUNTS = {
    "train": {"images": 12936, "identities": 751, "cameras": 6},
    "query": {"images": 3368, "identities": 750, "cameras": 6},
    "gallery": {"images": 19732, "identities": 751, "cameras": 6},
}


@pytest.fixture
def fit(make_record):
    """A record that passes the checks, with changes."""

    def make(**changes):
        record = make_record(**changes)
        record["source_hash"] = source_hash("ndmf_net")
        record["config_hash"] = publish.expected_config_hash("ndmf_net", record, FULL)
        if record["kind"] == "real":
            record["data"]["counts"] = json.loads(json.dumps(PUBLISHED_COUNTS))
        return record

    return make


def test_a_clean_run_passes(fit):
    assert publish.objections(SPEC, fit(), FULL) == []
    assert publish.objections(SPEC, fit(kind="real"), FULL) == []
    assert publish.objections(SPEC, fit(uncommitted_changes=True), FULL) == []  # synthetic data: allowed


def test_what_does_not_pass_says_why(fit):
    real = fit(kind="real")
    cases = [
        (fit() | {"config_hash": "0" * 16}, "not today's config.yaml"),
        (fit() | {"source_hash": "0" * 16}, "other source code"),
        (fit() | {"scores": {"mAP": float("nan")}}, "not finite"),
        (real | {"uncommitted_changes": True}, "clean commit"),
        (real | {"commit": None}, "clean commit"),
    ]
    for record, reason in cases:
        assert reason in "; ".join(publish.objections(SPEC, record, FULL))
    real["data"]["counts"]["query"]["images"] = 3367
    assert publish.objections(SPEC, real, FULL) == ["query has 3,367 images, published are 3,368"]
    assert "no row of specs/ndmf_net.yaml" in publish.objections(SPEC, fit(), None)[0]


def test_records_are_small_sorted_and_read_back(tmp_path, fit):
    record = fit(mAP=0.123456789)
    file = publish.publish_record(record, tmp_path)
    assert file == tmp_path / "results" / "ndmf_net" / "market1501-demo-full-s0.json"
    text = file.read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    (read,) = published_records("ndmf_net", tmp_path)
    assert read["scores"]["mAP"] == 0.123457 and read["scores"]["num_valid_queries"] == 250


def test_pictures_go_with_their_data(tmp_path):
    made_here = tmp_path / "runs" / "tables" / "ndmf_net"
    made_here.mkdir(parents=True)
    for name in ("fig8-demo.json", "fig8-demo.png", "fig7-demo.png"):
        (made_here / name).write_bytes(b"{}")
    publish.publish_figures(SPEC, tmp_path / "runs", "demo", tmp_path / "benchmarks")
    written = {str(file.relative_to(tmp_path / "benchmarks")) for file in (tmp_path / "benchmarks").rglob("*.*")}
    assert written == {"results/ndmf_net/figures/fig8-demo.json", "tables/ndmf_net/fig8-demo.png"}


def test_publishing_copies_what_passes_and_renders(tmp_path, fit, write_run, monkeypatch, capsys):
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    written = []
    monkeypatch.setattr(publish, "publish_record", lambda record: written.append(record["run"]) or record["run"])
    monkeypatch.setattr(publish, "publish_figures", lambda *_: [])
    monkeypatch.setattr(publish, "write_committed_pages", lambda: ["page.md"])
    write_run(tmp_path / "runs", fit())
    write_run(tmp_path / "runs", fit(variant="full+bnneck=True"))
    arguments = type("Arguments", (), {"paper": "ndmf_net", "kind": None})
    assert publish.main(arguments) == 0
    assert written == ["market1501-demo-full-s0"]
    printed = capsys.readouterr().out
    assert "left out   market1501-demo-full+bnneck=True-s0: no row" in printed and "written    page.md" in printed
