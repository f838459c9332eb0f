"""Which pictures need trained networks, and that they are left alone without them."""

from benchmarks.figures import draw_from_runs
from benchmarks.plan import Plan
from benchmarks.spec import load_spec


def test_documents_of_every_kind_pass_through_and_none_is_drawn_without_its_runs(tmp_path):
    paper = load_spec("ndmf_net")
    draw_from_runs(paper, Plan(list(paper.documents), [], [], "demo"), tmp_path)
    assert not list(tmp_path.iterdir())
