"""Plans: each run once, with its state and an estimate; runs on real data are never replaced without FORCE."""

import json
from types import SimpleNamespace

import pytest

from benchmarks.reproduce import estimate as estimates
from benchmarks.reproduce import plan as plans
from benchmarks.reproduce.estimate import LEAST_SECONDS, duration_text, estimate, measured_rate
from benchmarks.reproduce.plan import chosen_documents, chosen_rows, make_plan
from benchmarks.spec import load_spec
from common.datasets.base import DataSet, Sample, Search, Subset
from common.errors import UserError
from common.paper import TRAINING_COST
from common.runs.settings import settings_hash
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


def names(plan):
    return [run.name.removeprefix("market1501-") for run in plan.runs]


def test_a_run_that_several_documents_need_is_planned_once(market):
    plan = planned()
    variants = ["full", "baseline", "pcam", "sam", "ndem"]
    baselines = [f"demo-{name}-s0" for name in ("colour_histogram", "balanced_histogram", "baseline+num_epochs=0")]
    assert names(plan) == ["demo-counts-s0", *(f"demo-{name}-s0" for name in variants), *baselines]
    assert plan.left_out == []
    assert plan.trained("sam").name == "market1501-demo-sam-s0" and plan.trained("sam").images == TRAINED


def test_scope_all_has_every_table_and_figure_and_headline_only_its_own():
    paper = load_spec("fgsam")
    ids = {scope: {document.id for document in chosen_documents(paper, scope, ())} for scope in ("headline", "all")}
    assert ids["headline"] < ids["all"] == {document.id for document in paper.documents} - {"decisions"}


def test_runs_that_the_comparison_of_papers_needs_are_added_by_their_labels():
    def labels(**more):
        return {row.run.label for row, _, _ in chosen_rows(load_spec("fgsam"), "headline", (), demo=True, **more)}

    assert labels(also=["full+num_epochs=8"]) - labels() == {"full+num_epochs=8"}


def test_scope_all_adds_the_sweep_that_fits_the_size_and_at_demo_size_the_other_data_sets(market):
    added = set(names(planned(scope="all"))) - set(names(planned()))
    others = {f"{name}-demo-{run}-s0" for name in ("dukemtmcreid", "msmt17") for run in ("counts", "full")}
    starts = ("baseline", "baseline+pretrained=none")  # with and without the starting weights
    elsewhere = {f"{name}-demo-{run}-s0" for name in ("dukemtmcreid", "msmt17", "cuhk03") for run in starts}
    from_random = {f"demo-{run}+pretrained=none-s0" for run in ("baseline", "full")}
    sweep = {f"demo-full+num_parts={parts}-s0" for parts in (1, 2, 4, 6)}
    further = {
        *(f"demo-{run}+{key}-s0" for run in ("baseline", "full") for key in ("bnneck=True", "warmup_peak=0.00035")),
        *(f"demo-full+{change}dependency_gain=1.0-s0" for change in ("", "dependency_decay=none+")),
        "demo-pham-s0",
    }
    assert added == sweep | others | elsewhere | from_random | further
    assert set(names(planned(only=["full"]))) == {"demo-full-s0"}
    assert set(names(planned(only=["full"], scope="all"))) == {"demo-full-s0", *(n for n in others if "full" in n)}
    assert set(names(planned(only=["table3"]))) == {"dukemtmcreid-demo-full-s0"}
    market.kind = "real"
    added = set(names(planned(scope="all", data_root="anywhere"))) - set(names(planned(data_root="anywhere")))
    further = {f"real-{name.removeprefix('demo-')}" for name in further}
    assert added == {f"real-full+num_parts={parts}-s0" for parts in (1, 2, 4, 16)} | further


def test_seeds_repeat_training_but_not_counting(market):
    assert names(planned(seeds=[0, 1], only=["counts", "table2"])) == ["demo-counts-s0", "demo-full-s0", "demo-full-s1"]


