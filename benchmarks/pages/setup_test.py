"""What a caption says of the runs: from their records, or from today's settings."""

import pytest

from benchmarks.pages.setup import setup_line
from benchmarks.pages.sources import committed_sources
from benchmarks.spec import load_spec
from common.files import read_yaml
from common.paths import package_folder

SPEC = load_spec("ndmf_net")


@pytest.fixture
def line(today):
    """line(document, *records): the caption's line for the demo."""
    return lambda document, *records: setup_line(
        SPEC, SPEC.document(document), committed_sources(list(records), today)[1]
    )


def test_a_row_without_a_record_counts_with_todays_settings(line):
    demo = read_yaml(package_folder("ndmf_net") / "demo.yaml")
    size = f"{demo['height']}x{demo['width']}"
    network = demo["backbone"].replace("resnet", "ResNet-")
    expected = f"synthetic: {network}, {size}, from the starting weights, {demo['num_epochs']} epochs"
    assert line("table2") == expected


def test_records_count_with_their_own_settings(line, make_record):
    config = {"backbone": "resnet50", "height": 256, "width": 128, "pretrained": "imagenet"}
    record = make_record("full", config=config, num_epochs=200)
    assert line("table2", record) == "synthetic: ResNet-50, 256x128, from ImageNet's weights, 200 epochs"


def test_different_values_are_all_named_but_not_those_that_a_row_varies(line, make_record):
    def config(start):
        return {"backbone": "resnet18", "height": 128, "width": 64, "pretrained": start}

    records = [make_record("baseline", config=config("none"), num_epochs=12)]
    records += [make_record("full", config=config("synthetic"), num_epochs=8)]
    records += [make_record("baseline+num_epochs=0", config=config("none"), num_epochs=0)]
    found = line("curves", *records)
    assert found == "synthetic: ResNet-18, 128x64, from random weights or the starting weights, 8 or 12 epochs"
    assert " 0 " not in line("table5", *records)  # the untrained row says so itself


def test_another_number_of_epochs_is_named(today, make_record):
    dfw = load_spec("dfw_crossmodal")
    longer = dfw.document("longer")
    epochs = {row.run.label: row.run.set.get("num_epochs", 8) for row, _ in longer.runs()}
    records = [
        make_record(label, paper="dfw_crossmodal", dataset="sysu_mm01", num_epochs=number)
        for label, number in epochs.items()
    ]
    assert sorted(set(epochs.values())) == [0, 8, 24]
    assert setup_line(dfw, longer, committed_sources(records, today)[1]).endswith(", 8 or 24 epochs")


def test_a_table_without_trained_networks_has_no_such_line(line):
    assert line("table1") == ""


def test_a_row_may_set_a_list(today):
    dfw = load_spec("dfw_crossmodal")
    rows = [row for row in dfw.document("decisions").rows if any(isinstance(v, list) for v in row.run.set.values())]
    assert rows
    document = dfw.document("decisions").model_copy(update={"rows": tuple(rows)})
    assert "ResNet-" in setup_line(dfw, document, committed_sources([], today)[1])


def test_the_epochs_of_a_row_that_starts_from_another_run_are_left_out(today, make_record):
    fgsam = load_spec("fgsam")
    labels = {row.run.label: 11 for row in fgsam.document("table4").rows if row.run}
    (later,) = [label for label in labels if "start_from" in label]
    records = [make_record(label, paper="fgsam", num_epochs=n) for label, n in (labels | {later: 4}).items()]
    found = setup_line(fgsam, fgsam.document("table4"), committed_sources(records, today)[1])
    assert found.endswith("11 epochs") and "4" not in found.split(", ")[-1]
