"""The committed pages are those that the committed records give."""

import pytest

from benchmarks.pages.claims import claims_page
from benchmarks.pages.committed import WEIGHTS_PAGE, anchor, committed_page, index, with_headline, with_starts
from benchmarks.pages.comparison import comparison_page
from benchmarks.pages.figures import draw_from_records, read_figure_data
from benchmarks.pages.sources import committed_sources
from benchmarks.records import BENCHMARKS, published_records
from benchmarks.spec import known_papers, load_spec

MAX_FIGURE_BYTES = 300_000


@pytest.mark.parametrize("paper", known_papers())
def test_the_committed_page_is_what_make_tables_writes(paper):
    page = BENCHMARKS / "tables" / f"{paper}.md"
    assert page.read_text() == committed_page(load_spec(paper)), "run `make tables` and commit what it changes"


def test_the_committed_index_is_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "README.md").read_text() == index(), "run `make tables` and commit what it changes"


def test_the_committed_comparison_is_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "comparison.md").read_text() == comparison_page(), "run `make tables`"


def test_the_committed_claims_are_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "claims.md").read_text() == claims_page(), "run `make tables`"


def test_the_headline_in_the_projects_readme_is_what_make_tables_writes():
    readme = (BENCHMARKS.parent / "README.md").read_text()
    assert readme == with_headline(readme), "run `make tables` and commit what it changes"


def test_the_table_on_the_weights_page_is_what_make_tables_writes():
    page = (BENCHMARKS.parent / WEIGHTS_PAGE).read_text()
    assert page == with_starts(page), "run `make tables` and commit what it changes"


@pytest.mark.parametrize("paper", known_papers())
def test_figures_are_complete_and_small(paper, tmp_path, today):
    """The committed figures are those drawn from records and those with data; none is larger than 300 kB."""
    draw_from_records(load_spec(paper), committed_sources(published_records(paper), today), tmp_path)
    data = read_figure_data(BENCHMARKS / "results" / paper / "figures")
    wanted = {file.name for file in tmp_path.iterdir()} | {f"{document}-{kind}.png" for document, kind in data}
    found = {file.name: file.stat().st_size for file in (BENCHMARKS / "tables" / paper).glob("*.png")}
    assert set(found) == wanted, "run `make tables` and commit what it changes"
    assert max(found.values(), default=0) <= MAX_FIGURE_BYTES


def test_anchors_are_githubs():
    assert anchor("Fig. 7") == "fig-7" and anchor("Training curves") == "training-curves"