def test_only_takes_documents_and_variants_and_names_what_it_knows():
    labels = [row.run.label for row, _, _ in chosen_rows(SPEC, "headline", ["baseline", "fig7"], demo=True)]
    sweep = [*(f"full+num_parts={parts}" for parts in (1, 2, 4, 6)), "full", "full+num_parts=16"]
    # Table 5 and its further rows, the curves, Fig. 7, Fig. 8, the starting weights and their heat maps
    assert labels == ["baseline", "baseline", "baseline", *sweep, "baseline", "baseline", "baseline"]
    with pytest.raises(UserError, match=r"nothing in ndmf_net is named 'table9'.*table5"):
        chosen_rows(SPEC, "headline", ["table9"], demo=True)


def test_the_run_that_others_start_from_is_planned_ahead_of_them_but_not_forced_with_them(
    market, make_record, monkeypatch
):
    monkeypatch.setattr("common.runs.run.source_hash", lambda module: "5" * 16)
    paper = load_spec("fgsam")
    plan = planned(paper, only=["fig5_alpha"], seeds=[0, 1])
    others = [f"demo-full+{alpha}phase=3+start_from=full" for alpha in ("alpha=0.1+", "alpha=0.3+", "")]
    assert [name for name in names(plan) if "0.7" not in name and "0.9" not in name] == [
        f"{run}-s{seed}" for run in ("demo-full", *others) for seed in (0, 1)
    ]
    starts = {run.run.seed: run.directory for run in plan.runs[:2]}
    assert [run.after for run in plan.runs[:2]] == [None, None]
    assert all(run.after == starts[run.run.seed] for run in plan.runs[2:])
    begin(plan, "full", make_record, finished=True, source="5" * 16)
    forced = planned(paper, only=["fig5_alpha"], force=True)
    assert [run.state for run in forced.runs] == ["finished"] + ["new"] * 5
    assert not [run for run in planned(paper, only=["full"]).runs if run.run.variant != "full"]


def test_a_program_whose_weights_others_share_is_forced_to_train_them_again(market):
    paper = load_spec("fgsam")
    for name, own in (("pretrain_pose", ["--force"]), ("count_attributes", [])):
        plain, forced = (planned(paper, only=[name], force=force).runs[0].arguments for force in (False, True))
        assert forced == [*plain, *own] and "--force" not in plain


def begin(plan, label, make_record, *, finished=False, source=None):
    """Write what an interrupted or a finished run leaves on disk."""
    run = plan.trained(label).run
    run.directory.mkdir(parents=True)
    (run.directory / "run.json").write_text(json.dumps(run.identity()))
    (run.directory / "log.jsonl").write_text('{"epoch": 1}\n' * 5)
    if finished:
        record = make_record(source_hash=source or source_hash("ndmf_net.train"))
        (run.directory / "result.json").write_text(record.model_dump_json())


def test_states_decide_what_is_run(market, make_record):
    begin(planned(), "full", make_record, finished=True)
    begin(planned(), "baseline", make_record, finished=True, source="0" * 16)
    begin(planned(), "sam", make_record)
    plan = planned(only=["full", "baseline", "sam", "pcam"])
    states = {run.run.variant: run.state for run in plan.runs}
    assert states == {"full": "finished", "baseline": "stale", "sam": "interrupted", "pcam": "new"}
    assert [run.run.variant for run in plan.to_do] == ["pcam", "sam"]
    interrupted = plan.trained("sam")
    assert "--resume" in interrupted.arguments and interrupted.images == TRAINED * 3 // 8
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


def test_no_data_set_at_all_is_an_error_with_the_reasons(monkeypatch):
    def absent(name, root=None, *, size="demo"):
        raise UserError(f"{name} was not found")

    monkeypatch.setattr(plans, "open_dataset", absent)
    with pytest.raises(UserError, match=r"nothing can be run(.|\n)*dukemtmcreid: dukemtmcreid was not found"):
        planned(only=["table3"])


# ------------------------------------------------------------------ time


def at_precision(record, run):
    """The record with the run's precision, which depends on this machine."""
    return record.model_copy(update={"machine": record.machine.model_copy(update={"precision": run.precision})})


