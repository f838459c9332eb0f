"""The format of claims, and those of the five papers against what their texts say."""

import pytest
import yaml

from benchmarks.claims import is_cost
from benchmarks.spec import known_papers, load_spec
from common.errors import UserError

SMALL = """
title: A Small Paper
documents:
  - id: table1
    name: Table 1
    caption: Rows.
    dataset: market1501
    average_precision: step
    columns:
      - {id: rank1, title: Rank-1, unit: "%", value: scores.rank1}
      - {id: mAP, title: mAP, unit: "%", value: scores.mAP}
      - {id: macs, title: MACs, unit: G, value: model.macs}
    rows:
      - {method: Cited, reported: {mAP: 60.0}}
      - {method: Base, reported: {rank1: 90.0, mAP: 70.1}, run: {variant: baseline}}
      - {method: Ours, reported: {rank1: 92.5, mAP: 71.3}, run: {variant: full}}
      - {method: More, run: {variant: full, set: {num_parts: 4}}}
"""
GOOD = {"says": "Ours is better", "place": "Sec. 4", "document": "table1", "row": "Ours", "over": "Base"}
GOOD["reported"] = {"rank1": 2.5, "mAP": 1.2}
BEST = {"says": "Ours is best", "place": "Fig. 1", "document": "table1", "best": ["Ours"], "columns": ["mAP"]}


def load(tmp_path, *claims):
    (tmp_path / "small.yaml").write_text(
        yaml.safe_dump(yaml.safe_load(SMALL) | {"claims": list(claims)}, sort_keys=False)
    )
    return load_spec("small", tmp_path)


def test_a_claim_is_about_each_of_its_columns(tmp_path):
    claim, best = load(tmp_path, GOOD, BEST).claims
    assert claim.metrics == ("rank1", "mAP") and claim.reported["mAP"] == 1.2
    assert best.metrics == ("mAP",) and best.best == ("Ours",)


