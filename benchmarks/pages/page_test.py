"""The pages: cells, why a cell is empty, the spread over seeds, and the order and noise of an ablation."""

import re

import pytest

from benchmarks.pages.ablation import noise_level, rank_agreement
from benchmarks.pages.effects import effect
from benchmarks.pages.page import render_document, render_page, unpublished
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
    line = next(line for line in lines if re.match(rf"\| {re.escape(start)} *\|", line))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_mean_deviation_and_number_of_seeds_are_those_of_a_calculation_by_hand(make_record, committed):
    # 60, 61, 65: mean 62, sample variance (4 + 1 + 9) / 2 = 7
    records = [make_record("full", seed, mAP) for seed, mAP in enumerate((0.60, 0.61, 0.65))]
    lines = render_document(committed(records), SPEC.document("table2"))
    assert cells(lines, "NDMF-Net (ours)") == [
        "NDMF-Net (ours)",
        "95.8",
        "88.9",
        "80.0 ± 0.0 (n=3)",
        "62.0 ± 2.6 (n=3)",
    ]
    assert any("mAP (%) under `trapezoid`" in line and "61.0 ± 2.6 (n=3)" in line for line in lines)
    assert any("mAP (%) under `interpolated`" in line and "63.0 ± 2.6 (n=3)" in line for line in lines)
    assert any("AP estimator of our columns: `step`" in line for line in lines)


def test_the_standard_error_over_the_test_people_stands_with_its_score(make_record, committed):
    records = [make_record("full", seed, 0.6) for seed in range(2)]
    for record, error in zip(records, (0.01, 0.02), strict=True):
        record.scores["mAP_error"] = error
    lines = render_document(committed(records), SPEC.document("table2"))
    assert cells(lines, "NDMF-Net (ours)")[3:] == ["80.0 ± 0.0 (n=2)", "60.0 ± 0.0 (n=2, se 1.5)"]
    lines = render_document(committed(records[1:]), SPEC.document("table2"))
    assert cells(lines, "NDMF-Net (ours)")[3:] == ["80.0", "60.0 (se 2.0)"]


def test_cited_rows_carry_reference_venue_and_no_run(make_record, committed):
    lines = render_document(committed([make_record()]), SPEC.document("table2"))
    assert cells(lines, "CDNet [45] (CVPR 2021)")[1:] == ["95.1", "86.0", "–", "–"]


def test_real_records_have_their_own_columns_and_a_difference(make_record, committed):
    records = [make_record(mAP=0.6), make_record(kind="real", mAP=0.885, rank1=0.96)]
    lines = render_document(committed(records), SPEC.document("table2"))
    header = cells(lines, "Method")
    row = dict(zip(header, cells(lines, "NDMF-Net (ours)"), strict=True))
    assert row["mAP (%), reported"] == "88.9"
    assert row["mAP (%), reproduced on real data"] == "88.5"
    assert row["mAP (%), difference"] == "-0.4"
    assert row["Rank-1 (%), difference"] == "+0.2"
    assert row["mAP (%), synthetic stand-in, demo size"] == "60.0"


def test_a_source_without_any_run_is_one_line_with_command_and_cost(make_record, committed):
    text = "\n".join(render_document(committed([make_record()]), SPEC.document("table5")))
    assert "reproduced on real data:" in text and "`make reproduce-ndmf DATA_ROOT=DIR ONLY=table5`" in text
    assert "5 training runs: about 7.5 GPU hours and 14 GB" in text
    assert "| Baseline + PCAM" in text and "not run (a)" in text
    assert "(a) no run published: `make reproduce-ndmf ONLY=table5`" in text


def test_counts_are_one_line_each_with_separators(make_record, committed):
    lines = render_document(committed([make_record("counts")]), SPEC.document("table1"))
    found = [cells([line], "Market-1501") for line in lines if line.startswith("| Market-1501")]
    assert ["Market-1501", "Training images", "12,936", "1,200"] in found
    assert ["Market-1501", "Released", "2015", "–"] in found


def test_baselines_are_separate_from_the_papers_rows(make_record, committed):
    records = [make_record("colour_histogram", mAP=0.11), make_record("baseline+num_epochs=0", mAP=0.03)]
    lines = render_document(committed(records), SPEC.document("table5"))
    assert cells(lines, "Colour histogram")[-1] == "11.0"
    assert cells(lines, "Untrained baseline network")[-1] == "3.0"
    assert lines.index(next(line for line in lines if line.startswith("Our own rows"))) > 5


