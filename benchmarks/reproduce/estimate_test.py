"""The time of a plan: from finished runs, published records and probes."""

from types import SimpleNamespace

import pytest

from benchmarks.reproduce import estimate as estimates
from benchmarks.reproduce.conftest import TRAINED, begin, planned
from benchmarks.reproduce.estimate import LEAST_SECONDS, duration_text, estimate, measured_rate
from common.paper import TRAINING_COST
from common.runs.settings import settings_hash


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


def test_finished_runs_of_another_device_or_precision_say_nothing(market, speeds, make_record):
    plan = planned(only=["full", "sam"])
    published = [
        twin_record(make_record, plan.trained(one).run, seconds={"train": 80.0, "evaluate": 4.0})
        for one in ("full", "sam")
    ]
    on_gpu = published[0].model_copy(update={"seconds": {"train": 2.0, "evaluate": 0.1}})
    machine = on_gpu.machine.model_copy(update={"device": "cuda", "gpu": "Some GPU", "precision": "bf16"})
    speeds.training |= dict.fromkeys(("full", "sam"), 50.0)
    estimate(plan, [on_gpu.model_copy(update={"machine": machine})], published)
    assert plan.trained("sam").seconds == LEAST_SECONDS + 2 * (80 + 4)


def test_published_records_of_another_machine_than_most_are_not_scaled_with_them(market, speeds, make_record):
    """Of four records one is of a slower machine: its run is estimated as one without a record."""
    plan = planned(only=["full", "sam", "pcam", "ndem"])
    labels = [run.run.variant for run in plan.runs]
    published = [
        twin_record(make_record, plan.trained(one).run, seconds={"train": 80.0, "evaluate": 4.0}) for one in labels
    ]
    slow = published[-1].machine.model_copy(update={"precision": "fp32"})
    published[-1] = published[-1].model_copy(update={"machine": slow, "seconds": {"train": 800.0, "evaluate": 9.0}})
    speeds.training[labels[0]] = 50.0
    speeds.embedding |= dict.fromkeys(labels, 200.0)
    estimate(plan, [], published[::-1])
    assert [plan.trained(one).seconds for one in labels[:-1]] == [LEAST_SECONDS + 2 * (80 + 4)] * 3
    assert plan.trained(labels[-1]).seconds == pytest.approx(LEAST_SECONDS + TRAINED / 50 + 128 / 200)


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