def test_the_text_may_give_another_number_than_the_table(tmp_path):
    (claim,) = load(tmp_path, GOOD | {"in_text": {"mAP": 1.6}}).claims
    assert claim.in_text == {"mAP": 1.6} and claim.reported["mAP"] == 1.2


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (GOOD | {"reported": {"mAP": 1.3}}, "reported mAP is +1.3, but the rows print 71.3 and 70.1, which is +1.2"),
        (GOOD | {"reported": {"mAP": -1.2}}, "reported mAP is -1.2, but"),
        (GOOD | {"in_text": {"mAP": 1.2}}, "in_text mAP is the reported difference"),
        (GOOD | {"in_text": {"macs": 1.2}}, "`in_text` gives another number for a column of `reported`"),
        (GOOD | {"document": "table2"}, "there is no document 'table2'"),
        (GOOD | {"over_document": "table2"}, "there is no document 'table2'"),
        (GOOD | {"over": "Bass"}, "table1 has no row 'Bass'"),
        (GOOD | {"reported": {"rank5": 1.0}}, "table1 has no column 'rank5'"),
        (GOOD | {"headline": "macs"}, "the claim is not about the column 'macs'"),
        (GOOD | {"reported": {}}, "a claim needs `reported`, or `columns` and a `direction`"),
        (GOOD | {"reported": {}, "columns": ["mAP"]}, "need a `direction`"),
        (GOOD | {"reported": {}, "columns": ["mAP"], "direction": "higher"}, "prints 'mAP' of both rows"),
        (GOOD | {"over": "Cited", "reported": {"rank1": 1.0}}, "neither a run of 'Cited' nor its 'rank1'"),
        (GOOD | {"reported": {"macs": 1.0}}, "prints no 'macs' of one of the rows"),
        (GOOD | {"document": ""}, "a claim needs a `document`, or has `says` and `place` only"),
        (GOOD | {"row": ""}, "needs `row` and `over`, or `best`"),
        (GOOD | {"best": ["Ours"]}, "a claim with `best` has `columns`, and no `row`"),
        (BEST | {"columns": []}, "a claim with `best` needs `columns`"),
        (BEST | {"demo_best": ["Theirs"]}, "table1 has no row 'Theirs'"),
        (GOOD | {"sais": "x"}, "claims.1.sais: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_is_reported_with_its_claim(tmp_path, claim, message):
    with pytest.raises(UserError, match=r"small\.yaml: .*claims\.1") as error:
        load(tmp_path, GOOD, claim)
    assert message in str(error.value)


def test_what_is_compared_with_nothing_has_no_metric(tmp_path):
    (claim,) = load(tmp_path, {"says": "Training takes a day", "place": "Sec. 4"}).claims
    assert claim.metrics == () and claim.document == ""


def test_a_number_that_no_table_prints_needs_a_direction(tmp_path):
    claim = GOOD | {"row": "More", "reported": {}, "columns": ["mAP"], "direction": "higher"}
    assert load(tmp_path, claim).claims[0].direction == "higher"


# (paper, document, row, over): the numbers of the paper's text, typed from it
SAID = {
    ("ndmf_net", "table5", "Baseline + PCAM", "Baseline"): {"rank1": 2.1, "mAP": 2.5},
    ("ndmf_net", "table5", "Baseline + SAM", "Baseline"): {"rank1": 1.8, "mAP": 2.3},
    ("ndmf_net", "table5", "Baseline + NDEM", "Baseline"): {"rank1": 2.7, "mAP": 3.0},
    ("ndmf_net", "table5", "Baseline + PCAM + SAM + NDEM", "Baseline"): {"rank1": 3.7, "mAP": 4.3},
    ("mgre", "table2", "Pose: MGRe (ours)", "Stripe: Pyramid"): {"market_mAP": 3.0},
    ("mgre", "table7", "MGRe", "MGRe w/o JO"): {"mAP": 0.6, "rank1": 0.6},
    ("dfw_crossmodal", "fig4a", "100", "Baseline"): {"rank1": 3.07, "mAP": 3.34},
    ("dfw_crossmodal", "fig3b", "D1: threshold m, factor 0.2", "Baseline"): {"rank1": 3.37, "mAP": 2.67},
    ("mutual_attention", "table3", "Ours with MA", "ResNet-50 Base"): {"single_rank1": 2.77, "single_mAP": 4.46},
    ("fgsam", "table4", "Base + Pose + LRAM + FTL", "Base + Pose + LRAM"): {"market_mAP": 2.9, "duke_mAP": 1.4},
    ("fgsam", "table5", "Ours", "Ours without CPB"): {"rank1": 1.6, "mAP": 1.0},
}


@pytest.mark.parametrize(("place", "said"), SAID.items(), ids=[" ".join(place) for place in SAID])
def test_claims_have_the_numbers_of_the_papers_texts(place, said):
    paper, *rows = place
    claims = [claim for claim in load_spec(paper).claims if [claim.document, claim.row, claim.over] == rows]
    assert len(claims) == 1
    given = claims[0].reported | claims[0].in_text
    assert {name: given[name] for name in said} == said


@pytest.mark.parametrize("paper", known_papers())
def test_every_sweeps_optimum_and_every_cost_is_claimed(paper):
    spec = load_spec(paper)
    optima = {claim.document for claim in spec.claims if claim.best}
    sweeps = {d.id for d in spec.documents if d.kind == "sweep" and d.name.startswith("Fig.")}
    assert sweeps <= optima
    compared = {(claim.document, metric) for claim in spec.claims for metric in claim.metrics}
    for document in spec.documents:
        for column in document.columns:
            printed = [row for row in document.rows if column.id in row.reported]
            if len(printed) > 1 and is_cost(column):
                assert (document.id, column.id) in compared


def test_there_are_at_least_forty_claims_and_about_twenty_in_the_readme():
    claims = [claim for paper in known_papers() for claim in load_spec(paper).claims]
    assert len(claims) >= 40
    assert 15 <= sum(bool(claim.headline) for claim in claims) <= 25
