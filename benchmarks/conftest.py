"""Result records for the tests of tables, plans and publishing."""

import copy

import pytest

from benchmarks.records import BENCHMARKS
from common.pretrained import WEIGHTS_FOLDER
from common.runs.record import Record

RECORD = {
    "paper": "ndmf_net",
    "dataset": "market1501",
    "kind": "demo",
    "variant": "full",
    "seed": 0,
    "scores": {
        "mAP": 0.6,
        "mAP_trapezoid": 0.59,
        "mAP_interpolated": 0.61,
        "rank1": 0.8,
        "mINP": 0.2,
        "num_valid_queries": 250,
    },
    "num_epochs": 12,
    "config": {"backbone": "resnet18", "height": 128, "width": 64, "num_epochs": 12},
    "config_hash": "c" * 16,
    "unmodified_config": True,
    "source_hash": "5" * 16,
    "data": {
        "name": "market1501",
        "kind": "demo",
        "fingerprint": "d" * 16,
        "counts": {
            "train": {"images": 1200, "identities": 100, "cameras": 6},
            "query": {"images": 250, "identities": 80, "cameras": 6},
            "gallery": {"images": 2000, "identities": 81, "cameras": 6},
        },
    },
    "model": {"num_parameters": 11_200_000, "macs": 1_230_000_000},
    "seconds": {"train": 110.0, "evaluate": 10.0},
    "images_per_second": 118.2,
    "machine": {
        "device": "cpu",
        "gpu": None,
        "cpu": "Some CPU",
        "cores": 2,
        "precision": "bf16",
        "torch": "2.11.0",
        "python": "3.11.4",
    },
    "commit": "0123456789abcdef",
    "uncommitted_changes": False,
    "finished": "2026-11-20T21:10:00+00:00",
    "log": [
        {"epoch": 1, "loss": 3.0, "identity_loss": 5.0, "triplet_loss": 2.1, "seconds": 9.0},
        {"epoch": 2, "loss": 2.5, "identity_loss": 4.0, "triplet_loss": 1.9, "seconds": 9.0},
    ],
}


@pytest.fixture(scope="session", autouse=True)
def committed_files_stay_as_they_are():
    """No test may write, change or remove a record, a page or a figure that users get."""

    def files():
        folders = [BENCHMARKS / "results", BENCHMARKS / "tables", WEIGHTS_FOLDER]
        found = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in found}

    before = files()
    yield
    assert files() == before


class NothingChanged:
    """Replaces pages.staleness.Today: the current source hash is that of RECORD."""

    def change(self, record):
        return "" if record.source_hash == RECORD["source_hash"] else "source code"


@pytest.fixture
def today():
    return NothingChanged()


@pytest.fixture
def make_record():
    """make_record(variant, seed, mAP, rank1, **more): a result record; scores are fractions, `more` other fields."""

    def make(variant="full", seed=0, mAP=0.6, rank1=0.8, **more):
        record = copy.deepcopy(RECORD)
        record["scores"] |= {"mAP": mAP, "mAP_trapezoid": mAP - 0.01, "mAP_interpolated": mAP + 0.01, "rank1": rank1}
        data = record["data"] | more.pop("data", {})
        record |= {"variant": variant, "seed": seed, **more}
        record["data"] = data | {"kind": record["kind"], "name": record["dataset"]}
        record.setdefault("run", f"{record['dataset']}-{record['kind']}-{variant}-s{seed}")
        return Record.model_validate(record)

    return make


@pytest.fixture
def write_run():
    """write_run(runs, record): write the record as a finished run in a runs folder; returns its directory."""

    def write(runs, record):
        directory = runs / record.paper / record.run
        directory.mkdir(parents=True)
        (directory / "result.json").write_text(record.model_dump_json())
        return directory

    return write


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with every synthetic data set that the tests on a pretend GPU read, at tiny size."""
    from benchmarks.gpu_runs import make_data

    root = tmp_path_factory.mktemp("data")
    make_data(root)
    return root
