"""The page that sets the papers' models side by side."""

import json

import pytest

from benchmarks.comparison import FLOORS, MODELS, comparison_page
from benchmarks.spec import load_spec


@pytest.fixture
def publish(tmp_path, make_record):
    """publish(label, ...): a record among the published ones of NDMF-Net; returns the page's line of that run."""

    def write(label, name, **more):
        folder = tmp_path / "results" / "ndmf_net"
        folder.mkdir(parents=True, exist_ok=True)
        record = make_record(label, **more)
        (folder / f"{record['run']}.json").write_text(json.dumps(record))
        lines = [line for line in comparison_page(tmp_path).splitlines() if line.startswith(f"| {name} ")]
        return [cell.strip() for cell in lines[0].strip("|").split("|")]

    return write


def test_a_line_has_the_mean_over_seeds_and_what_was_trained_on(publish, make_record):
    scores = {"rank5": 0.7, "rank10": 0.8}
    first = make_record("full")["scores"] | scores
    publish("full", "NDMF-Net", scores=first | {"mAP": 0.5}, seconds={"train": 100.0}, images_per_second=165.0)
    second = {"scores": first | {"mAP": 0.7}, "seconds": {"train": 100.0}, "images_per_second": 165.0}
    cells = publish("full", "NDMF-Net", seed=1, **second)
    assert cells[3:] == ["2", "16,500", "11.20", "1.23", "60.0", "80.0", "70.0", "80.0"]


def test_another_budget_is_marked(publish, make_record):
    scores = make_record("full")["scores"] | {"rank5": 0.7, "rank10": 0.8}
    cells = publish("full", "NDMF-Net", scores=scores, seconds={"train": 100.0}, images_per_second=200.0)
    assert cells[4].startswith("20,000 (")


def test_what_is_not_run_says_how_to_run_it(tmp_path):
    page = comparison_page(tmp_path)
    assert page.count("| not run (") + page.count(" not run (") >= len(MODELS)
    assert "`make reproduce-fgsam ONLY=full+num_epochs=12`" in page


def test_records_of_different_pictures_are_not_compared(publish, make_record):
    scores = make_record("full")["scores"] | {"rank5": 0.7, "rank10": 0.8}
    publish("full", "NDMF-Net", scores=scores)
    with pytest.raises(ValueError, match="different pictures"):
        publish("baseline", "its baseline", scores=scores, data={"fingerprint": "e" * 16})


def test_every_line_is_a_row_of_its_paper():
    for model in (*MODELS, *FLOORS):
        rows = [row for document in load_spec(model.paper).documents for row, _ in document.runs()]
        assert model.label in {row.run.label for row in rows if row.fits("demo")}