def test_a_table_of_settings_shows_what_is_printed_and_needs_no_run(tmp_path, make_record, today):
    mgre = load_spec("mgre")
    shown = Page(mgre, committed_sources([make_record(paper="mgre")], today), tmp_path / "mgre", {})
    lines = render_document(shown, mgre.document("table1"))
    assert cells(lines, "head") == ["head", "1", "50.0", "8.3", "8", "8"]
    assert not any("make reproduce" in line for line in lines)


def test_a_number_that_a_finished_run_does_not_produce_is_not_a_missing_run(tmp_path, make_record, today):
    paper = load_spec("mutual_attention")
    records = [make_record("colour_histogram", mAP=0.11), make_record("full", mAP=0.5)]
    records[1].scores["multi_query"] = {"rank1": 0.7, "mAP": 0.6, "mAP_trapezoid": 0.58}
    shown = Page(paper, committed_sources(records, today), tmp_path / "mutual_attention", {})
    text = "\n".join(render_document(shown, paper.document("table3")))
    histogram = [line for line in text.splitlines() if line.startswith("| Colour histogram  ")]
    assert "11.00" in histogram[0] and "not run" not in histogram[1]
    assert re.search(r"mAP \(%\) under `trapezoid`.*\(Multi-Shoot\) 58\.00", text)
    assert "not run (a)" in text  # the baseline


def test_a_row_that_a_data_set_cannot_have_says_why_and_names_no_command(tmp_path, make_record, today):
    paper = load_spec("mutual_attention")
    shown = Page(paper, committed_sources([make_record("full")], today), tmp_path / "mutual_attention", {})
    text = "\n".join(render_document(shown, paper.document("table1")))
    market, duke = [line for line in text.splitlines() if line.startswith("| Multi-shoot  ")]
    assert "impossible" not in market and duke.count("impossible (") == 5 and "not run" not in duke
    assert re.search(r"- \(.\) DukeMTMC-reID has no further images of its queries", text)


def test_rows_of_a_sweep_belong_to_demo_or_to_the_papers_size(make_record, committed):
    records = [make_record("full+num_parts=6"), make_record(kind="real")]
    lines = render_document(committed(records), SPEC.document("fig7"))
    header = cells(lines, "N")
    six, sixteen = (dict(zip(header, cells(lines, name), strict=True)) for name in ("6", "16"))
    assert six["mAP (%), synthetic stand-in, demo size"] == "60.0"
    assert six["mAP (%), reproduced on real data"] == "–"
    assert sixteen["mAP (%), synthetic stand-in, demo size"] == "–"
    assert sixteen["mAP (%), reproduced on real data"].startswith("not run")


# ------------------------------------------------------------------ ablation


