"""Figures of trained networks: each has its function, and none is drawn without its runs."""

import pytest

from benchmarks.reproduce.figures import SHARED, draw_from_runs
from benchmarks.reproduce.plan import Plan
from benchmarks.spec import known_papers, load_spec
from common.paper import load_paper


def test_no_figure_is_drawn_without_its_runs(tmp_path):
    paper = load_spec("ndmf_net")
    draw_from_runs(paper, Plan(list(paper.documents), [], [], "demo"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("paper", known_papers())
def test_every_figure_of_a_spec_has_its_function(paper):
    wanted = [document.id for document in load_spec(paper).documents if document.kind == "figure"]
    own = load_paper(paper).figures
    assert not [name for name in wanted if name not in SHARED and not callable(getattr(own, name, None))]