@pytest.fixture
def speeds(monkeypatch):
    """{variant: images per second} that probes find; the variants whose probes were run."""
    training, embedding, probed = {}, {}, []

    def probe(of, what):
        def rate(probed_run):
            run = getattr(probed_run, "run", probed_run)
            probed.append(f"{what} {run.variant}")
            return of.get(run.variant)

        return rate

    monkeypatch.setattr(estimates, "training_rate", probe(training, "train"))
    monkeypatch.setattr(estimates, "embedding_rate", probe(embedding, "embed"))
    return SimpleNamespace(training=training, embedding=embedding, probed=probed)


def test_the_estimate_comes_from_finished_runs_or_from_probes(market, speeds, make_record):
    """A plan's first run that can be trained says what training costs; every network is probed for its own speed."""
    plan = planned(only=["full", "sam", "colour_histogram"])
    first, second = (run.run.variant for run in plan.runs if run.run)
    speeds.embedding |= {first: 24.0, second: 12.0}
    speeds.training[first] = 6.0
    estimate(plan, [])
    assert sorted(speeds.probed) == sorted([f"train {first}", f"embed {first}", f"embed {second}"])
    assert plan.trained(first).seconds == pytest.approx(LEAST_SECONDS + TRAINED / 6.0 + 128 / 24.0)
    assert plan.trained(second).seconds == pytest.approx(LEAST_SECONDS + TRAINED / 3.0 + 128 / 12.0)
    estimate(plan, [at_precision(make_record(), plan.trained("full").run)])
    assert plan.trained("full").seconds == pytest.approx(LEAST_SECONDS + (TRAINED + 128 / TRAINING_COST) / 118.2)
    assert len(speeds.probed) == 3


def test_the_papers_own_cost_of_training_serves_where_no_training_can_be_probed(market, speeds):
    plan = planned()
    variants = [run.run.variant for run in plan.runs if run.run]
    speeds.embedding |= dict.fromkeys(variants, 24.0)
    estimate(plan, [])
    assert plan.trained("full").seconds == pytest.approx(LEAST_SECONDS + (TRAINED * TRAINING_COST + 128) / 24.0)
    tried = [line.removeprefix("train ") for line in speeds.probed if line.startswith("train")]
    assert tried == variants[:3]
    speeds.training[variants[1]] = 4.0  # the first may need another training before its own
    estimate(plan, [])
    assert plan.trained("full").seconds == pytest.approx(LEAST_SECONDS + TRAINED / 4.0 + 128 / 24.0)


def test_a_run_that_only_scores_is_no_probe_of_training(market, speeds):
    plan = planned(only=["baseline+num_epochs=0"])
    (run,) = plan.runs
    speeds.embedding[run.run.variant] = 24.0
    estimate(plan, [])
    assert run.seconds == pytest.approx(LEAST_SECONDS + 128 / 24.0)
    assert speeds.probed == [f"embed {run.run.variant}"]


def test_a_network_that_cannot_be_probed_is_taken_to_be_as_slow_as_the_slowest_other(market, speeds):
    plan = planned(only=["full", "sam", "pcam"])
    first, second, third = (run.run.variant for run in plan.runs)
    speeds.embedding |= {first: 24.0, second: 12.0}
    speeds.training[first] = 6.0
    estimate(plan, [])
    assert plan.trained(third).seconds == pytest.approx(plan.trained(second).seconds)


def test_a_variants_own_runs_give_its_speed(market, speeds, make_record):
    plan = planned(only=["full", "sam"])
    records = [make_record("full", images_per_second=40.0), make_record("sam", images_per_second=80.0)]
    estimate(plan, [at_precision(record, plan.trained("full").run) for record in records])
    assert plan.trained("full").seconds == pytest.approx(LEAST_SECONDS + (TRAINED + 128 / TRAINING_COST) / 40)
    assert plan.trained("sam").seconds == pytest.approx(LEAST_SECONDS + (TRAINED + 128 / TRAINING_COST) / 80)
    assert not speeds.probed


def test_a_program_takes_as_long_as_its_published_record(market, make_record):
    plan = planned(only=["colour_histogram"])
    (program,) = plan.runs
    estimate(plan, [])
    assert program.seconds == LEAST_SECONDS
    estimate(plan, [], [make_record("colour_histogram", run=program.name, seconds={"evaluate": 160.0})])
    assert program.seconds == 160.0


