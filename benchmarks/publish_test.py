"""What may become a committed record, and how it is written."""

import json

import pytest

from benchmarks import publish
from benchmarks.pages.staleness import Today
from benchmarks.records import published_records
from benchmarks.spec import RunSpec, load_spec
from common.datasets.synthetic.difficulty import generator_version

SPEC = load_spec("ndmf_net")
TODAY = Today(SPEC)
FULL = RunSpec(variant="full")
PUBLISHED_COUNTS = {
    "train": {"images": 12936, "identities": 751, "cameras": 6},
    "query": {"images": 3368, "identities": 750, "cameras": 6},
    "gallery": {"images": 19732, "identities": 751, "cameras": 6},
}


@pytest.fixture
def fit(make_record):
    """fit(**changes): a record that passes the checks but for the changes."""

    def make(**changes):
        record = make_record(**changes)
        config_hash = TODAY.settings_of(FULL, record)
        counts = {"data": {"counts": PUBLISHED_COUNTS}} if record.kind == "real" else {}
        images = {"data": {"generator_version": generator_version("market1501")}} if record.kind == "demo" else counts
        current = {"source_hash": TODAY.source_of("ndmf_net.train"), "config_hash": config_hash}
        return make_record(**current | images | changes)

    return make


def test_a_clean_run_passes(fit):
    assert publish.objections(TODAY, fit(), FULL) == []
    assert publish.objections(TODAY, fit(kind="real"), FULL) == []
    assert publish.objections(TODAY, fit(uncommitted_changes=True), FULL) == []  # allowed for synthetic data


def test_objections_say_what_is_wrong(fit):
    counts = PUBLISHED_COUNTS | {"query": {"images": 3367, "identities": 750, "cameras": 6}}
    cases = [
        (fit(config_hash="0" * 16), "the settings changed since it was run"),
        (fit(source_hash="0" * 16), "the source code changed since it was run"),
        (fit(config_hash="0" * 16, source_hash="0" * 16), "the source code and settings changed"),
        (fit(scores={"mAP": float("nan")}), "not finite"),
        (fit(kind="real", uncommitted_changes=True), "clean commit"),
        (fit(kind="real", commit=None), "clean commit"),
        (fit(kind="real", data={"counts": counts}), "query has 3,367 images, the published data set 3,368"),
        (fit(paper="mgre"), "it is a run of mgre"),
    ]
    for record, reason in cases:
        assert reason in "; ".join(publish.objections(TODAY, record, FULL))
    assert "no row of specs/ndmf_net.yaml" in publish.objections(TODAY, fit(), None)[0]


def test_a_record_from_other_starting_weights_is_stale(fit, monkeypatch):
    today = Today(SPEC)
    monkeypatch.setattr("benchmarks.pages.staleness.weights_hash", {"synthetic": "a" * 12}.__getitem__)
    started = {"config": {"pretrained": "synthetic"}}
    assert today.change(fit(**started, weights="a" * 12)) == ""
    assert today.change(fit(**started, weights="b" * 12)) == "starting weights"
    assert today.change(fit(**started, weights="b" * 12, source_hash="0" * 16)) == "source code and starting weights"
    everything = fit(**started, weights=None, source_hash="0" * 16, config_hash="0" * 16)
    assert today.change(everything) == "source code, settings and starting weights"
    assert today.change(fit(config={"pretrained": "imagenet"})) == ""


def test_a_record_of_images_by_another_version_of_the_generator_is_stale(fit):
    assert TODAY.change(fit(data={"generator_version": None})) == "images"
    assert TODAY.change(fit(data={"generator_version": 1}, config_hash="0" * 16)) == "settings and images"
    assert TODAY.change(fit(kind="real", data={"generator_version": None})) == ""


def test_records_are_small_sorted_and_read_back(tmp_path, fit):
    record = fit(mAP=0.123456789)
    file = publish.publish_record(record, tmp_path)
    assert file == tmp_path / "results" / "ndmf_net" / "market1501-demo-full-s0.json"
    text = file.read_text()
    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True) + "\n"
    (read,) = published_records("ndmf_net", tmp_path)
    assert read.scores["mAP"] == 0.123457 and read.scores["num_valid_queries"] == 250


