"""Claims held against invented records: what stands in a line, and what is missing."""

import pytest

from benchmarks.claims import Claim, column_of, rows_of
from benchmarks.pages.claims import (
    COSTS,
    OWN,
    PUBLISHED,
    claims_page,
    finding_text,
    lines_of,
    paper_section,
    shown_kinds,
    what_was_found,
)
from benchmarks.pages.committed import FOUND
from benchmarks.pages.evidence import Finding, find, find_cost, is_of_one_network
from benchmarks.pages.headline import counted, found_table
from benchmarks.pages.sources import committed_sources
from benchmarks.pages.table import Footnotes
from benchmarks.pages.verdicts import FAILS, HOLDS, UNDECIDED
from benchmarks.records import BENCHMARKS
from benchmarks.spec import known_papers, load_spec
from common.files import read_yaml

NDMF, MGRE, DFW = (load_spec(name) for name in ("ndmf_net", "mgre", "dfw_crossmodal"))


def claim_of(paper, document, row="", best=()):
    return next(c for c in paper.claims if (c.document, c.row, c.best) == (document, row, tuple(best)))


PCAM = claim_of(NDMF, "table5", "Baseline + PCAM")
EIGHT = claim_of(NDMF, "fig7", best=["8"])


@pytest.fixture
def found(today):
    """found(paper, claim, metric, records, kind): the finding of the records of that kind."""

    def look(paper, claim, metric, records, kind="demo"):
        source = next(source for source in committed_sources(records, today) if source.kind == kind)
        return find(paper, claim, metric, source)

    return look


def seeds(make_record, variant, values, **more):
    return [make_record(variant, seed, value, **more) for seed, value in enumerate(values)]


def test_a_difference_is_paired_by_seed(found, make_record):
    # 52 - 50, 54.5 - 52, 57 - 54: mean 2.5, s = 0.5, half = 4.303 * 0.5 / sqrt(3) = 1.242
    records = seeds(make_record, "baseline", (0.50, 0.52, 0.54)) + seeds(make_record, "pcam", (0.52, 0.545, 0.57))
    assert found(NDMF, PCAM, "mAP", records) == Finding("+2.50 [+1.26, +3.74] (n=3)", HOLDS)
    assert found(NDMF, PCAM, "mAP", records[:5]).ours == "+2.25 (n=2)"  # too few for an interval
    assert found(NDMF, PCAM, "mAP", records[:5]).verdict == UNDECIDED


def test_a_difference_of_the_other_sign_does_not_hold(found, make_record):
    records = seeds(make_record, "baseline", (0.52, 0.545, 0.57)) + seeds(make_record, "pcam", (0.50, 0.52, 0.54))
    assert found(NDMF, PCAM, "mAP", records) == Finding("-2.50 [-3.74, -1.26] (n=3)", FAILS)


def test_one_seed_has_no_interval(found, make_record):
    records = seeds(make_record, "baseline", (0.50,)) + seeds(make_record, "pcam", (0.60,))
    assert found(NDMF, PCAM, "mAP", records) == Finding("+10.00 (n=1)", UNDECIDED)


def test_a_missing_record_names_the_command(found, make_record):
    command = "not run: `make reproduce-ndmf ONLY=table5`"
    assert found(NDMF, PCAM, "mAP", []) == Finding("", UNDECIDED, command)
    assert found(NDMF, PCAM, "mAP", [make_record("baseline")]) == Finding("", UNDECIDED, command)
    unpaired = Finding("", UNDECIDED, "no seed that both rows have, on the same images")
    for differs in ({"seed": 1}, {"data": {"fingerprint": "e" * 16}}):
        assert found(NDMF, PCAM, "mAP", [make_record("baseline"), make_record("pcam", **differs)]) == unpaired


def test_stale_records_are_marked_and_decide_nothing(found, make_record):
    baseline, pcam = seeds(make_record, "baseline", (0.50, 0.52, 0.54)), seeds(make_record, "pcam", (0.52, 0.545, 0.57))
    assert found(NDMF, PCAM, "mAP", [*baseline, *pcam]) == Finding("+2.50 [+1.26, +3.74] (n=3)", HOLDS)
    pcam[0] = make_record("pcam", 0, 0.52, source_hash="0" * 16)
    assert found(NDMF, PCAM, "mAP", [*baseline, *pcam]) == Finding("+2.50 [+1.26, +3.74] (n=3)", UNDECIDED, stale=True)
    notes = Footnotes()
    assert finding_text(Finding("+1.0 (n=1)", stale=True), notes) == "+1.0 (n=1) (a)" and "stale" in notes.texts[0]


