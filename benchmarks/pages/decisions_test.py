"""The table of decisions: differences, their noise, and what stands in a cell without them."""

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
from benchmarks.spec import load_spec

SPEC = load_spec("ndmf_net")
DECISIONS = SPEC.document(DOCUMENT)


@pytest.fixture
def page(tmp_path, today):
    return lambda records: Page(SPEC, committed_sources(records, today), tmp_path / "ndmf_net", {})


def row(lines, alternative):
    """The cells after the alternative's own: mAP, its noise, Rank-1, its noise."""
    line = next(line for line in lines if f"| {alternative} (" in line)
    return [cell.strip() for cell in line.strip("|").split("|")][3:]


def ablation(make_record):
    """Baseline and full model: mAP 60, 62, 67 and 70, 74, Rank-1 80 throughout. Deviations of mAP: variances
    (9 + 1 + 16) / 2 = 13 with two degrees of freedom and 8 with one, pooled (2 * 13 + 8) / 3 = 34 / 3."""
    seeds = {"baseline": (0.60, 0.62, 0.67), "full": (0.70, 0.74)}
    return [make_record(name, seed, mAP) for name, scores in seeds.items() for seed, mAP in enumerate(scores)]


def test_a_difference_and_its_noise_by_hand(make_record, page):
    records = [*ablation(make_record), make_record("full+part_features=pool", 0, 0.66, 0.81)]
    lines = render_document(page(records), DECISIONS)
    noise = math.sqrt(34 / 3 * (1 + 1 / 2))  # 4.12 points
    assert row(lines, "each part, averaged") == ["-6.0", f"{noise:.1f}", "**+1.0**", "0.0"]
    stated = next(line for line in lines if line.startswith("- synthetic: full"))
    assert "full model 2 seeds; s = 3.37 (mAP), 0.00 (Rank-1)" in stated
    assert "pooled over the 2 rows of Table 5 that have several seeds (5 runs)" in stated


def test_a_difference_beyond_twice_its_noise_is_bold(make_record, page):
    records = [*ablation(make_record), *(make_record("full+bnneck=True", seed, 0.64) for seed in (0, 1))]
    # two seeds each: noise sqrt(34 / 3), 3.37 points, and the difference is -8 points
    assert row(render_document(page(records), DECISIONS), "a batch-norm neck before the classifier")[0] == "**-8.0**"
    records = [*ablation(make_record), *(make_record("full+bnneck=True", seed, 0.66) for seed in (0, 1))]
    assert row(render_document(page(records), DECISIONS), "a batch-norm neck before the classifier")[:2] == [
        "-6.0",
        "3.4",
    ]


def test_a_difference_in_the_records_unit():
    found = difference(Summary(0.50, 0.1, 4), Summary(0.56, 0.1, 2), 0.02)
    assert found.value == pytest.approx(-0.06)
    assert found.noise == pytest.approx(0.02 * math.sqrt(1 / 4 + 1 / 2))
    assert found.exceeds_noise
    assert not difference(Summary(0.50, None, 1), Summary(0.56, None, 1), None).exceeds_noise
    assert not difference(Summary(0.50, None, 1), Summary(0.54, None, 1), 0.02).exceeds_noise  # 2 * 2.8 points


def test_the_noise_of_one_seed_is_unknown(make_record, page):
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


def test_the_largest_stand_first_and_those_within_the_noise_are_counted(make_record, page):
    records = [*ablation(make_record), make_record("full+part_features=pool", 0, 0.66)]  # -6.0, noise 4.1
    records += [make_record("full+bnneck=True", seed, 0.64) for seed in (0, 1)]  # -8.0, noise 3.4
    records += [make_record("full+lstm_directions=1", seed, 0.82) for seed in (0, 1)]  # +10.0
    records += [make_record("full+dependency_decay=none", seed, 0.99, source_hash="0" * 16) for seed in (0, 1)]  # stale
    text, _, head, _, *rows = largest_lines([page(records)])
    assert head == "| paper | question | our reading | alternative | mAP synthetic, Δ | noise |"
    assert [line.split(" | ")[-2:] for line in rows] == [["+10.0", "3.4 |"], ["-8.0", "3.4 |"]]
    assert "both layers of a forward LSTM" in rows[0] and "(`bnneck: true`)" in rows[1]
    alternatives = sum(row.fits("demo") for row in DECISIONS.rows[1:])
    assert text.startswith("Of 3 alternatives that have run (synthetic), 2 change the mAP by more than twice the noise")
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
