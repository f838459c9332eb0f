"""The pages: cells, why a cell is empty, the spread over seeds, and the order and noise of an ablation."""

import re

import pytest

from benchmarks.pages.ablation import noise_level, rank_agreement
from benchmarks.pages.commands import ASK_ABOVE_SECONDS, gpu_hours, make_command, trainings, unpublished
from benchmarks.pages.effects import effect
from benchmarks.pages.figures import draw_from_records
from benchmarks.pages.page import render_document, render_page
from benchmarks.pages.sources import Summary, committed_sources, local_sources
from benchmarks.pages.table import Page, summary_text
from benchmarks.records import read_records
from benchmarks.spec import Document, load_spec
from common.errors import UserError

SPEC = load_spec("ndmf_net")
ROWS = ("baseline", "pcam", "sam", "ndem", "full")


def page(tmp_path, sources, figure_data=None):
    return Page(SPEC, sources, tmp_path / "ndmf_net", figure_data or {})


@pytest.fixture
def committed(tmp_path, today):
    """committed(records, **more): the committed page of these records."""
    return lambda records, **more: page(tmp_path, committed_sources(records, today), **more)


def cells(lines, start):
    """The cells of the first table line that starts with `start`."""
    line = next(line for line in lines if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_mean_deviation_and_number_of_seeds_are_those_of_a_calculation_by_hand(make_record, committed):
    # 60, 61, 65: mean 62, sample variance (4 + 1 + 9) / 2 = 7
    records = [make_record("full", seed, mAP) for seed, mAP in enumerate((0.60, 0.61, 0.65))]
    lines = render_document(committed(records), SPEC.document("table2"))
    assert cells(lines, "NDMF-Net (ours)") == ["NDMF-Net (ours)", "95.8", "88.9"]
    assert cells(lines, "↳ NDMF-Net (ours), **synthetic**, 3 seeds")[1:] == ["80.0 ± 0.0", "62.0 ± 2.6"]
    lines = render_document(committed(records), SPEC.document("table5"))
    full = dict(zip(cells(lines, "Method"), cells(lines, "Baseline + PCAM + SAM + NDEM"), strict=True))
    assert (full["mAP synthetic"], full["seeds"]) == ("62.0 ± 2.6", "3")


def test_another_estimator_of_average_precision_is_given_by_what_it_changes(tmp_path, make_record, committed, today):
    records = [make_record("baseline", mAP=0.5), make_record("full", mAP=0.6)]
    records[1].scores["mAP_trapezoid"] = 0.57  # 3 points below; the baseline's is 1 point below
    text = "\n".join(render_document(committed(records), SPEC.document("table5")))
    changes = "-3.0 to -1.0 points under `trapezoid` and +1.0 points under `interpolated`"
    assert f"- Our mAP (synthetic) changes by {changes}." in text
    fgsam = load_spec("fgsam")  # whose paper describes its estimator
    words = "the paper averages the maximum precisions at different recalls"
    text = render_page(Page(fgsam, committed_sources([], today), tmp_path, {}), title="T", introduction=[])
    assert f"AP estimator of our mAP: `step`; {words}" in text and "`step`; the paper does not name" not in text


def test_the_standard_error_over_the_test_people_stands_with_its_score(make_record, committed):
    records = [make_record("full", seed, 0.6) for seed in range(2)]
    for record, error in zip(records, (0.01, 0.02), strict=True):
        record.scores["mAP_error"] = error
    lines = render_document(committed(records), SPEC.document("table2"))
    ours = "↳ NDMF-Net (ours), **synthetic**"
    assert cells(lines, f"{ours}, 2 seeds")[1:] == ["80.0 ± 0.0", "60.0 ± 0.0 (se 1.5)"]
    lines = render_document(committed(records[1:]), SPEC.document("table2"))
    assert cells(lines, ours)[1:] == ["80.0", "60.0 (se 2.0)"]


def test_cited_rows_carry_reference_venue_and_no_run(make_record, committed):
    lines = render_document(committed([make_record()]), SPEC.document("table2"))
    assert cells(lines, "Method") == ["Method", "Rank-1", "mAP"]
    assert cells(lines, "CDNet [45] (CVPR 2021)")[1:] == ["95.1", "86.0"]
    position = lines.index("| NDMF-Net (ours) | 95.8 | 88.9 |")
    assert lines[position + 1].startswith("| ↳ NDMF-Net (ours), **synthetic** | 80.0 | 60.0 |")


def test_real_records_have_their_own_columns_and_a_difference(make_record, committed):
    records = [make_record(mAP=0.6), make_record(kind="real", mAP=0.885, rank1=0.96)]
    lines = render_document(committed(records), SPEC.document("table5"))
    row = dict(zip(cells(lines, "Method"), cells(lines, "Baseline + PCAM + SAM + NDEM"), strict=True))
    assert (row["mAP paper"], row["mAP real"], row["mAP synthetic"]) == ("88.9 (+4.3)", "88.5", "60.0")
    assert (row["mAP real - paper"], row["Rank-1 real - paper"]) == ("-0.4", "+0.2")
    lines = render_document(committed(records), SPEC.document("table2"))
    assert cells(lines, "↳ NDMF-Net (ours), **real**")[1:] == ["96.0", "88.5"]
    assert cells(lines, "↳ real - paper")[1:] == ["+0.2", "-0.4"]
    assert cells(lines, "↳ NDMF-Net (ours), **synthetic**")[1:] == ["80.0", "60.0"]


def test_without_any_real_run_one_line_names_command_and_cost(make_record, committed):
    text = "\n".join(render_document(committed([make_record()]), SPEC.document("table5")))
    command = "`make reproduce-ndmf DATA_ROOT=DIR ONLY=table5 YES=1`"
    assert f"- On real data: {command} (5 trainings, about 7.5 GPU hours, 15 GB of disk)." in text
    assert "| Baseline + PCAM" in text and "not run (a)" in text
    assert "(a) no run published: `make reproduce-ndmf ONLY=table5`" in text
    text = "\n".join(render_document(committed([make_record()]), SPEC.document("start")))
    assert "- On real data:" not in text  # rows of the demo only


def test_a_plan_that_would_be_refused_is_confirmed_in_its_command():
    for document in SPEC.documents:
        for kind in ("real", "full"):
            long = 3600 * gpu_hours(SPEC, document, kind) > ASK_ABOVE_SECONDS
            assert make_command(SPEC, document, kind).endswith(" YES=1") == long
        assert "YES" not in make_command(SPEC, document, "demo")
    assert gpu_hours(SPEC, SPEC.document("table2"), "real") == 1.5
    assert gpu_hours(SPEC, SPEC.document("table5"), "real") == 7.5


def test_a_data_sets_own_cost_counts_and_what_precedes_its_first_run():
    """MGRe's Table 4: four networks on Market-1501, and on DukeMTMC-reID for 1.3 times as long; poses 0.1 and 0.2."""
    mgre = load_spec("mgre")
    document = mgre.document("table4")
    runs = trainings(document, "real")
    market = sum(dataset == "market1501" for _, dataset in runs)
    assert 0 < market < len(runs) and {dataset for _, dataset in runs} == {"market1501", "dukemtmcreid"}
    expected = 4 * (market + 1.3 * (len(runs) - market)) + 0.3
    assert gpu_hours(mgre, document, "real") == pytest.approx(expected, abs=0.051)


def test_counts_are_one_line_each_with_the_methods_in_columns(make_record, committed):
    lines = render_document(committed([make_record("counts")]), SPEC.document("table1"))
    header = cells(lines, "")
    images = dict(zip(header, cells(lines, "Training images"), strict=True))
    assert (images["Market-1501 paper"], images["Market-1501 synthetic"]) == ("12,936", "1,200")
    assert images["MSMT17 paper"] == "32,621" and images["MSMT17 synthetic"].startswith("not run")
    assert cells(lines, "Released")[1:3] == ["2015", "–"]


def test_a_table_with_many_columns_has_our_numbers_as_rows(tmp_path, make_record, today):
    paper = load_spec("mutual_attention")
    record = make_record("full", mAP=0.5)
    record.scores.update(rank5=0.7, rank10=0.8, rank20=0.9)
    shown = Page(paper, committed_sources([record], today), tmp_path / "mutual_attention", {})
    lines = render_document(shown, paper.document("table1"))
    assert cells(lines, "Method")[1:] == ["R = 1", "R = 5", "R = 10", "R = 20", "mAP"]
    ours = cells(lines, "↳ Single-shoot, **synthetic**")
    assert ours[1:] == ["80.00", "70.00", "80.00", "90.00", "50.00"]


def test_baselines_are_separate_from_the_papers_rows(make_record, committed):
    records = [make_record("colour_histogram", mAP=0.11), make_record("baseline+num_epochs=0", mAP=0.03)]
    lines = render_document(committed(records), SPEC.document("table5"))
    assert cells(lines, "Colour histogram") == ["Colour histogram", "80.0", "11.0"]
    assert cells(lines, "Baseline network, not trained further than its start")[-1] == "3.0"
    assert lines.index(next(line for line in lines if line.startswith("Our own rows"))) > 5


def test_a_table_of_settings_shows_what_is_printed_and_needs_no_run(tmp_path, make_record, today):
    mgre = load_spec("mgre")
    shown = Page(mgre, committed_sources([make_record(paper="mgre")], today), tmp_path / "mgre", {})
    lines = render_document(shown, mgre.document("table1"))
    assert cells(lines, "Method")[:3] == ["Method", "Stage", "C_x (%)"]
    assert cells(lines, "head") == ["head", "1", "50.0", "8.3", "8", "8"]
    assert not any("make reproduce" in line for line in lines)


def test_a_number_that_a_finished_run_does_not_produce_is_not_a_missing_run(tmp_path, make_record, today):
    paper = load_spec("mutual_attention")
    records = [make_record("colour_histogram", mAP=0.11), make_record("full", mAP=0.5)]
    records[1].scores["multi_query"] = {"rank1": 0.7, "mAP": 0.6, "mAP_trapezoid": 0.58}
    shown = Page(paper, committed_sources(records, today), tmp_path / "mutual_attention", {})
    text = "\n".join(render_document(shown, paper.document("table3")))
    histogram = [line for line in text.splitlines() if line.startswith("| Colour histogram |")]
    assert len(histogram) == 1 and "11.00" in histogram[0]  # it has no multi-shoot scores
    assert "| ↳ Ours with MA, **synthetic** | 70.00 | 60.00 |" in text
    assert "changes by -2.0 to -1.0 points under `trapezoid`" in text  # 58 for 60 in Multi-Shoot
    assert "not run (a)" in text  # the baseline


def test_a_row_that_a_data_set_cannot_have_says_why_and_names_no_command(tmp_path, make_record, today):
    paper = load_spec("mutual_attention")
    record = make_record("full")
    record.scores["multi_query"] = {"rank1": 0.7, "mAP": 0.6}
    shown = Page(paper, committed_sources([record], today), tmp_path / "mutual_attention", {})
    text = "\n".join(render_document(shown, paper.document("table1")))
    market, duke = [line for line in text.splitlines() if line.startswith("| ↳ Multi-shoot, ")]
    assert "impossible" not in market and duke.count("impossible (") == 5 and "not run" not in duke
    assert re.search(r"- \(.\) DukeMTMC-reID has no further images of its queries", text)


def test_rows_of_a_sweep_belong_to_demo_or_to_the_papers_size(make_record, committed):
    records = [make_record("full+num_parts=6"), make_record(kind="real")]
    lines = render_document(committed(records), SPEC.document("fig7"))
    header = cells(lines, "N")
    six, sixteen = (dict(zip(header, cells(lines, name), strict=True)) for name in ("6", "16"))
    assert (six["mAP synthetic"], six["mAP real"]) == ("60.0", "–")
    assert sixteen["mAP synthetic"] == "–" and sixteen["mAP real"].startswith("not run")
    lines = render_document(committed(records[:1]), SPEC.document("fig7"))
    assert not any(line.startswith("| 16 |") for line in lines)  # nothing but dashes


# ------------------------------------------------------------------ ablation


def test_kendalls_tau_by_hand():
    # order of 4 with one neighbouring pair swapped: 5 concordant, 1 discordant of 6 pairs
    assert rank_agreement([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(4 / 6)
    assert rank_agreement([1, 2, 3], [3, 2, 1]) == -1


def test_noise_level_is_pooled_over_the_rows_by_their_degrees_of_freedom():
    summaries = [Summary(0.5, 0.03, 3), Summary(0.6, 0.04, 3), Summary(0.7, None, 1)]
    assert noise_level(summaries) == (pytest.approx((0.0025 / 2) ** 0.5), 4)
    assert noise_level([Summary(0.5, 0.03, 3), Summary(0.6, 0.06, 2)]) == (pytest.approx((0.0054 / 3) ** 0.5), 3)
    assert noise_level(summaries[2:]) is None


def test_differences_below_the_margin_are_marked(make_record, committed):
    # each row's seeds differ by 0.02: sample sd 0.01414 with 5 degrees of freedom, so t s = 2.571 * 1.414 = 3.64 points
    means = {"baseline": 0.50, "pcam": 0.52, "sam": 0.58, "ndem": 0.51, "full": 0.60}
    records = [
        make_record(row, seed, mean + shift) for row, mean in means.items() for seed, shift in enumerate((-0.01, 0.01))
    ]
    lines = render_document(committed(records), SPEC.document("table5"))
    blocks = [cell for title in ("Rank-1", "mAP") for cell in (f"{title} paper", f"{title} synthetic", "Δ")]
    assert cells(lines, "Method") == ["Method", *blocks, "seeds"]
    assert cells(lines, "Baseline + PCAM + SAM + NDEM")[4:] == ["88.9 (+4.3)", "60.0 ± 1.4", "+10.0", "2"]
    assert cells(lines, "Baseline + SAM")[4:] == ["86.9 (+2.3)", "58.0 ± 1.4", "+8.0", "2"]
    assert cells(lines, "Baseline + PCAM")[4:] == ["87.1 (+2.5)", "52.0 ± 1.4", "+2.0 (noise)", "2"]
    assert cells(lines, "Baseline")[4:] == ["84.6", "50.0 ± 1.4", "", "2"]
    # the paper: baseline < sam < pcam < ndem < full; ours: baseline < ndem < pcam < sam < full: 7 - 3 of 10 pairs
    (order,) = [line for line in lines if "Kendall" in line]
    assert "mAP 0.40 (5 rows, s = 1.41)." in order


def test_a_row_of_one_seed_has_more_noise(make_record, committed):
    # s = 1.41 points over the baseline's two seeds, one degree of freedom: t s sqrt(1 + 1/2) = 12.706 * 1.732 = 22.0
    records = [make_record("baseline", 0, 0.49), make_record("baseline", 1, 0.51)]
    records += [make_record("pcam", 0, 0.719), make_record("sam", 0, 0.721)]
    lines = render_document(committed(records), SPEC.document("table5"))
    assert cells(lines, "Baseline + PCAM")[-2] == "+21.9 (noise)" and cells(lines, "Baseline + SAM")[-2] == "+22.1"


def test_with_one_seed_the_noise_is_unknown(make_record, committed):
    records = [make_record(row, 0, 0.5 + position / 100) for position, row in enumerate(ROWS)]
    lines = render_document(committed(records), SPEC.document("table5"))
    assert cells(lines, "Baseline + PCAM")[-1] == "+1.0" and "seeds" not in cells(lines, "Method")
    # all Rank-1 are equal, so that they have no order; ours in mAP: sam above pcam, one of ten pairs swapped
    (order,) = [line for line in lines if "Kendall" in line]
    assert order.endswith("mAP 0.80 (5 rows).")


def test_stale_runs_are_not_compared_with_todays(make_record, committed):
    """A stale row has no difference from today's baseline, no place in the order and no part in the noise."""
    changed = {"sam": {"source_hash": "6" * 16}}
    records = [
        make_record(row, seed, 0.5 + position / 50 + seed * (0.2 if row == "sam" else 0.02), **changed.get(row, {}))
        for position, row in enumerate(ROWS)
        for seed in (0, 1)
    ]
    lines = render_document(committed(records), SPEC.document("table5"))
    shown = {name: cells(lines, name)[-2] for name in ("Baseline + PCAM", "Baseline + SAM", "Baseline + NDEM")}
    assert shown == {"Baseline + PCAM": "+2.0 (noise)", "Baseline + SAM": "", "Baseline + NDEM": "+6.0"}
    (order,) = [line for line in lines if "Kendall" in line]
    assert order.endswith("mAP 1.00 (4 rows, s = 1.41).")
    alike = [record.model_copy(update={"source_hash": "6" * 16}) for record in records]
    assert cells(render_document(committed(alike), SPEC.document("table5")), "Baseline + SAM")[-2] != ""


def test_a_curve_joins_no_stale_points_to_todays(make_record, today, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("benchmarks.pages.figures.line_figure", lambda file, **shown: drawn.append(shown["series"]))
    labels = ("full+num_parts=2", "full+num_parts=4", "full")
    records = [make_record(label, mAP=0.5, source_hash=hash) for label, hash in zip(labels, "655", strict=True)]
    records = [record.model_copy(update={"source_hash": record.source_hash * 16}) for record in records]
    for published in (records, records[:1] * 2 + [records[0].model_copy(update={"variant": "full"})]):
        draw_from_records(SPEC, committed_sources(published, today), tmp_path)
    assert [series["mAP"] for series in drawn] == [[None, None, 50.0, None, 50.0], [None, 50.0, None, None, 50.0]]


def test_curves_show_every_epoch_and_end_where_a_shorter_training_ends(make_record, today, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("benchmarks.pages.figures.panel_figure", lambda file, **shown: drawn.update(shown))
    rows = SPEC.document("curves").rows
    assert [row.run.label for row in rows] == ["baseline", "full"]
    logs = [
        [{"epoch": n, "phase": 1 + (n > 25), "identity_loss": float(n)} for n in range(1, last + 1)] for last in (30, 2)
    ]
    records = [make_record(row.run.label, mAP=0.5, log=log) for row, log in zip(rows, logs, strict=True)]
    draw_from_records(SPEC, committed_sources(records, today), tmp_path)
    assert list(drawn["x"]) == list(range(1, 31)) and drawn["borders"] == [25.5]
    long, short = drawn["panels"]["identity loss"].values()
    assert long == [float(n) for n in range(1, 31)] and short == [1.0, 2.0] + [None] * 28


@pytest.mark.parametrize(("num_rows", "shown"), [(3, False), (4, True)])
def test_an_order_of_less_than_four_rows_is_not_judged(make_record, committed, num_rows, shown):
    records = [make_record(row, mAP=0.5 + position / 100) for position, row in enumerate(ROWS[:num_rows])]
    text = "\n".join(render_document(committed(records), SPEC.document("table5")))
    assert ("Kendall" in text) == shown


DFW = load_spec("dfw_crossmodal")


def test_neither_differences_nor_orders_of_rank_10_and_20_are_shown(tmp_path, make_record, today):
    variants = ("baseline", "dfw", "sln", "full")
    records = [
        make_record(
            variant, paper="dfw_crossmodal", dataset="sysu_mm01", mAP=0.2 + 0.1 * position, rank1=0.3 * position
        )
        for position, variant in enumerate(variants)
    ]
    for position, record in enumerate(records):
        record.scores.update({"rank10": 0.7 + position / 100, "rank20": 0.8 + position / 100})
    shown = Page(DFW, committed_sources(records, today), tmp_path / "dfw_crossmodal", {})
    lines = render_document(shown, DFW.document("table1_all_rows"))
    places = [number for number, line in enumerate(lines) if line in ("**SYSU-MM01**", "**RegDB**")]
    of_sysu = [line for begin, end in (places[:2], places[2:]) for line in lines[begin:end]]
    headers = [line.strip("| ").split(" | ")[1:] for line in of_sysu if line.startswith("| Method |")]
    assert headers == [
        ["R1 paper", "R1 synthetic", "Δ", "mAP paper", "mAP synthetic", "Δ"],
        ["R10 paper", "R10 synthetic", "R20 paper", "R20 synthetic"],
        ["R1 synthetic", "R10 synthetic", "R20 synthetic", "mAP synthetic"],  # our own rows
    ]
    (order,) = [line for line in lines if "Kendall" in line]
    assert "R1 1.00" in order and "mAP 0.67" in order and "R10" not in order and "R20" not in order


def test_main_effects_of_the_paper_and_of_ours_by_hand(make_record, tmp_path, today):
    """Of four rows; each seed's effects are one sample. The last seeds lack a row, or its images."""
    table = DFW.document("table1_all_rows")
    kept = ("Baseline", "Baseline + DFW", "Baseline + SLN", "Baseline + DFW + SLN")
    factors = {"DFW": kept[1::2], "SLN": kept[2:]}
    rows = tuple(row for name in kept for row in table.rows if row.method == name)
    table = table.model_copy(update={"rows": rows, "factors": factors, "ablation": False, "baselines": ()})
    mAPs = {"baseline": (0.10, 0.10), "dfw": (0.13, 0.11), "sln": (0.20, 0.22), "dfw_sln": (0.25, 0.21)}
    records = [
        make_record(variant, seed, mAP, rank1=0.5, paper="dfw_crossmodal", dataset="sysu_mm01")
        for variant, values in mAPs.items()
        for seed, mAP in enumerate((*values, *([0.9] if variant == "sln" else [])))
    ]
    records += [
        make_record(v, 3, 0.9, paper="dfw_crossmodal", dataset="sysu_mm01", data={"fingerprint": images * 16})
        for v, images in zip(mAPs, "eeef", strict=True)
    ]
    lines = render_document(Page(DFW, committed_sources(records, today), tmp_path, {}), table)
    start = lines.index(next(line for line in lines if line.startswith("Main effects over the 4 rows")))
    header = cells(lines[start:], "Main effect")
    # DFW: (3 + 5) / 2 and (1 - 1) / 2 points, mean 2, standard error 2; SLN: (10 + 12) / 2 and (12 + 10) / 2.
    dfw, sln = (dict(zip(header, cells(lines[start:], name), strict=True)) for name in factors)
    assert dfw["SYSU-MM01 mAP synthetic"] == "+2.0 ± 2.0 (n=2)"
    assert sln["SYSU-MM01 mAP synthetic"] == "+11.0 ± 0.0 (n=2)"
    assert dfw["SYSU-MM01 mAP paper"] == "+0.2"  # (51.12 - 51.75 + 57.69 - 56.56) / 2
    assert dfw["RegDB mAP synthetic"] == "not run"
    assert not any("R10" in title or "R20" in title for title in header)


def test_the_main_effects_of_table_1():
    """DFW's paper: SYSU-MM01 -0.1, +6.2, +3.0 points of mAP; RegDB +0.8, +5.9, +4.1."""
    table = DFW.document("table1_all_rows")
    for column, expected in {"sysu_mAP": (-0.1, 6.2, 3.0), "regdb_mAP": (0.8, 5.9, 4.1)}.items():
        found = [effect(table, having, lambda row, of=column: row.reported[of]) for having in table.factors.values()]
        assert found == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize(
    ("document", "runs"), [("table4", 10), ("table2", 20), ("fig3b", 80), ("table1_all_rows", 88), ("table1", 4)]
)
def test_on_real_and_full_size_data_each_of_regdbs_ten_trials_is_a_run_and_in_the_demo_one_is(document, runs):
    table = DFW.document(document)
    assert f"({runs} trainings, about {1.5 * runs:g} GPU hours" in unpublished(DFW, table)
    assert len(trainings(table, "full")) == runs
    of_demo = {"table4": 1, "table2": 2, "fig3b": 8, "table1_all_rows": 16, "table1": 4}
    assert len(trainings(table, "demo")) == of_demo[document]


# ------------------------------------------------------------------ whole pages


def test_a_users_page_shows_committed_and_local_numbers_and_marks_stale_runs(tmp_path, make_record, today):
    published = [make_record(mAP=0.61), make_record("baseline", mAP=0.55)]
    local = [make_record(mAP=0.60), make_record("baseline", mAP=0.54, source_hash="0" * 16)]
    sources = local_sources(published, local, today)
    lines = render_document(page(tmp_path, sources), SPEC.document("table5"))
    header = cells(lines, "Method")
    full = dict(zip(header, cells(lines, "Baseline + PCAM + SAM + NDEM"), strict=True))
    baseline = dict(zip(header, cells(lines, "Baseline"), strict=True))
    assert full["mAP synthetic, committed"] == "61.0"
    assert full["mAP synthetic, here"] == "60.0"
    assert baseline["mAP synthetic, here"].startswith("54.0 (")
    assert any(
        "stale: the source code changed since this run; `make reproduce-ndmf ONLY=table5 FORCE=1`" in line
        for line in lines
    )


def test_a_committed_record_never_stands_in_for_a_run_here(tmp_path, make_record, today):
    sources = local_sources([make_record(mAP=0.61)], [], today)
    lines = render_document(page(tmp_path, sources), SPEC.document("table2"))
    assert cells(lines, "↳ NDMF-Net (ours), **synthetic, here**")[1:] == ["not run (a)", "not run (a)"]
    assert cells(lines, "↳ NDMF-Net (ours), **synthetic, committed**")[1:] == ["80.0", "61.0"]
    assert any("no finished run on this machine: `make reproduce-ndmf ONLY=table2`" in line for line in lines)


def test_pages_of_real_runs_have_real_columns(make_record, today):
    sources = local_sources([], [make_record(kind="real")], today)
    assert [source.title for source in sources] == ["real, committed", "real, here"]
    assert sources[1].difference


def test_a_page_explains_synthetic_numbers_and_the_origin_of_each(make_record, committed):
    records = [make_record("full", seed) for seed in (0, 1)] + [make_record("full+last_stride=2")]
    records += [make_record("baseline", commit="f" * 16)]
    text = render_page(committed(records), title="T", introduction=["I"])
    assert "not the real data set: numbers on them say nothing about the paper's absolute numbers" in text
    origin = text.split("## Where the numbers come from")[1]
    rows = origin.split("\n")
    assert cells(rows, "run") == ["run", "seeds", "commit"]
    assert cells(rows, "market1501-demo-full") == ["market1501-demo-full", "0, 1", "0123456789"]
    (common,) = [line for line in rows if line.startswith("All runs: ")]
    for part in ("epochs: 12", "parameters (M): 11.2", "GMACs: 1.23", "images/s: 118", "minutes a run: 2.0"):
        assert f"{part};" in common
    assert "machine: Some CPU, 2 cores; precision: bf16; data: market1501 " + "d" * 10 in common
    assert "last_stride" not in origin  # no row of the paper: not in any table
    assert text == render_page(committed(records), title="T", introduction=["I"])
    others = [make_record("sam", data={"fingerprint": "e" * 16}), make_record("full", dataset="dukemtmcreid")]
    two = render_page(committed([*records, others[1]]), title="T", introduction=["I"])
    assert "data: market1501 dddddddddd, dukemtmcreid dddddddddd" in two
    differing = render_page(committed([*records, others[0]]), title="T", introduction=["I"])
    assert "| eeeeeeeeee |" in differing  # a column, as one data set had different images


def test_figures_are_linked_where_they_exist_with_their_numbers(tmp_path, make_record, committed):
    (tmp_path / "ndmf_net").mkdir()
    (tmp_path / "ndmf_net" / "fig8-demo.png").write_bytes(b"")
    data = {("fig8", "demo"): {"table": {"headers": ["Network", "cover"], "rows": [["NDMF-Net", "34%"]]}}}
    records = [make_record("baseline"), make_record("full")]
    lines = render_document(committed(records, figure_data=data), SPEC.document("fig8"))
    assert cells(lines, "NDMF-Net")[1] == "34%"
    assert any("](ndmf_net/fig8-demo.png)" in line for line in lines) and not any("; stale" in line for line in lines)
    old = [make_record("baseline"), make_record("full", source_hash="0" * 16)]
    assert any("; stale, as its runs are.*" in line for line in render_document(committed(old), SPEC.document("fig8")))
    lines = render_document(committed(records), SPEC.document("fig9"))
    assert any(line.startswith("Not run: `make reproduce-ndmf ONLY=fig9`") for line in lines)


def test_cost_columns_are_converted_to_their_unit(make_record, committed):
    document = Document.model_validate(
        {
            "id": "cost",
            "name": "Cost",
            "kind": "table",
            "scope": "all",
            "caption": "",
            "dataset": "market1501",
            "columns": [
                {"id": "parameters", "title": "Parameters", "unit": "M", "value": "model.num_parameters"},
                {"id": "macs", "title": "MACs", "unit": "G", "value": "model.macs"},
                {"id": "time", "title": "Training", "unit": "min", "value": "seconds.train"},
            ],
            "rows": [{"method": "Ours", "reported": {"macs": 4.05}, "run": {"variant": "full"}}],
        }
    )
    lines = render_document(committed([make_record()]), document)
    assert cells(lines, "Method")[1:] == [
        *("Parameters (M) paper", "Parameters (M) synthetic", "MACs (G) paper", "MACs (G) synthetic"),
        *("Training (min) paper", "Training (min) synthetic"),
    ]
    assert cells(lines, "Ours") == ["Ours", "–", "11.20", "4.05", "1.23", "–", "1.8"]


def test_a_matrix_has_a_table_for_the_papers_numbers_and_one_for_each_source(make_record, committed):
    columns = [
        {"id": "parameters", "title": "Parameters", "unit": "M", "value": "model.num_parameters"},
        {"id": "macs", "title": "MACs", "unit": "G", "value": "model.macs"},
    ]
    rows = [{"method": "Ours", "reported": {"macs": 4.05}, "run": {"variant": "full"}}]
    document = {"id": "cost", "name": "Cost", "kind": "matrix", "caption": "", "dataset": "market1501"}
    lines = render_document(committed([make_record()]), Document.model_validate(
        document | {"columns": columns, "rows": rows}))  # fmt: skip
    reported, ours = lines.index("**paper**"), lines.index("**synthetic**")
    assert cells(lines[reported:], "Ours") == ["Ours", "–", "4.05"]
    assert cells(lines[ours:], "Ours") == ["Ours", "11.20", "1.23"]


def test_a_file_that_is_not_a_record_is_named(tmp_path):
    (tmp_path / "broken.json").write_text('{"run": 1}')
    with pytest.raises(UserError, match=r"broken\.json is not a result record"):
        read_records([tmp_path / "broken.json"])


def test_counts_over_several_records_print_once():
    column = SPEC.document("table1").columns[1]
    assert summary_text(Summary(1200.0, 0.0, 3), column) == "1,200"


def test_a_record_without_the_settings_that_a_row_needs_is_not_of_the_row(make_record, committed):
    records = [make_record("full", config={"pretrained": "none"})]
    lines = render_document(committed(records), SPEC.document("start"))
    assert cells(lines, "NDMF-Net, from the starting weights")[1:] == ["not run (a)"] * 3
    records = [make_record("full", config={"pretrained": "synthetic"})]
    lines = render_document(committed(records), SPEC.document("start"))
    assert cells(lines, "NDMF-Net, from the starting weights")[1:3] == ["80.0", "60.0"]