# Fig. 7 at demo size: 1, 2, 4, 6 and 8 parts, the last being `full`
SWEEP = {1: "full+num_parts=1", 2: "full+num_parts=2", 4: "full+num_parts=4", 6: "full+num_parts=6", 8: "full"}


def sweep(make_record, means, full=(0.0,)):
    """One seed for each number of parts, and for 8 as many as `full` has, added to its mean."""
    records = [make_record(SWEEP[parts], 0, mean) for parts, mean in means.items() if parts != 8]
    return records + seeds(make_record, "full", [means[8] + value for value in full])


def test_an_optimum_is_held_against_the_noise_of_the_ablation(found, make_record):
    # s = 1 with 2 degrees of freedom (59, 60, 61); t at 95 % over 4 comparisons is 8.860 (two-sided 98.75 %);
    # margin 8.860 * sqrt(1/3 + 1) = 10.23
    spread = (-0.01, 0.0, 0.01)
    holds = sweep(make_record, {1: 0.40, 2: 0.41, 4: 0.42, 6: 0.48, 8: 0.60}, spread)
    assert found(NDMF, EIGHT, "mAP", holds) == Finding("best at 8, 12.00 above 6 (margin 10.23)", HOLDS)
    near = sweep(make_record, {1: 0.40, 2: 0.41, 4: 0.42, 6: 0.55, 8: 0.60}, spread)
    assert found(NDMF, EIGHT, "mAP", near) == Finding("best at 8, 5.00 above 6 (margin 10.23)", UNDECIDED)
    fails = sweep(make_record, {1: 0.40, 2: 0.71, 4: 0.42, 6: 0.55, 8: 0.60}, spread)
    assert found(NDMF, EIGHT, "mAP", fails) == Finding("best at 2, 11.00 above 8 (margin 10.23)", FAILS)


def test_a_sweeps_stale_rows_are_not_compared_with_todays(found, make_record):
    # over 3 comparisons t with 2 degrees is 7.649 (two-sided 98.33 %), the margin 7.649 * sqrt(1/3 + 1) = 8.83
    means = {1: 0.40, 2: 0.41, 4: 0.42, 6: 0.48, 8: 0.60}
    records = sweep(make_record, means, (-0.01, 0.0, 0.01))
    old = [record.model_copy(update={"source_hash": "0" * 16}) for record in records]
    records[0] = make_record(SWEEP[1], 0, 0.99, source_hash="0" * 16)
    noise = seeds(make_record, "pcam", (0.1, 0.5), source_hash="0" * 16)
    expected = Finding("best at 8, 12.00 above 6 (margin 8.83)", UNDECIDED, "4 of 5 rows run")
    assert found(NDMF, EIGHT, "mAP", records + noise) == expected
    decides_nothing = Finding("best at 8, 12.00 above 6 (margin 10.23)", UNDECIDED, stale=True)
    assert found(NDMF, EIGHT, "mAP", old) == decides_nothing
    command = "not run: `make reproduce-ndmf ONLY=fig7`"
    assert found(NDMF, EIGHT, "mAP", old[:4] + records[-1:]) == Finding("", UNDECIDED, command)


def test_the_ablations_rows_give_noise_to_a_sweep_with_one_seed(found, make_record):
    means = {1: 0.40, 2: 0.41, 4: 0.42, 6: 0.48, 8: 0.60}
    assert found(NDMF, EIGHT, "mAP", sweep(make_record, means)).ours == "best at 8, 12.00 above 6 (noise unknown)"
    # s = 1 with 4 degrees: t is 4.315 over 4 comparisons (98.75 %), margin 4.315 sqrt(2) = 6.10
    noise = seeds(make_record, "baseline", (0.29, 0.3, 0.31)) + seeds(make_record, "pcam", (0.31, 0.32, 0.33))
    assert found(NDMF, EIGHT, "mAP", sweep(make_record, means) + noise) == Finding(
        "best at 8, 12.00 above 6 (margin 6.10)", HOLDS
    )


