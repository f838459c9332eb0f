"""The page with the papers' models side by side."""

from functools import partial

import pytest

from benchmarks.pages import comparison
from benchmarks.pages.compared import SEEDS, TABLES
from benchmarks.pages.comparison import comparison_page, gain_text, mean_text
from benchmarks.pages.local import write_local_comparison
from benchmarks.publish import publish_record
from benchmarks.records import published_records
from benchmarks.spec import load_spec

ON_BUDGET = {"log": ({"seconds": 40.0}, {"seconds": 20.0}, {"seconds": 20.0}, {"seconds": 20.0}, {"seconds": 20.0})}
ON_BUDGET |= {"images_per_second": 120.0}  # 2,400 in each of five epochs; the first is slower
START = {"config": {"pretrained": "synthetic"}, "weights": "w" * 16}
COLUMNS = ["Model", "mAP", "mAP gain", "Rank-1", "Rank-1 gain", "params (M)", "GMACs", "images/s", "seeds"]


def page_in(folder):
    return comparison_page(partial(published_records, folder=folder))


@pytest.fixture
def publish(tmp_path, make_record, monkeypatch, today):
    """publish(label, seed, mAP, rank1, **more): publish a record of NDMF-Net."""
    monkeypatch.setattr(comparison, "Today", lambda paper: today)
    return lambda *values, **more: publish_record(make_record(*values, **{**ON_BUDGET, **START, **more}), tmp_path)


@pytest.fixture
def row(tmp_path):
    """row(name): the page's row of a model, {column: cell}; the model's name with its marks is `Model`."""

    def find(name):
        lines = [line.strip("| ").split(" | ") for line in page_in(tmp_path).splitlines()]
        header = next(cells for cells in lines if cells[0] == "Model")
        assert header == [column.replace("mAP gain", "gain").replace("Rank-1 gain", "gain") for column in COLUMNS]
        found = next(cells for cells in lines if cells[0].startswith(f"[{name}]"))
        return dict(zip(COLUMNS, found, strict=True))

    return find


def test_scores_and_gains_over_seeds_stand_with_the_costs(publish, row):
    for seed, (before, after) in enumerate([(0.50, 0.54), (0.52, 0.58), (0.51, 0.59)]):
        publish("baseline", seed, before, 0.6)
        publish("full", seed, after, 0.8)
    cells = row("NDMF-Net")
    # gains 4, 6 and 8: mean 6, s = 2, t(0.975, 2) = 4.303: 6 -+ 4.303 * 2 / sqrt(3) = 4.97
    # 54, 58, 59: mean 57, sample variance (9 + 1 + 4) / 2 = 7
    assert (cells["mAP"], cells["mAP gain"]) == ("57.0 ± 2.6", "+6.0 [+1.0, +11.0]")
    assert (cells["Rank-1"], cells["Rank-1 gain"]) == ("80.0 ± 0.0", "+20.0 [+20.0, +20.0]")
    assert [cells[name] for name in COLUMNS[5:8]] == ["11.20", "1.23", "120"]
    assert row("NDMF-Net baseline")["mAP gain"] == "–"


def test_a_gain_pairs_runs_of_the_same_seed(make_record):
    full, baseline = [make_record("full", 1, 0.6)], [make_record("baseline", seed, 0.3 + 0.1 * seed) for seed in (0, 1)]
    assert gain_text(full, baseline, "mAP") == "+20.0"
    assert gain_text([make_record("full", 2)], baseline, "mAP") == gain_text(full, [], "mAP") == "–"
    assert mean_text(full, "mAP") == "60.0"


def test_a_row_with_too_few_seeds_says_what_runs_the_others(publish, row, tmp_path):
    for seed in SEEDS:
        publish("full", seed)
    assert row("NDMF-Net")["seeds"] == "5"
    publish("baseline", 3)
    assert row("NDMF-Net baseline")["seeds"].startswith("1 (")
    command = '`make reproduce-ndmf ONLY="baseline full" SEEDS="0 1 2 3 4"`'
    assert f"without all 5 seeds: {command}" in page_in(tmp_path)


