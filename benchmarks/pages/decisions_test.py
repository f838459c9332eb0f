"""The table of decisions: differences, their margins, and what stands in a cell without them."""

import math
import re

import pytest

from benchmarks.decisions import DOCUMENT
from benchmarks.pages.committed import coverage
from benchmarks.pages.decisions import difference, largest_lines
from benchmarks.pages.local import summary
from benchmarks.pages.page import render_document, render_page
from benchmarks.pages.sources import Summary, committed_sources, local_sources
from benchmarks.pages.table import Page
from benchmarks.pages.verdicts import Noise
from benchmarks.spec import load_spec

SPEC = load_spec("ndmf_net")
DECISIONS = SPEC.document(DOCUMENT)
STUDENT = 3.1824  # t at 95 %, two-sided, three degrees of freedom


@pytest.fixture
def page(tmp_path, today):
    return lambda records: Page(SPEC, committed_sources(records, today), tmp_path / "ndmf_net", {})


def row(lines, alternative):
    """The cells after the alternative's own: mAP, its margin, Rank-1, its margin."""
    line = next(line for line in lines if f"| {alternative} (" in line)
    return [cell.strip() for cell in line.strip("|").split("|")][3:]


def ablation(make_record):
    """Baseline and full model: mAP 60, 62, 67 and 70, 74, Rank-1 80 throughout. Deviations of mAP: variances
    (9 + 1 + 16) / 2 = 13 with two degrees of freedom and 8 with one, pooled (2 * 13 + 8) / 3 = 34 / 3."""
    seeds = {"baseline": (0.60, 0.62, 0.67), "full": (0.70, 0.74)}
    return [make_record(name, seed, mAP) for name, scores in seeds.items() for seed, mAP in enumerate(scores)]


def test_a_difference_and_its_margin_by_hand(make_record, page):
    records = [*ablation(make_record), make_record("full+part_features=pool", 0, 0.66, 0.81)]
    lines = render_document(page(records), DECISIONS)
    margin = STUDENT * math.sqrt(34 / 3 * (1 + 1 / 2))  # 13.1 points
    assert row(lines, "each part, averaged") == ["-6.0", f"{margin:.1f}", "**+1.0**", "0.0"]
    stated = next(line for line in lines if line.startswith("- synthetic: full"))
    assert "full model 2 seeds; s = 3.37 (mAP), 0.00 (Rank-1)" in stated
    assert "pooled over the 2 rows of Table 5 that have several seeds (5 runs)" in stated


def test_a_difference_beyond_its_margin_is_bold(make_record, page):
    records = [*ablation(make_record), *(make_record("full+bnneck=True", seed, 0.61) for seed in (0, 1))]
    # two seeds each: margin 3.182 sqrt(34 / 3), 10.7 points, and the difference is -11 points
    assert row(render_document(page(records), DECISIONS), "a batch-norm neck before the classifier")[0] == "**-11.0**"
    records = [*ablation(make_record), *(make_record("full+bnneck=True", seed, 0.62) for seed in (0, 1))]
    assert row(render_document(page(records), DECISIONS), "a batch-norm neck before the classifier")[:2] == [
        "-10.0",
        "10.7",
    ]


def test_a_difference_in_the_records_unit():
    found = difference(Summary(0.50, 0.1, 4), Summary(0.56, 0.1, 2), Noise(0.02, 3))
    assert found.value == pytest.approx(-0.06)
    assert found.margin == pytest.approx(STUDENT * 0.02 * math.sqrt(1 / 4 + 1 / 2), rel=1e-3)  # 5.5 points
    assert found.matters
    assert not difference(Summary(0.50, None, 1), Summary(0.56, None, 1), None).matters
    assert not difference(Summary(0.50, None, 1), Summary(0.58, None, 1), Noise(0.02, 3)).matters  # 9 points


def test_the_margin_of_one_seed_is_unknown(make_record, page):
    lines = render_document(page([make_record(mAP=0.7), make_record("full+lstm_directions=1", mAP=0.72)]), DECISIONS)
    assert row(lines, "both layers of a forward LSTM") == ["+2.0", "unknown", "+0.0", "unknown"]
    assert any("full model 1 seed; s unknown, because no row of Table 5 has two seeds" in line for line in lines)


