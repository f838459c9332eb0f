"""The committed pages are those that the committed records give."""

import re

import pytest
from PIL import Image

from benchmarks.pages.carried import carried_page
from benchmarks.pages.claims import claims_page
from benchmarks.pages.collected import decisions_page, elsewhere, runs_page
from benchmarks.pages.committed import FOUND, WEIGHTS_PAGE, committed_page, index, scope, with_headline, with_starts
from benchmarks.pages.comparison import comparison_page
from benchmarks.pages.figures import draw_from_records, read_figure_data
from benchmarks.pages.markdown import anchor, joined, markdown_table
from benchmarks.pages.page import ORIGINS, render_page
from benchmarks.pages.sources import committed_sources
from benchmarks.pages.staleness import Today
from benchmarks.pages.table import Page
from benchmarks.records import BENCHMARKS, published_records
from benchmarks.reproduce.plan import chosen_rows
from benchmarks.spec import known_papers, load_spec
from common.files import read_yaml

MAX_FIGURE_BYTES = 300_000
MAX_FIGURE_WIDTH = 830  # pixels, as wide as GitHub shows a page: a wider image is scaled down, and its text with it
MAX_PAGE_BYTES = 50_000


@pytest.mark.parametrize("paper", known_papers())
def test_the_committed_page_is_what_make_tables_writes(paper):
    page = BENCHMARKS / "tables" / f"{paper}.md"
    assert page.read_text() == committed_page(load_spec(paper)), "run `make tables` and commit what it changes"


def test_the_committed_index_is_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "README.md").read_text() == index(), "run `make tables` and commit what it changes"


def test_the_committed_comparison_is_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "comparison.md").read_text() == comparison_page(), "run `make tables`"


def test_the_committed_claims_are_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "claims.md").read_text() == claims_page(found=read_yaml(BENCHMARKS / FOUND)), (
        "run `make tables`"
    )


def test_the_committed_table_of_what_modules_carry_is_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "carried.md").read_text() == carried_page(), "run `make tables`"


def test_the_committed_decisions_and_runs_are_what_make_tables_writes():
    assert (BENCHMARKS / "tables" / "decisions.md").read_text() == decisions_page(), "run `make tables`"
    assert (BENCHMARKS / "tables" / "runs.md").read_text() == runs_page(), "run `make tables`"


@pytest.mark.parametrize("name", known_papers())
def test_a_section_is_on_its_papers_page_or_linked_from_it(name):
    paper = load_spec(name)
    text, places = committed_page(paper), elsewhere(paper)
    for heading in [*(document.name for document in paper.documents), ORIGINS]:
        assert (f"\n## {heading}\n" in text) != (heading in places)
        assert heading not in places or f"[{heading}]({places[heading]})" in text
    assert [place.split("#")[0] for place in places.values()] == ["decisions.md", "runs.md"]
    for place in places.values():
        page, target = place.split("#")
        headings = re.findall("^## (.+)$", (BENCHMARKS / "tables" / page).read_text(), re.MULTILINE)
        assert target in map(anchor, headings)


def test_committed_pages_are_small_and_their_cells_unpadded():
    for page in (BENCHMARKS / "tables").glob("*.md"):
        assert page.stat().st_size <= MAX_PAGE_BYTES, page.name
        padded = [line for line in page.read_text().splitlines() if line.startswith("|") and "  " in line.strip("| ")]
        assert not [line for line in padded if "|  |" not in line], page.name


@pytest.mark.parametrize("name", known_papers())
def test_a_page_stays_small_once_every_row_is_run_with_three_seeds(name, make_record, today, tmp_path):
    paper = load_spec(name)
    runs = {(row.run.label, dataset) for document in paper.documents for row, dataset in document.runs()}
    scores = {f"{score}{end}": 0.123456 for score in ("rank1", "mAP") for end in ("", "_error")}
    records = [
        make_record(
            label,
            seed,
            paper=name,
            dataset=dataset,
            scores=scores | dict.fromkeys(("mAP_trapezoid", "mAP_interpolated"), 0.1),
        )
        for label, dataset in sorted(runs)
        for seed in range(3)
    ]
    for document in paper.documents:
        if document.kind in ("figure", "sweep", "curves"):
            (tmp_path / f"{document.id}-demo.png").touch()
    view = Page(paper, committed_sources(records, today), tmp_path, {})
    page = render_page(view, title="T", introduction=["I"], elsewhere=elsewhere(paper))
    assert "± " in page and len(page.encode()) <= MAX_PAGE_BYTES


@pytest.mark.parametrize("name", known_papers())
def test_the_index_names_the_data_sets_that_a_papers_target_leaves_out(name):
    paper = load_spec(name)
    planned = {(document.id, dataset) for _, dataset, document in chosen_rows(paper, "headline", [], demo=True)}
    for document in paper.documents:
        used = {dataset for row, dataset in document.runs() if row.fits("demo")}
        run = {dataset for dataset in used if (document.id, dataset) in planned}
        assert scope(paper, document).startswith("headline") == (document.scope == "headline")
        if document.scope == "headline":
            assert ("without" in scope(paper, document)) == (run not in (used, set()))
            assert ("else all" in scope(paper, document)) == (bool(used) and not run)
        else:
            assert not run


def test_the_headline_in_the_projects_readme_is_what_make_tables_writes():
    readme = (BENCHMARKS.parent / "README.md").read_text()
    assert readme == with_headline(readme), "run `make tables` and commit what it changes"


def test_the_table_on_the_weights_page_is_what_make_tables_writes():
    page = (BENCHMARKS.parent / WEIGHTS_PAGE).read_text()
    assert page == with_starts(page), "run `make tables` and commit what it changes"


@pytest.mark.parametrize("paper", known_papers())
def test_figures_are_complete_and_small(paper, tmp_path):
    """The committed figures are those drawn from records and those with data; none is larger than 300 kB."""
    spec = load_spec(paper)
    draw_from_records(spec, committed_sources(published_records(paper), Today(spec)), tmp_path)
    data = read_figure_data(BENCHMARKS / "results" / paper / "figures")
    wanted = {file.name for file in tmp_path.iterdir()} | {f"{document}-{kind}.png" for document, kind in data}
    found = {file.name: file.stat().st_size for file in (BENCHMARKS / "tables" / paper).glob("*.png")}
    assert set(found) == wanted, "run `make tables` and commit what it changes"
    assert max(found.values(), default=0) <= MAX_FIGURE_BYTES


@pytest.mark.parametrize("paper", known_papers())
def test_figures_are_shown_at_their_own_size(paper):
    for file in (BENCHMARKS / "tables" / paper).glob("*.png"):
        with Image.open(file) as image:
            assert image.width <= MAX_FIGURE_WIDTH, file.name


def test_anchors_are_githubs():
    assert anchor("Fig. 7") == "fig-7" and anchor("Training curves") == "training-curves"
    assert anchor("Fig. 3 (a)") == "fig-3-a" and anchor("Table 1, all rows") == "table-1-all-rows"


def test_tables_are_githubs_without_padding():
    assert markdown_table(["a", "b"], [["long cell", "1"]]) == ["| a | b |", "| :- | -: |", "| long cell | 1 |"]
    assert markdown_table(["a", "b"], [], left=2)[1] == "| :- | :- |"


def test_values_are_joined_once_each():
    assert joined([8]) == "8" and joined([8, 12, 8]) == "8 or 12" and joined("abc", "and") == "a, b and c"