def test_a_record_removes_those_of_its_row_that_are_of_another_experiment(tmp_path, make_record):
    same = make_record(seed=1)
    others = [
        make_record(seed=2, config_hash="0" * 16),
        make_record(seed=3, weights="b" * 12),
        make_record(seed=4, data={"fingerprint": "0" * 16}),
    ]
    elsewhere = [make_record("baseline", config_hash="0" * 16), make_record(kind="real", config_hash="0" * 16)]
    for record in (same, *others, *elsewhere):
        publish.publish_record(record, tmp_path)
    new = make_record(seed=0)
    publish.publish_record(new, tmp_path)
    removed = {file.name for file in publish.remove_superseded(new, tmp_path)}
    assert removed == {f"{record.run}.json" for record in others}
    kept = {record.run for record in published_records("ndmf_net", tmp_path)}
    assert kept == {record.run for record in (new, same, *elsewhere)}
    assert publish.remove_superseded(new, tmp_path) == []


def test_a_later_record_of_the_same_run_is_kept(tmp_path, fit, write_run, monkeypatch, capsys):
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(publish, "BENCHMARKS", tmp_path / "benchmarks")
    monkeypatch.setattr(publish, "write_committed_pages", lambda folder: [])
    arguments = type("Arguments", (), {"paper": "ndmf_net", "kind": None})
    write_run(tmp_path / "runs", fit(finished="2026-02-01T00:00:00Z", mAP=0.5))
    cases = [
        ({"finished": "2026-03-01T00:00:00Z"}, 0.25),
        ({"finished": "2026-01-01T00:00:00Z"}, 0.5),
        ({"finished": "2026-03-01T00:00:00Z", "source_hash": "0" * 16}, 0.5),
        ({"finished": "2026-03-01T00:00:00Z", "data": {"fingerprint": "0" * 16}}, 0.5),
    ]
    for changes, expected in cases:
        publish.publish_record(fit(mAP=0.25, **changes), tmp_path / "benchmarks")
        assert publish.main(arguments) == 0
        (committed,) = published_records("ndmf_net", tmp_path / "benchmarks")
        assert committed.scores["mAP"] == expected
        assert ("kept       market1501-demo-full-s0" in capsys.readouterr().out) == (expected == 0.25)


def test_figures_are_copied_with_their_data(tmp_path):
    made_here = tmp_path / "runs" / "tables" / "ndmf_net"
    made_here.mkdir(parents=True)
    for name in ("fig8-demo.json", "fig8-demo.png", "fig7-demo.png"):
        (made_here / name).write_bytes(b"{}")
    publish.publish_figures(SPEC, tmp_path / "runs", "demo", tmp_path / "benchmarks")
    written = {str(file.relative_to(tmp_path / "benchmarks")) for file in (tmp_path / "benchmarks").rglob("*.*")}
    assert written == {"results/ndmf_net/figures/fig8-demo.json", "tables/ndmf_net/fig8-demo.png"}


def test_publishing_copies_what_passes_and_renders_the_pages(tmp_path, fit, write_run, monkeypatch, capsys):
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(publish, "BENCHMARKS", tmp_path / "benchmarks")
    monkeypatch.setattr(publish, "write_committed_pages", lambda folder: [folder / "page.md"])
    superseded = publish.publish_record(fit(seed=1, config_hash="0" * 16), tmp_path / "benchmarks")
    write_run(tmp_path / "runs", fit())
    write_run(tmp_path / "runs", fit(variant="full+last_stride=2"))
    arguments = type("Arguments", (), {"paper": "ndmf_net", "kind": None})
    assert publish.main(arguments) == 0
    (kept,) = published_records("ndmf_net", tmp_path / "benchmarks")
    assert kept.run == "market1501-demo-full-s0"
    printed = capsys.readouterr().out
    assert f"removed    {superseded}: its settings or images are not those of {kept.run}" in printed
    assert (
        "left out   market1501-demo-full+last_stride=2-s0: no row" in printed
        and f"written    {tmp_path}/benchmarks/page.md" in printed
    )