def test_an_optimum_cannot_hold_while_rows_are_missing(found, make_record):
    records = sweep(make_record, {1: 0.40, 6: 0.41, 8: 0.80}, (-0.01, 0.0, 0.01))
    finding = found(NDMF, EIGHT, "mAP", records)
    assert (finding.verdict, finding.why) == (UNDECIDED, "3 of 5 rows run")
    assert found(NDMF, EIGHT, "mAP", records[:2]).why == "not run: `make reproduce-ndmf ONLY=fig7`"


def test_points_of_one_network_are_compared_seed_by_seed(found, make_record):
    """Fig. 6: the weight 0.5 of stage 2 is 1.0 above all others with every seed, while seeds differ by 10."""
    claim = claim_of(MGRE, "fig6", best=["0.5"])
    records = []
    for seed, level in enumerate((0.5, 0.6, 0.7)):
        record = make_record("full", seed, paper="mgre")
        points = {f"{weight / 10:.1f}".replace(".", "_"): {"mAP": level - 0.01} for weight in range(1, 11)}
        points["0_5"] = {"mAP": level + 0.001 * seed}
        record.scores["stage_weight"] = {"stage2": points}
        records.append(record)
    finding = found(MGRE, claim, "stage2", records)
    # 1.0, 1.1, 1.2: s = 0.1; t over 9 comparisons with 2 degrees is 13.36; margin 13.36 * 0.1 / sqrt(3) = 0.77
    assert finding.verdict == HOLDS and finding.ours.startswith("best at 0.5, 1.10 above ")
    assert finding.ours.endswith("(margin 0.77)")


def test_at_demo_size_another_row_stands_for_the_optimum(found, make_record):
    claim = claim_of(MGRE, "fig5", best=["2048"])
    smaller_and_larger = [make_record(f"full+feature_size={n}", 0, 0.4, paper="mgre") for n in (32, 64, 256)]
    records = [*smaller_and_larger, make_record("full", 0, 0.5, paper="mgre")]  # 512, the demo's own
    assert found(MGRE, claim, "mAP", records).ours.startswith("best at 512, 10.00 above")


def test_a_published_method_counts_with_its_printed_number_on_real_data_only(found, make_record):
    claim = claim_of(NDMF, "table2", "NDMF-Net (ours)")  # over CDNet: 95.1
    demo = seeds(make_record, "full", (0.5, 0.6))
    assert found(NDMF, claim, "rank1", demo) == Finding("", UNDECIDED, "a published method, which is not run here")
    real = [make_record("full", seed, 0.88, rank1, kind="real") for seed, rank1 in enumerate((0.955, 0.957, 0.959))]
    # 0.4, 0.6, 0.8: mean 0.6, s = 0.2, half = 4.303 * 0.2 / sqrt(3) = 0.497
    assert found(NDMF, claim, "rank1", real, "real") == Finding("+0.60 [+0.10, +1.10] (n=3)", HOLDS)


def test_a_row_of_the_papers_size_is_not_judged_at_demo_size(found):
    claim = claim_of(NDMF, "fig7", "16")
    assert found(NDMF, claim, "mAP", []).why == "its rows are not run at this size"


def test_a_claim_without_a_number_has_a_direction(found, make_record):
    claim = Claim(
        says="Worse",
        place="text",
        document="table5",
        row="Baseline + PCAM",
        over="Baseline",
        columns=("mAP",),
        direction="lower",
    )
    records = seeds(make_record, "baseline", (0.52, 0.545, 0.57)) + seeds(make_record, "pcam", (0.50, 0.52, 0.54))
    assert found(NDMF, claim, "mAP", records).verdict == HOLDS


def test_costs_are_computed_at_the_papers_size():
    """Table 2 of DFW prints 26.71 M parameters, which its own FLOPs contradict."""
    claims = {metric: c for c in DFW.claims for metric in c.metrics if c.document == "table2" and c.over == "Baseline"}
    parameters = find_cost(DFW, claims["parameters"], "parameters")
    assert parameters == Finding("38.71 - 23.74 = +14.97", FAILS)
    assert find_cost(DFW, claims["flops"], "flops") == Finding("15.101 - 10.260 = +4.841", HOLDS)
    published = next(c for c in DFW.claims if c.document == "table2" and c.over == "AGW" and "flops" in c.metrics)
    assert find_cost(DFW, published, "flops") == Finding("15.101 - 10.318 = +4.783", HOLDS)