def test_another_budget_and_another_start_are_marked(publish, row, tmp_path):
    publish("full", images_per_second=200.0)
    assert row("NDMF-Net")["Model"] == "[NDMF-Net](ndmf_net.md) (b)"
    assert "(b) on 20,000 images, not the budget of the other rows" in page_in(tmp_path)
    publish("full", images_per_second=122.0)
    assert row("NDMF-Net")["Model"] == "[NDMF-Net](ndmf_net.md)"
    publish("baseline", config={"pretrained": "none"}, weights=None)
    assert row("NDMF-Net baseline")["Model"] == "[NDMF-Net baseline](ndmf_net.md) (b)"
    assert "(b) from random weights, not from the start of the other rows" in page_in(tmp_path)
    assert row("NDMF-Net")["Model"] == "[NDMF-Net](ndmf_net.md)"


def test_the_speed_is_the_median_as_one_run_may_have_had_the_machine_to_itself(publish, row):
    for seed, speed in enumerate((100.0, 200.0, 110.0)):
        publish("full", seed, images_per_second=speed)
    assert row("NDMF-Net")["images/s"] == "110"


def test_a_start_from_other_weights_of_the_same_name_is_marked(publish, row):
    publish("full", 0)
    publish("full", 1)
    publish("baseline", weights="v" * 16)
    assert "(" in row("NDMF-Net baseline")["Model"].split(".md)")[1]
    assert row("NDMF-Net")["Model"].endswith(".md)")


def test_a_stale_record_is_marked(publish, row):
    publish("full")
    assert row("NDMF-Net")["Model"].endswith(".md)")
    publish("full", source_hash="0" * 16)
    assert row("NDMF-Net")["Model"].endswith(")") and not row("NDMF-Net")["Model"].endswith(".md)")


def test_a_missing_run_is_listed_with_its_command(tmp_path):
    page = page_in(tmp_path)
    assert page.count("| not run (") == sum(map(len, TABLES.values()))
    for target in ("mgre", "mutual", "fgsam", "dfw"):
        assert f'`make reproduce-{target} ONLY="same_budget" SEEDS="0 1 2 3 4"`' in page


def test_only_records_of_the_newest_images_are_compared(publish, tmp_path, row):
    publish("full", seed=1, data={"fingerprint": "e" * 16}, finished="2020-01-01T00:00:00+00:00")
    publish("baseline", data={"fingerprint": "e" * 16}, finished="2020-01-01T00:00:00+00:00")
    publish("full", finished="2020-01-02T00:00:00+00:00")
    assert row("NDMF-Net")["seeds"].startswith("1 ")
    assert row("NDMF-Net baseline")["mAP"].startswith("not run")
    assert "of an earlier version of these images; without all 5 seeds" in page_in(tmp_path)


def test_every_model_is_a_row_of_its_paper_that_the_demo_runs():
    for dataset, models in TABLES.items():
        for model in models:
            spec = load_spec(model.paper)
            rows = [(row.run.label, where) for d in spec.documents for row, where in d.runs() if row.fits("demo")]
            assert (model.label, dataset) in rows
            assert not model.baseline or model.baseline in {other.label for other in models}


def test_a_user_has_the_page_from_runs_of_two_papers_or_more(tmp_path, make_record, write_run):
    write_run(tmp_path, make_record("full", 0, 0.7, **ON_BUDGET))
    write_run(
        tmp_path, make_record("full", 0, 0.6, paper="mgre", **ON_BUDGET)
    )  # MGRe's own epochs are not the budget's
    write_run(tmp_path, make_record("baseline+num_epochs=0", 0, 0.3))
    assert write_local_comparison(tmp_path) is None
    write_run(tmp_path, make_record("full+num_epochs=8", 0, 0.61, paper="mgre", **ON_BUDGET))
    page = write_local_comparison(tmp_path)
    assert page == tmp_path / "tables" / "comparison.md"
    text = page.read_text()
    assert "Generated from the finished runs in `runs/`." in text and "| 61.0 |" in text and "| 70.0 |" in text
    assert text.count("| not run (") == sum(map(len, TABLES.values())) - 3
