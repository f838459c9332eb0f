"""The format of the specs, and each paper's spec against its config."""

import pytest
import yaml

from benchmarks.spec import Column, Row, RunSpec, known_papers, load_spec, look_up, value_of
from common.errors import UserError
from common.files import read_yaml
from common.paths import package_folder

SMALL = {
    "paper": "small",
    "target": "reproduce-small",
    "short": "Small",
    "title": "A Small Paper",
    "authors": "Nobody",
    "venue": "Nowhere 2020",
    "headline": "table1",
    "demo_data_sets": ["market1501"],
    "real_data_cost": {"gpu_hours_per_run": 1, "disk_gb": 2, "disk_gb_per_run": 3},
    "documents": [
        {
            "id": "table1",
            "name": "Table 1",
            "kind": "table",
            "scope": "headline",
            "caption": "Costs and scores on two data sets.",
            "average_precision": "step",
            "columns": [
                {
                    "id": "a_map",
                    "title": "mAP",
                    "unit": "%",
                    "value": "scores.mAP",
                    "group": "A",
                    "dataset": "market1501",
                },
                {"id": "b_map", "title": "mAP", "unit": "%", "value": "scores.mAP", "group": "B", "dataset": "regdb"},
                {
                    "id": "macs",
                    "title": "MACs",
                    "unit": "G",
                    "value": "model.macs",
                    "group": "Cost",
                    "dataset": "market1501",
                },
            ],
            "rows": [{"method": "Ours", "reported": {"a_map": 50.0, "macs": 4.05}, "run": {"variant": "full"}}],
        }
    ],
}


def write(tmp_path, spec):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(spec))
    return load_spec("small", tmp_path)


def test_column_groups_name_their_data_sets(tmp_path):
    document = write(tmp_path, SMALL).document("table1")
    assert document.groups() == ["A", "B", "Cost"]
    assert [(row.run.label, dataset) for row, dataset in document.runs()] == [("full", "market1501"), ("full", "regdb")]


def test_the_smallest_spec_is_a_title_and_a_table(tmp_path):
    (tmp_path / "my_idea.yaml").write_text(
        "title: My idea\ndocuments:\n  - {id: table1, name: Table 1, caption: Rows., dataset: market1501, rows: "
        "[{method: Ours, run: {variant: full}}]}\n"
    )
    spec = load_spec("my_idea", tmp_path)
    assert (spec.paper, spec.short, spec.headline, spec.demo_data_sets) == (
        "my_idea",
        "my_idea",
        "table1",
        ("market1501",),
    )
    assert spec.command == "make reproduce PAPER=my_idea" and spec.citation == "*My idea*"


@pytest.mark.parametrize(
    ("place", "key", "value", "message"),
    [
        ("documents.0", "captoin", "x", "documents.0.captoin: Extra inputs"),
        ("documents.0.rows.0.run", "varaint", "x", "rows.0.run.varaint: Extra inputs"),
        ("documents.0.columns.0", "unit", "percent", "columns.0.unit"),
        ("documents.0.rows.0", "reported", {"mAP": 1.0}, "row 'Ours': reported has no column 'mAP'"),
        ("documents.0", "average_precision", None, "needs an average_precision"),
        ("", "headline", "table2", "there is no document 'table2'"),
        ("", "demo_data_sets", ["market"], "there is no data set 'market'; did you mean 'market1501'"),
        ("", "documents", SMALL["documents"] * 2, "several documents have the id table1"),
        ("documents.0.columns.0", "dataset", "regbd", "there is no data set 'regbd'"),
    ],
)
def test_mistakes_are_reported_with_their_place(tmp_path, place, key, value, message):
    spec = yaml.safe_load(yaml.safe_dump(SMALL))
    target = spec
    for step in place.split(".") if place else []:
        target = target[int(step) if step.isdigit() else step]
    target[key] = value
    with pytest.raises(UserError, match=r"small\.yaml") as error:
        write(tmp_path, spec)
    assert message in str(error.value)


def test_unknown_paper_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'ndmf_net'"):
        load_spec("ndmfnet")


def test_labels_are_those_of_run_directories():
    assert RunSpec(variant="full", set={"num_parts": 4, "bnneck": True}).label == "full+bnneck=True+num_parts=4"
    assert RunSpec(program="colour_histogram").label == "colour_histogram"


@pytest.mark.parametrize("paper", known_papers())
def test_rows_name_variants_and_settings_that_exist(paper):
    config = read_yaml(package_folder(paper) / "config.yaml")
    for document in load_spec(paper).documents:
        for row, _ in document.runs():
            if row.run.program == "train":
                assert row.run.variant in config["variants"], row
                assert set(row.run.set) <= set(config), row


def test_the_spec_has_every_reported_number_of_the_paper():
    """Counted in the paper: 8 x 3, 19 x 2, 16 x 2, 9 x 2, 5 x 2 numbers in Tables 1-5, one legible point in Fig. 7."""
    spec = load_spec("ndmf_net")
    counts = {document.id: sum(len(row.reported) for row in document.rows) for document in spec.documents}
    assert counts == {
        "table1": 24,
        "table2": 38,
        "table3": 32,
        "table4": 18,
        "table5": 10,
        "table5_more": 0,
        "curves": 0,
        "fig7": 2,
        "fig8": 0,
        "fig9": 0,
        "activity": 0,
        "carried": 0,
        "start": 0,
        "start_elsewhere": 0,
        "start_maps": 0,
        "decisions": 0,
    }
    for name in ("table2", "table3", "table4"):
        rows = spec.document(name).rows
        assert all(row.ref and row.venue for row in rows[:-1])
        assert rows[-1].run and not any(row.run for row in rows[:-1])


def test_look_up_and_print(make_record):
    record = make_record(model={"macs": 4_054_000_000}, scores={}, seconds={})
    assert look_up(record, "model.macs") == 4_054_000_000
    assert look_up(record, "data.counts.train.images") == 1200
    assert look_up(record, "scores.mAP") is None
    assert look_up(record, "seconds.train") is None
    assert look_up(record, "nothing.at.all") is None
    assert look_up(record, "log.last.loss") == record.log[-1]["loss"]
    assert look_up(record, "log.last.other") is None and look_up(record, "log.first.loss") is None
    assert look_up(record.model_copy(update={"log": ()}), "log.last.loss") is None

    def text(value, **settings):
        return Column(id="x", title="X", **settings).text(value)

    assert text(12936, unit="count") == "12,936" and text(2017, unit="year") == "2017"
    assert text(88.94, unit="%") == "88.9" and text(88.94, unit="%", decimals=2) == "88.94"


def test_a_rows_fill_completes_a_columns_path(make_record):
    column = Column(id="x", title="X", unit="%", value="scores.all{suffix}.mAP")
    record = make_record(scores={"all": {"mAP": 0.5}, "all_reranked": {"mAP": 0.75}})
    assert value_of(record, column, Row(method="Ours")) == 0.5
    assert value_of(record, column, Row(method="Ours", fill={"suffix": "_reranked"})) == 0.75
    assert value_of(record, column, Row(method="Ours", fill={"suffix": "_x"})) is None