def twin_record(make_record, run, *, phases=(1, 1), taken=(10.0, 10.0), **more):
    """A published record of the run's row, of some other machine: phases and seconds of its epochs."""
    log = [{"epoch": 1 + at, "phase": phase, "seconds": taken[at]} for at, phase in enumerate(phases)]
    fields = {
        "config_hash": settings_hash(run.settings),
        "num_epochs": 8,
        "images_per_second": 100.0,
        "log": log,
    }
    return make_record(run.variant, **(fields | more))


def test_published_records_and_the_probe_of_a_training_give_the_time(market, speeds, make_record):
    """The probe sees half the speed of the record's first phase, so all runs with a record take twice as long here."""
    plan = planned(only=["full", "sam", "pcam", "colour_histogram"])
    first, second, third = (run.run for run in plan.runs if run.run)
    published = [
        twin_record(make_record, first, phases=(1, 1, 2, 2), taken=(5.0, 5.0, 20.0, 10.0)),  # 200, then 67 images/s
        twin_record(make_record, second, seconds={"train": 80.0, "evaluate": 4.0}),
        make_record("colour_histogram", run=plan.runs[-1].name, seconds={"evaluate": 16.0}),
    ]
    speeds.training[first.variant] = 100.0
    speeds.embedding |= {first.variant: 400.0, third.variant: 200.0}
    estimate(plan, [], published)
    assert plan.trained(second.variant).seconds == LEAST_SECONDS + 2 * (80 + 4)
    assert plan.runs[-1].seconds == 2 * 16
    without_record = plan.trained(third.variant).seconds  # what its network embeds, and the probe's cost of training
    assert without_record == pytest.approx(LEAST_SECONDS + TRAINED / 50 + 128 / 200)
    stale = twin_record(make_record, third, seconds={"train": 1.0, "evaluate": 1.0}, config_hash="0" * 16)
    estimate(plan, [], [*published, stale])
    assert plan.trained(third.variant).seconds == without_record


def test_finished_runs_say_how_much_slower_than_the_published_records_this_machine_is(market, speeds, make_record):
    plan = planned(only=["full", "sam"])
    full, sam = plan.trained("full").run, plan.trained("sam").run
    published = [twin_record(make_record, run, seconds={"train": 80.0, "evaluate": 4.0}) for run in (full, sam)]
    here = at_precision(published[0].model_copy(update={"seconds": {"train": 240.0, "evaluate": 9.0}}), full)
    estimate(plan, [here], published)
    assert plan.trained("sam").seconds == LEAST_SECONDS + 3 * (80 + 4)
    assert plan.trained("full").seconds == pytest.approx(LEAST_SECONDS + (TRAINED + 128 / TRAINING_COST) / 100)
    assert not speeds.probed


def test_an_interrupted_run_takes_its_records_time_for_the_epochs_left(market, speeds, make_record):
    begin(planned(), "sam", make_record)
    (interrupted,) = planned(only=["sam"]).runs
    plan = SimpleNamespace(to_do=[interrupted])
    assert interrupted.images == TRAINED * 3 // 8
    twin = twin_record(make_record, interrupted.run, seconds={"train": 80.0, "evaluate": 4.0})
    speeds.training["sam"] = 50.0
    estimate(plan, [], [twin])
    assert interrupted.seconds == pytest.approx(LEAST_SECONDS + 2 * (80 * 3 / 8 + 4))


def test_only_comparable_runs_give_the_speed(market, make_record):
    run = planned(only=["full"]).trained("full").run
    slow, usual = (at_precision(make_record(images_per_second=rate), run) for rate in (50.0, 118.2))
    assert measured_rate(run, [usual, slow]) == 50.0
    other_size = slow.model_copy(update={"config": slow.config | {"height": 256}})
    other_precision = slow.model_copy(update={"machine": slow.machine.model_copy(update={"precision": "fp64"})})
    assert measured_rate(run, [other_size]) is None
    assert measured_rate(run, [other_precision]) is None
    assert measured_rate(run, [make_record("counts", config={}, images_per_second=None)]) is None


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (61, "61 s"), (600, "10 min"), (9000, "2.5 h")])
def test_durations(seconds, text):
    assert duration_text(seconds) == text