def test_a_cell_without_a_run_says_so_with_the_command(make_record, page):
    for records in ([make_record()], [make_record("full+part_features=pool")]):
        lines = render_document(page(records), DECISIONS)
        assert row(lines, "each part, averaged") == ["not run (a)", "–", "not run (a)", "–"]
        assert "- (a) no run published: `make reproduce-ndmf ONLY=decisions`" in lines


def test_stale_runs_and_other_images_are_marked(make_record, page):
    stale = make_record("full+part_features=pool", source_hash="0" * 16)
    lines = render_document(page([make_record(), stale]), DECISIONS)
    assert row(lines, "each part, averaged")[0] == "+0.0 (a)"
    assert any(line.startswith("- (a) stale: the source code changed") and "FORCE=1" in line for line in lines)
    elsewhere = make_record("full+part_features=pool", data={"fingerprint": "e" * 16})
    lines = render_document(page([make_record(), elsewhere]), DECISIONS)
    assert row(lines, "each part, averaged")[0] == "+0.0 (a)" and "- (a) its runs are of different images" in lines


def test_alternatives_at_the_papers_size_only_have_a_row_where_real_runs_are_shown(make_record, page):
    demo = "\n".join(render_document(page([make_record()]), DECISIONS))
    assert "`feature_size: 256`" in demo and "`feature_size: 1024`" not in demo
    assert "- On real data: `make reproduce-ndmf DATA_ROOT=DIR ONLY=decisions YES=1` (" in demo
    lines = render_document(page([make_record(), make_record(kind="real")]), DECISIONS)
    half = [line for line in lines if "half of the backbone's channels" in line]
    assert [re.findall(r"(not run|–) \(\w\)", line) for line in half] == [
        ["–", "–", "not run", "not run"],  # real, then demo
        ["not run", "not run", "–", "–"],
    ]


def test_a_question_stands_once_with_its_place_our_reading_and_what_the_demo_has(make_record, page):
    lines = render_document(page([make_record()]), DECISIONS)
    asked = [line for line in lines if "dependency_decay: " in line]
    assert asked[0].startswith(
        "| Decay of the NDEMs – *Sec. IV-A.3* | in Adam's gradient, as printed (`dependency_decay:"
    )
    assert asked[1].startswith("|  |  | none (`dependency_decay: none`) |")
    assert any("(`feature_size: 2048`); the demo has `feature_size: 512` |" in line for line in lines)


def test_the_largest_stand_first_and_those_within_the_margin_are_counted(make_record, page):
    records = [*ablation(make_record), make_record("full+part_features=pool", 0, 0.66)]  # -6.0, margin 13.1
    records += [make_record("full+bnneck=True", seed, 0.60) for seed in (0, 1)]  # -12.0, margin 10.7
    records += [make_record("full+lstm_directions=1", seed, 0.86) for seed in (0, 1)]  # +14.0
    records += [make_record("full+dependency_decay=none", seed, 0.99, source_hash="0" * 16) for seed in (0, 1)]  # stale
    text, _, head, _, *rows = largest_lines([page(records)])
    assert head == "| paper | question | our reading | alternative | mAP synthetic, Δ | margin |"
    assert [line.split(" | ")[-2:] for line in rows] == [["+14.0", "10.7 |"], ["-12.0", "10.7 |"]]
    assert "both layers of a forward LSTM" in rows[0] and "(`bnneck: true`)" in rows[1]
    alternatives = sum(row.fits("demo") for row in DECISIONS.rows[1:])
    assert text.startswith("Of 3 alternatives that have run (synthetic), 2 change the mAP by more than the margin")
    assert f"; {alternatives - 3} have not run." in text
    assert largest_lines([page(ablation(make_record))]) == []


def test_the_page_the_index_and_the_terminal_have_them(make_record, page, tmp_path, today):
    records = [*ablation(make_record), make_record("full+part_features=pool", 0, 0.66)]
    text = render_page(page(records), title="T", introduction=[])
    assert "## How much each decision matters" in text and "market1501-demo-full+part_features=pool" in text
    demo = next(source for source in committed_sources(records, today) if source.kind == "demo")
    assert coverage(DECISIONS, demo, tmp_path) == "2 of 17"
    here = Page(SPEC, local_sources([], records, today), tmp_path, {})
    assert re.search(r"What NDEM reads \(phi of eq\. 8\): each part, averaged +.* 66\.0", summary(here))
