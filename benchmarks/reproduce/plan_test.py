"""Plans: each run once, with its state; runs on real data are never replaced without FORCE."""

import json

import pytest

from benchmarks.pages.compared import labels_of
from benchmarks.reproduce import plan as plans
from benchmarks.reproduce.conftest import SPEC, TRAINED, begin, planned
from benchmarks.reproduce.plan import COMPARISON, PAIRS, chosen_documents, chosen_rows, pair_of
from benchmarks.spec import known_papers, load_spec
from common.errors import UserError


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


def test_the_comparison_has_the_runs_of_its_page_whatever_their_documents_and_only_at_demo_size():
    for paper in known_papers():
        rows = chosen_rows(load_spec(paper), COMPARISON, (), demo=True)
        assert {row.run.label for row, _, _ in rows} == set(labels_of(paper)) != set()
    assert "full+num_epochs=8" in labels_of("fgsam")
    with pytest.raises(UserError, match="run it without DATA_ROOT"):
        chosen_rows(SPEC, COMPARISON, (), demo=False)


def test_the_pairs_are_each_method_and_its_baseline_and_what_needs_no_training(market):
    pairs = {paper: pair_of(load_spec(paper)) for paper in known_papers()}
    assert pairs == {paper: {"full", "base" if paper == "fgsam" else "baseline"} for paper in known_papers()}
    for paper, pair in pairs.items():
        headline, rows = (
            [(row.run.label, dataset) for row, dataset, _ in chosen_rows(load_spec(paper), scope, (), demo=True)]
            for scope in ("headline", PAIRS)
        )
        untrained = {entry for entry in headline if "num_epochs=0" in entry[0] or "histogram" in entry[0]}
        assert {label for label, _ in rows} >= pair and set(headline) >= set(rows) >= untrained
        left_out = {label for label, _ in set(headline) - set(rows)}
        assert not {label for label in left_out if label in pair or label in ("counts", "pretrain_pose")}
    assert {label.split("-")[1] for label in names(planned(scope=PAIRS))} >= {"full", "baseline", "counts"}
    assert {"demo-pcam-s0", "demo-sam-s0", "demo-ndem-s0"} == set(names(planned())) - set(names(planned(scope=PAIRS)))


def test_a_paper_without_a_claim_in_the_readme_has_its_headline_rows_as_pairs():
    paper = SPEC.model_copy(update={"claims": tuple(claim for claim in SPEC.claims if not claim.headline)})
    assert pair_of(paper) == set()
    chosen = [
        [row.run.label for row, _, _ in chosen_rows(paper, scope, (), demo=True)] for scope in (PAIRS, "headline")
    ]
    assert chosen[0] == chosen[1]


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