def test_kendalls_tau_by_hand():
    # order of 4 with one neighbouring pair swapped: 5 concordant, 1 discordant of 6 pairs
    assert rank_agreement([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(4 / 6)
    assert rank_agreement([1, 2, 3], [3, 2, 1]) == -1


def test_noise_level_is_the_root_mean_square_over_rows():
    summaries = [Summary(0.5, 0.03, 3), Summary(0.6, 0.04, 3), Summary(0.7, None, 1)]
    assert noise_level(summaries) == pytest.approx((0.0025 / 2) ** 0.5)
    assert noise_level(summaries[2:]) is None


def test_gaps_below_two_deviations_are_marked(make_record, committed):
    # each row's seeds differ by 0.02: sample sd 0.01414, so 2 s = 2.83 points
    means = {"baseline": 0.50, "pcam": 0.52, "sam": 0.58, "ndem": 0.51, "full": 0.60}
    records = [
        make_record(row, seed, mean + shift) for row, mean in means.items() for seed, shift in enumerate((-0.01, 0.01))
    ]
    lines = render_document(committed(records), SPEC.document("table5"))
    start = lines.index(next(line for line in lines if line.startswith("**mAP**")))
    # the paper: baseline < sam < pcam < ndem < full; ours: baseline < ndem < pcam < sam < full: 7 - 3 of 10 pairs
    assert "is 0.40; s = 1.41, 2 s = 2.83." in lines[start]
    order = lines[start:]
    assert cells(order, "Baseline + PCAM + SAM + NDEM")[1:] == ["60.0", "+2.0 (noise)", "+10.0"]
    assert cells(order, "Baseline + SAM")[1:] == ["58.0", "+6.0", "+8.0"]
    assert cells(order, "Baseline + PCAM")[1:] == ["52.0", "+1.0 (noise)", "+2.0 (noise)"]
    assert cells(order, "Baseline")[1:] == ["50.0", "–", "–"]


def test_with_one_seed_the_noise_is_unknown(make_record, committed):
    records = [make_record(row, 0, 0.5 + position / 100) for position, row in enumerate(ROWS)]
    text = "\n".join(render_document(committed(records), SPEC.document("table5")))
    assert "noise unknown (one seed)" in text and "(noise)" not in text.split("**mAP**")[1]


DFW = load_spec("dfw_crossmodal")


def test_main_effects_of_the_paper_and_of_ours_by_hand(make_record, tmp_path, today):
    """Of four rows; each seed's effects are one sample. The last record's seed has not run in every row."""
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
    lines = render_document(Page(DFW, committed_sources(records, today), tmp_path, {}), table)
    start = lines.index(next(line for line in lines if line.startswith("Main effects over the 4 rows")))
    header = cells(lines[start:], "Main effect")
    # DFW: (3 + 5) / 2 and (1 - 1) / 2 points, mean 2, standard error 2; SLN: (10 + 12) / 2 and (12 + 10) / 2.
    dfw, sln = (dict(zip(header, cells(lines[start:], name), strict=True)) for name in factors)
    assert dfw["SYSU-MM01 mAP, synthetic stand-in, demo size"] == "+2.0 ± 2.0 (n=2)"
    assert sln["SYSU-MM01 mAP, synthetic stand-in, demo size"] == "+11.0 ± 0.0 (n=2)"
    assert dfw["SYSU-MM01 mAP, reported"] == "+0.2"  # (51.12 - 51.75 + 57.69 - 56.56) / 2
    assert dfw["RegDB mAP, synthetic stand-in, demo size"] == "not run"
    assert not any("R10" in title or "R20" in title for title in header)


def test_the_main_effects_of_table_1():
    """DFW's paper: SYSU-MM01 -0.1, +6.2, +3.0 points of mAP; RegDB +0.8, +5.9, +4.1."""
    table = DFW.document("table1_all_rows")
    for column, expected in {"sysu_mAP": (-0.1, 6.2, 3.0), "regdb_mAP": (0.8, 5.9, 4.1)}.items():
        found = [effect(table, having, lambda row, of=column: row.reported[of]) for having in table.factors.values()]
        assert found == pytest.approx(expected, abs=0.051)


def test_no_order_is_compared_in_columns_that_are_not_ordered(make_record, tmp_path, today):
    records = [
        make_record(variant, 0, mAP, paper="dfw_crossmodal", dataset="sysu_mm01")
        for variant, mAP in (("baseline", 0.1), ("dfw", 0.2))
    ]
    for record in records:
        record.scores.update(rank10=0.5, rank20=0.6)
    text = "\n".join(
        render_document(Page(DFW, committed_sources(records, today), tmp_path, {}), DFW.document("table1"))
    )
    assert "**R1**: Kendall" in text and "**mAP**: Kendall" in text
    assert "**R10**" not in text and "**R20**" not in text


@pytest.mark.parametrize(
    ("document", "runs"), [("table4", 10), ("table2", 20), ("fig3b", 80), ("table1_all_rows", 88), ("table1", 4)]
)
def test_on_real_and_full_size_data_each_of_regdbs_ten_trials_is_a_run_and_in_the_demo_one_is(document, runs, today):
    real, demo, full = committed_sources([], today)
    about = Page(DFW, [real, demo, full], None, {}), DFW.document(document)
    for source in (real, full):
        assert f"It takes {runs} training runs: about {1.5 * runs:g} GPU hours" in unpublished(*about, source)
    of_demo = {"table4": "one training run", "table2": "2 training runs", "fig3b": "8 training runs"}
    of_demo |= {"table1_all_rows": "16 training runs", "table1": "4 training runs"}
    assert f"It takes {of_demo[document]}:" in unpublished(*about, demo)


def test_a_single_row_has_no_order(make_record, committed):
    text = "\n".join(render_document(committed([make_record("baseline")]), SPEC.document("table5")))
    assert "Kendall" not in text


# ------------------------------------------------------------------ whole pages


def test_a_users_page_shows_committed_and_local_numbers_and_marks_stale_runs(tmp_path, make_record, today):
    published = [make_record(mAP=0.61), make_record("baseline", mAP=0.55)]
    local = [make_record(mAP=0.60), make_record("baseline", mAP=0.54, source_hash="0" * 16)]
    sources = local_sources(published, local, today)
    lines = render_document(page(tmp_path, sources), SPEC.document("table5"))
    header = cells(lines, "Method")
    full = dict(zip(header, cells(lines, "Baseline + PCAM + SAM + NDEM"), strict=True))
    baseline = dict(zip(header, cells(lines, "Baseline"), strict=True))
    assert full["mAP (%), committed record (synthetic stand-in, demo size)"] == "61.0"
    assert full["mAP (%), this machine (synthetic stand-in, demo size)"] == "60.0"
    assert baseline["mAP (%), this machine (synthetic stand-in, demo size)"].startswith("54.0 (")
    assert any(
        "stale: the source code changed since this run; `make reproduce-ndmf ONLY=table5 FORCE=1`" in line
        for line in lines
    )


def test_a_committed_record_never_stands_in_for_a_run_here(tmp_path, make_record, today):
    sources = local_sources([make_record(mAP=0.61)], [], today)
    lines = render_document(page(tmp_path, sources), SPEC.document("table2"))
    assert cells(lines, "NDMF-Net (ours)")[-2:] == ["not run (a)", "not run (a)"]
    assert any("no finished run on this machine: `make reproduce-ndmf ONLY=table2`" in line for line in lines)


def test_pages_of_real_runs_have_real_columns(make_record, today):
    sources = local_sources([], [make_record(kind="real")], today)
    assert [source.title for source in sources] == ["committed record (real data set)", "this machine (real data set)"]
    assert sources[1].difference


def test_a_page_explains_synthetic_numbers_and_the_origin_of_each(make_record, committed):
    records = [make_record("full", seed) for seed in (0, 1)] + [make_record("full+last_stride=2")]
    text = render_page(committed(records), title="T", introduction=["I"])
    assert "not the real data set: numbers on them say nothing about the paper's absolute numbers" in text
    origin = text.split("## Where the numbers come from")[1]
    row = next(line for line in origin.split("\n") if "market1501-demo-full " in line)
    for part in ("0, 1", "12", "11.2", "1.23", "118", "2.0", "0123456789", "Some CPU, 2 cores", "bf16", "d" * 16):
        assert f" {part} " in row
    assert "last_stride" not in origin  # no row of the paper: not in any table
    assert text == render_page(committed(records), title="T", introduction=["I"])


def test_figures_are_linked_where_they_exist_with_their_numbers(tmp_path, make_record, committed):
    (tmp_path / "ndmf_net").mkdir()
    (tmp_path / "ndmf_net" / "fig8-demo.png").write_bytes(b"")
    data = {("fig8", "demo"): {"table": {"headers": ["Network", "cover"], "rows": [["NDMF-Net", "34%"]]}}}
    records = [make_record("baseline"), make_record("full")]
    lines = render_document(committed(records, figure_data=data), SPEC.document("fig8"))
    assert cells(lines, "NDMF-Net")[1] == "34%"
    assert any("](ndmf_net/fig8-demo.png)" in line for line in lines)
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
    assert cells(lines, "Ours") == ["Ours", "–", "4.05", "–", "11.20", "1.23", "1.8"]


def test_a_matrix_has_a_table_for_the_reported_numbers_and_one_for_each_source(make_record, committed):
    columns = [
        {"id": "parameters", "title": "Parameters", "unit": "M", "value": "model.num_parameters"},
        {"id": "macs", "title": "MACs", "unit": "G", "value": "model.macs"},
    ]
    rows = [{"method": "Ours", "reported": {"macs": 4.05}, "run": {"variant": "full"}}]
    document = {"id": "cost", "name": "Cost", "kind": "matrix", "caption": "", "dataset": "market1501"}
    lines = render_document(committed([make_record()]), Document.model_validate(
        document | {"columns": columns, "rows": rows}))  # fmt: skip
    reported, ours = lines.index("**reported**"), lines.index("**synthetic stand-in, demo size**")
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
    assert cells(lines, "NDMF-Net, from the starting weights")[1:] == ["not run (a)"] * 3  # nothing is reported
    records = [make_record("full", config={"pretrained": "synthetic"})]
    lines = render_document(committed(records), SPEC.document("start"))
    assert cells(lines, "NDMF-Net, from the starting weights")[1:3] == ["80.0", "60.0"]