def test_a_network_that_nobody_trained_has_its_cost():
    """Table 8 of MGRe: 7.89 G, below ResNet-152's 8.95 G."""
    claim = next(c for c in MGRE.claims if c.over == "Baseline+ResNet152" and "macs" in c.metrics)
    assert find_cost(MGRE, claim, "macs").verdict == HOLDS


def test_a_section_has_a_line_for_each_claim_and_metric(today, make_record, monkeypatch):
    monkeypatch.setattr("benchmarks.pages.claims.find_cost", lambda *_: Finding("1 - 2 = -1", FAILS))
    real = [make_record(variant, 0, kind="real") for variant in ("baseline", "pcam")]
    lines = list(lines_of(NDMF, committed_sources(real, today)))
    assert len(lines) == sum(len(claim.metrics) for claim in NDMF.claims)
    assert shown_kinds(lines) == {OWN: ["demo", "real"], PUBLISHED: ["real"], COSTS: [COSTS]}
    text = paper_section(NDMF, lines, shown_kinds(lines))
    assert sum(line.startswith("|") for line in text) == len(lines) + 2 * 2  # two tables with two lines of head
    (head,) = [line for line in text if line.startswith("| claim |") and "synthetic" in line]
    assert "| verdict on synthetic data, demo size |" in head and "| verdict, real |" in head
    start = next(
        position
        for position, line in enumerate(text)
        if line.startswith("| Part-level channel attention (PCAM) improves the baseline |")
    )
    rank1, mAP = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text[start : start + 2])
    assert rank1[:3] == [
        "Part-level channel attention (PCAM) improves the baseline",
        "[Sec. IV-C.1](ndmf_net.md#table-5)",
        "market1501",
    ]
    assert mAP[:6] == ["", "", "market1501", "mAP (%)", "+2.5", "– (a)"]  # a claim stands once
    assert mAP[6:] == ["undecided (not run)", "+0.00 (n=1)", "undecided (fewer than three seeds)"]


def test_what_is_compared_with_nothing_is_listed():
    paper = NDMF.model_copy(update={"claims": (Claim(says="Training takes a day", place="Sec. 4"),)})
    assert list(lines_of(paper, [])) == []
    assert paper_section(paper, [], shown_kinds([]))[-3:] == [
        "Claims for which no table has the numbers:",
        "",
        "- Training takes a day (Sec. 4).",
    ]


