"""What gets run: each run once, by state, with an estimate; real runs are never replaced unasked."""

import json
import time
from types import SimpleNamespace

import pytest

from benchmarks import estimate as estimates
from benchmarks import plan as plans
from benchmarks.estimate import estimate, measured_rate, print_duration
from benchmarks.plan import chosen_documents, chosen_rows, make_plan
from benchmarks.spec import SCOPES, load_spec
from common.datasets.base import DataSet, Sample, Search, Subset
from common.errors import UserError
from common.provenance import source_hash

SPEC = load_spec("ndmf_net")


@pytest.fixture
def market(tmp_path, monkeypatch):
    """Twelve images called market1501, opened in place of any data set; runs go below tmp_path."""
    monkeypatch.setenv("REID_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "market1501"
    folder.mkdir()
    samples = []
    for position in range(12):
        (folder / f"{position}.jpg").write_bytes(b"x" * position)
        samples.append(Sample(folder / f"{position}.jpg", position // 4, position % 2))
    subsets = {name: Subset(name, tuple(samples)) for name in ("train", "query", "gallery")}
    dataset = SimpleNamespace(kind="demo")

    def opened(name, root=None, *, size="demo"):
        searches = (Search("single_query", subsets["query"], subsets["gallery"]),)
        return DataSet(name, folder, subsets, searches, dataset.kind)

    monkeypatch.setattr(plans, "open_dataset", opened)
    monkeypatch.setattr("common.runs.open_dataset", opened)
    return dataset


def planned(**changes):
    asked = {"scope": "headline", "only": (), "seeds": [0], "data_root": None, "device": "cpu", "force": False}
    return make_plan(SPEC, **(asked | changes))


def names(plan):
    return [run.name.removeprefix("market1501-") for run in plan.runs]


def test_each_run_is_planned_once_though_several_documents_ask_for_it(market):
    plan = planned()
    variants = ["full", "baseline", "pcam", "sam", "ndem"]
    floors = [f"demo-{name}-s0" for name in ("colour_histogram", "balanced_histogram", "baseline+num_epochs=0")]
    assert names(plan) == ["demo-counts-s0", *(f"demo-{name}-s0" for name in variants), *floors]
    assert plan.left_out == []
    assert plan.trained("sam").name == "market1501-demo-sam-s0" and plan.trained("sam").images == 12 * 12


def test_each_scope_has_what_the_narrower_ones_have():
    paper = load_spec("fgsam")
    ids = {scope: {document.id for document in chosen_documents(paper, scope, ())} for scope in SCOPES}
    assert ids["together"] - ids["headline"] == {"same_budget"}
    assert ids["headline"] < ids["together"] < ids["all"] == {document.id for document in paper.documents}


def test_scope_all_adds_the_sweep_that_fits_the_size_and_at_demo_size_the_other_data_sets(market):
    added = set(names(planned(scope="all"))) - set(names(planned()))
    others = {f"{name}-demo-{run}-s0" for name in ("dukemtmcreid", "msmt17") for run in ("counts", "full")}
    assert added == {f"demo-full+num_parts={parts}-s0" for parts in (1, 2, 4, 6)} | others
    assert set(names(planned(only=["full"]))) == {"demo-full-s0"}
    assert set(names(planned(only=["full"], scope="all"))) == {"demo-full-s0", *(n for n in others if "full" in n)}
    assert set(names(planned(only=["table3"]))) == {"dukemtmcreid-demo-full-s0"}
    market.kind = "real"
    added = set(names(planned(scope="all", data_root="anywhere"))) - set(names(planned(data_root="anywhere")))
    assert added == {f"real-full+num_parts={parts}-s0" for parts in (1, 2, 4, 16)}


def test_seeds_repeat_training_but_not_counting(market):
    assert names(planned(seeds=[0, 1], only=["counts", "table2"])) == ["demo-counts-s0", "demo-full-s0", "demo-full-s1"]


def test_only_takes_documents_and_variants_and_names_what_it_knows():
    labels = [row.run.label for row, _, _ in chosen_rows(SPEC, "headline", ["baseline", "fig7"], demo=True)]
    sweep = [*(f"full+num_parts={parts}" for parts in (1, 2, 4, 6)), "full", "full+num_parts=16"]
    assert labels == ["baseline", "baseline", *sweep, "baseline"]  # Table 5, the curves, Fig. 7, Fig. 8
    with pytest.raises(UserError, match=r"nothing in ndmf_net is named 'table9'.*table5"):
        chosen_rows(SPEC, "headline", ["table9"], demo=True)


def begin(plan, label, *, finished=False, source=None):
    """What an interrupted or a finished run leaves on disk."""
    run = plan.trained(label).run
    run.directory.mkdir(parents=True)
    (run.directory / "run.json").write_text(json.dumps(run.identity()))
    (run.directory / "log.jsonl").write_text('{"epoch": 1}\n' * 5)
    if finished:
        (run.directory / "result.json").write_text(json.dumps({"source_hash": source or source_hash("ndmf_net")}))


def test_states_decide_what_is_run(market):
    begin(planned(), "full", finished=True)
    begin(planned(), "baseline", finished=True, source="0" * 16)
    begin(planned(), "sam")
    plan = planned(only=["full", "baseline", "sam", "pcam"])
    states = {run.run.variant: run.state for run in plan.runs}
    assert states == {"full": "finished", "baseline": "stale", "sam": "interrupted", "pcam": "new"}
    assert [run.run.variant for run in plan.to_do] == ["pcam", "sam"]
    interrupted = plan.trained("sam")
    assert "--resume" in interrupted.arguments and interrupted.images == (12 - 5) * 12
    forced = planned(only=["full"], force=True)
    assert forced.to_do and "--force" in forced.runs[0].arguments


def test_a_run_with_other_settings_is_replaced_at_demo_size_and_kept_on_real_data(market):
    for kind, root in (("demo", None), ("real", "anywhere")):
        market.kind = kind
        run = planned(only=["full"], data_root=root).trained("full").run
        run.directory.mkdir(parents=True)
        (run.directory / "run.json").write_text(json.dumps(run.identity() | {"config_hash": "other"}))
    market.kind = "demo"
    plan = planned(only=["full"])
    assert plan.runs[0].state == "different" and "--force" in plan.runs[0].arguments
    market.kind = "real"
    with pytest.raises(UserError, match=r"holds a run with other settings or data.*FORCE=1"):
        planned(only=["full"], data_root="anywhere")
    assert planned(only=["full"], data_root="anywhere", force=True).to_do


def test_nothing_readable_is_an_error_with_the_reasons(monkeypatch):
    def absent(name, root=None, *, size="demo"):
        raise UserError(f"{name} was not found")

    monkeypatch.setattr(plans, "open_dataset", absent)
    with pytest.raises(UserError, match=r"nothing can be run(.|\n)*dukemtmcreid: dukemtmcreid was not found"):
        planned(only=["table3"])


# ------------------------------------------------------------------ time


def test_the_estimate_comes_from_finished_runs_or_from_one_probe(market, monkeypatch, make_record):
    plan = planned(only=["full", "sam", "colour_histogram"])
    probed = []
    monkeypatch.setattr(estimates, "probe_rate", lambda run: probed.append(run) or 24.0)
    estimate(plan, [])
    assert len(probed) == 1  # both networks share backbone and size
    trained = plan.trained("full")
    rate = 24.0 / estimates.OWN_MODULES
    assert trained.seconds == pytest.approx((12 * 12 + 24 / 3) / rate)
    precision = trained.run.precision
    record = make_record()
    record["machine"]["precision"] = precision
    estimate(plan, [record])
    assert len(probed) == 1 and trained.seconds == pytest.approx((144 + 8) / 118.2)


def test_a_variants_own_runs_tell_its_speed(market, monkeypatch, make_record):
    plan = planned(only=["full", "sam"])
    monkeypatch.setattr(estimates, "probe_rate", lambda run: pytest.fail("nothing is to be probed"))
    records = [make_record("full", images_per_second=40.0), make_record("sam", images_per_second=80.0)]
    for record in records:
        record["machine"]["precision"] = plan.trained("full").run.precision
    estimate(plan, records)
    assert plan.trained("full").seconds == pytest.approx((144 + 8) / 40)
    assert plan.trained("sam").seconds == pytest.approx((144 + 8) / 80)


def test_a_program_takes_as_long_as_its_published_record(market, make_record):
    plan = planned(only=["colour_histogram"])
    (program,) = plan.runs
    estimate(plan, [])
    assert program.seconds == estimates.FLOOR_SECONDS
    estimate(
        plan,
        [],
        [make_record("colour_histogram", run=program.name) | {"run": program.name, "seconds": {"evaluate": 160.0}}],
    )
    assert program.seconds == 160.0


def test_only_runs_of_the_same_kind_tell_the_speed(make_record):
    key = ("resnet18", 128, 64, "cpu", "bf16")
    slow = make_record(images_per_second=50.0)
    assert measured_rate(key, [make_record(), slow]) == 50.0
    assert measured_rate(("resnet50", *key[1:]), [slow]) is None
    assert measured_rate((*key[:4], "fp32"), [slow]) is None
    assert measured_rate(key, [make_record("counts", config={}, images_per_second=None)]) is None


def test_the_probe_measures_the_backbone(market):
    run = planned(only=["full"]).trained("full").run
    started = time.monotonic()
    rate = estimates.probe_rate(run, steps=1)
    seconds = time.monotonic() - started
    assert 32 / seconds < rate < 10_000


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (61, "61 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds, text):
    assert print_duration(seconds) == text
