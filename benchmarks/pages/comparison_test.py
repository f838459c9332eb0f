"""The page with the papers' models side by side."""

import pytest

from benchmarks.pages import comparison
from benchmarks.pages.comparison import BASELINES, MODELS, comparison_page
from benchmarks.publish import publish_record
from benchmarks.spec import load_spec


@pytest.fixture
def publish(tmp_path, make_record, monkeypatch, today):
    """publish(label, name, ...): publish a record of NDMF-Net; returns the cells of the page's row `name`."""

    monkeypatch.setattr(comparison, "Today", lambda paper: today)

    def write(label, name, **more):
        publish_record(make_record(label, **more), tmp_path)
        lines = [line.strip("|").split("|") for line in comparison_page(tmp_path).splitlines()]
        found = [[cell.strip() for cell in line] for line in lines]
        return next(cells for cells in found if cells[0].split(" (")[0] == name)

    return write


def test_a_row_has_the_mean_over_seeds_and_the_number_of_training_images(publish, make_record):
    scores = {"rank5": 0.7, "rank10": 0.8}
    first = make_record("full").scores | scores
    publish("full", "NDMF-Net", scores=first | {"mAP": 0.5}, seconds={"train": 100.0}, images_per_second=120.0)
    second = {"scores": first | {"mAP": 0.7}, "seconds": {"train": 100.0}, "images_per_second": 120.0}
    cells = publish("full", "NDMF-Net", seed=1, **second)
    assert cells[4:] == ["2", "12,000", "11.20", "1.23", "60.0", "80.0", "70.0", "80.0"]


def test_another_budget_is_marked(publish, make_record):
    scores = make_record("full").scores | {"rank5": 0.7, "rank10": 0.8}
    cells = publish("full", "NDMF-Net", scores=scores, seconds={"train": 100.0}, images_per_second=200.0)
    assert cells[5].startswith("20,000 (")


def test_a_row_says_from_which_weights_it_starts(publish, make_record):
    scores = make_record("full").scores | {"rank5": 0.7, "rank10": 0.8}
    cells = publish("full", "NDMF-Net", scores=scores, config={"pretrained": "none"})
    assert cells[3] == "random weights"
    cells = publish("baseline", "NDMF-Net baseline", scores=scores, config={"pretrained": "synthetic"})
    assert cells[3].startswith("[synthetic people]")


def test_a_stale_record_is_marked(publish, make_record):
    scores = make_record("full").scores | {"rank5": 0.7, "rank10": 0.8}
    assert publish("full", "NDMF-Net", scores=scores)[0] == "NDMF-Net"
    assert publish("full", "NDMF-Net", scores=scores, source_hash="0" * 16)[0].startswith("NDMF-Net (")


def test_a_missing_run_is_listed_with_its_command(tmp_path):
    page = comparison_page(tmp_path)
    assert page.count("| not run (") + page.count(" not run (") >= len(MODELS)
    assert "`make reproduce-fgsam ONLY=full+num_epochs=8`" in page


def test_records_of_different_images_are_not_compared(publish, make_record):
    scores = make_record("full").scores | {"rank5": 0.7, "rank10": 0.8}
    publish("full", "NDMF-Net", scores=scores)
    with pytest.raises(ValueError, match="different images"):
        publish("baseline", "NDMF-Net baseline", scores=scores, data={"fingerprint": "e" * 16})


def test_every_model_is_a_row_of_its_paper():
    for model in (*MODELS, *BASELINES):
        rows = [row for document in load_spec(model.paper).documents for row, _ in document.runs()]
        assert model.label in {row.run.label for row in rows if row.fits("demo")}