def test_the_page_says_first_that_it_is_no_verdict_on_a_paper(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.pages.claims.find_cost", lambda *_: Finding("1 - 2 = -1", FAILS))
    text = claims_page(tmp_path)  # without any record
    first = text.split("\n\n")[1]
    assert "No verdict on trained networks is one on a paper" in first and len(text.encode()) < 50_000
    assert "verdict on synthetic data, demo size |" in text and "| holds |" not in text.split("## DFW")[1]
    assert "= -1 | differs |" in text and "| undecided (not run) |" in text


def test_an_undecided_verdict_says_why():
    said = {finding: finding.said for finding in (
        Finding("+1.0 [+0.5, +1.5] (n=3)", HOLDS), Finding("+1.0 [-0.5, +2.5] (n=3)"), Finding("+1.0 (n=1)"),
        Finding("best at 8, 12.00 above 6 (noise unknown)"), Finding("", why="not run: `make`"),
        Finding("+1.0 [+0.5, +1.5] (n=3)", stale=True),
    )}  # fmt: skip
    assert list(said.values()) == [
        "holds", "undecided", "undecided (fewer than three seeds)", "undecided (fewer than three seeds)",
        "undecided (not run)", "undecided (stale)",
    ]  # fmt: skip


def test_the_headline_counts_every_verdict(today, make_record, monkeypatch):
    monkeypatch.setattr("benchmarks.pages.claims.find_cost", lambda *_: Finding("1 - 2 = -1", FAILS))
    records = seeds(make_record, "baseline", (0.50, 0.52, 0.54)) + seeds(make_record, "pcam", (0.52, 0.545, 0.57))
    lines = [*lines_of(NDMF, committed_sources(records, today)), *lines_of(DFW, committed_sources([], today))]
    costs = sum(line.group == COSTS for line in lines)
    text = counted(lines)
    published = sum(line.group == PUBLISHED for line in lines)
    assert f"{len(lines)} comparisons:" in text and f"{costs} are of costs" in text
    assert f"{published} are with methods and backbones that are not run here" in text
    assert f"0 agree with the printed figures, {costs} differ" in text
    others = len(lines) - costs - published  # PCAM's mAP holds, its Rank-1 is +0 with every seed
    assert f"Of the {others} between networks that we train" in text
    assert "*holds* for 1 (0 of them about how one and the same network is scored, as with re-ranking)" in text
    assert f"*does not hold* for 0 and *undecided* for {others - 1}: {others - 2} not run" in text
    assert (
        "0 with a stale run, 0 with fewer than three seeds, 1 with an interval around zero or a difference below"
        in text
    )
    one_seed = counted(
        list(
            lines_of(
                NDMF,
                committed_sources(seeds(make_record, "baseline", (0.5,)) + seeds(make_record, "pcam", (0.6,)), today),
            )
        )
    )
    assert "2 with fewer than three seeds, 0 with an interval around zero" in one_seed


def test_what_we_found_stands_beside_a_number_only(today, make_record, monkeypatch):
    monkeypatch.setattr("benchmarks.pages.claims.find_cost", lambda *_: Finding("1 - 2 = -1", FAILS))
    found = {"ndmf_net": "It gains.", "mgre": "Nothing."}
    missing = [line for paper in (NDMF, MGRE) for line in lines_of(paper, committed_sources([], today))]
    head, _, *rows = found_table(missing, found).splitlines()
    assert head == (
        "| paper | what we found | gain, as printed | gain, ours, synthetic | verdict on synthetic data, demo size |"
    )
    assert rows == [
        "| [NDMF-Net](benchmarks/tables/ndmf_net.md) | – | +4.3 from 84.6 | – | undecided (not run) |",
        "| [MGRe](benchmarks/tables/mgre.md) | – | +4.3 from 85.8 | – | undecided (not run) |",
    ]
    records = seeds(make_record, "baseline", (0.50, 0.52, 0.54)) + seeds(make_record, "full", (0.52, 0.545, 0.57))
    *_, row = found_table(lines_of(NDMF, committed_sources(records, today)), found).splitlines()
    assert row.endswith("| It gains. | +4.3 from 84.6 | +2.50 [+1.26, +3.74] (n=3) from 52.0 | holds |")


def test_a_section_begins_with_what_we_found_beside_a_current_number(today, make_record):
    records = [make_record(variant, 0, 0.5) for variant in ("baseline", "full")]
    lines = list(lines_of(NDMF, committed_sources(records, today)))
    sentence = what_was_found(lines, {"ndmf_net": "It gains.", "mgre": "Nothing."})
    assert sentence == "It gains." and what_was_found(lines, {}) == ""
    assert paper_section(NDMF, lines, shown_kinds(lines), sentence)[4] == "*On synthetic pedestrians:* It gains."
    none = list(lines_of(NDMF, committed_sources([], today)))
    assert what_was_found(none, {"ndmf_net": "It gains."}) == ""
    stale = [line._replace(findings={"demo": Finding("+1.0 (n=1)", stale=True)}) for line in lines]
    assert what_was_found(stale, {"ndmf_net": "It gains."}) == ""


def test_claims_about_how_one_network_is_scored():
    def of_one(paper):
        return {claim.says for claim in paper.claims if claim.document and is_of_one_network(paper, claim)}

    assert of_one(DFW) == {"Re-ranking improves the scores"} and not of_one(NDMF)
    assert not is_of_one_network(NDMF, PCAM) and not is_of_one_network(NDMF, EIGHT)


def test_the_first_claim_with_a_headline_is_that_of_the_whole_method():
    """The README's table compares the whole method with the paper's own baseline, and each paper has its sentence."""
    assert set(read_yaml(BENCHMARKS / FOUND)) == set(known_papers())
    for paper in map(load_spec, known_papers()):
        claim = next(claim for claim in paper.claims if claim.headline)
        document = paper.document(claim.document)
        whole, baseline = (rows_of(document, method)[0].run for method in (claim.row, claim.over))
        assert (whole.variant, baseline.variant) in (
            ("full", "baseline"),
            ("full", "base"),
        ) and not whole.set | baseline.set
        assert column_of(document, claim.headline).value.endswith("mAP") and claim.reported[claim.headline] > 0
