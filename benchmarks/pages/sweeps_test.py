"""What seeds alone change in a sweep, from invented records."""

from benchmarks.pages.sources import committed_sources
from benchmarks.pages.sweeps import noise_line
from benchmarks.spec import load_spec

NDMF, MGRE = load_spec("ndmf_net"), load_spec("mgre")


def lines(paper, document, records, today):
    source = next(source for source in committed_sources(records, today) if source.kind == "demo")
    return noise_line(paper, paper.document(document), source)


def test_the_margin_is_of_two_points_with_one_seed_each(make_record, today):
    # mAP of the full network, which is the point 8: 59, 60, 61, s = 1; Rank-1: 78, 80, 82, s = 2. 2 degrees of
    # freedom: t = 4.303, so 4.303 * 1 * sqrt(2) = 6.1 and twice that
    records = [make_record("full", seed, 0.59 + 0.01 * seed, 0.78 + 0.02 * seed) for seed in range(3)]
    records.append(make_record("full+num_parts=1", 0, 0.4))
    margins = "12.2 (Rank-1), 6.1 (mAP)"
    expected = f"- By seeds alone, synthetic: two points of one seed each differ by up to {margins} in 19 of 20 cases."
    assert lines(NDMF, "fig7", records, today) == [expected]
    # the ablation's rows count, too: s = sqrt((2 * 1 + 2 * 9) / 4) = 2.236, t = 2.776 with 4 degrees: 8.8
    records += [make_record("pcam", seed, 0.5 + 0.03 * seed, 0.78 + 0.02 * seed) for seed in range(3)]
    assert "8.8 (mAP)" in lines(NDMF, "fig7", records, today)[0]


def test_one_seed_has_no_noise(make_record, today):
    assert lines(NDMF, "fig7", [make_record("full"), make_record("full+num_parts=1")], today) == []


def test_points_of_one_network_have_no_line(make_record, today):
    records = [make_record("full", seed, 0.59 + 0.01 * seed, paper="mgre") for seed in range(3)]
    assert lines(MGRE, "fig6", records, today) == []
