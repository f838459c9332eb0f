"""`python -m benchmarks publish PAPER`: copy finished runs to the committed records and render the tables."""

import argparse
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.pages.committed import write_committed_pages
from benchmarks.pages.staleness import Today
from benchmarks.records import BENCHMARKS, local_records, published_records
from benchmarks.spec import PaperSpec, RunSpec, load_spec
from common.datasets import READERS, trial_of
from common.errors import UserError
from common.files import write_text
from common.paths import runs_folder
from common.runs.record import Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paper")
    parser.add_argument("--kind", choices=("real", "demo", "full"), help="only runs on this kind of data")


def main(arguments: argparse.Namespace) -> int:
    paper = load_spec(arguments.paper)
    runs = runs_folder()
    records = [record for record in local_records(paper.paper, runs) if arguments.kind in (None, record.kind)]
    rows = {(row.run.label, dataset): row.run for document in paper.documents for row, dataset in document.runs()}
    today = Today(paper)
    committed = {record.run: record for record in published_records(paper.paper, BENCHMARKS)}
    passed = 0
    for record in records:
        problems = objections(today, record, rows.get((record.variant, trial_of(record.dataset))))
        if problems:
            print(f"left out   {record.run}: {'; '.join(problems)}")
            continue
        passed += 1
        if repeats(committed.get(record.run), record):
            print(f"kept       {record.run}: the committed record is of a later run of the same code and images")
        else:
            print(f"published  {publish_record(record, BENCHMARKS)}")
            for file in remove_superseded(record, BENCHMARKS):
                print(f"removed    {file}: its settings or images are not those of {record.run}")
    if not passed:
        raise UserError(f"nothing was published: no finished run in {runs / paper.paper} passes the checks")
    for file in publish_figures(paper, runs, arguments.kind, BENCHMARKS):
        print(f"published  {file}")
    for file in write_committed_pages(BENCHMARKS):
        print(f"written    {file}")
    return 0


def objections(today: Today, record: Record, spec: RunSpec | None) -> list[str]:
    """Why a record cannot be published; empty if it can."""
    if spec is None:
        return [f"no row of specs/{today.paper}.yaml needs it"]
    found = []
    if record.paper != today.paper:
        found.append(f"it is a run of {record.paper}")
    if not all(math.isfinite(value) for value in numbers(record.scores)):
        found.append("a score is not finite")
    if change := today.change(record):
        found.append(f"the {change} changed since it was run")
    if record.kind == "real":
        found += real_data_objections(record)
    return found


def numbers(scores: dict) -> Iterator[float]:
    """All numbers of nested scores."""
    for value in scores.values():
        if isinstance(value, dict):
            yield from numbers(value)
        elif isinstance(value, int | float):
            yield value


def real_data_objections(record: Record) -> list[str]:
    """Results on real data must come from the complete data set and a clean commit."""
    found = []
    for subset, (official, *_) in READERS[record.dataset].OFFICIAL_COUNTS[record.dataset].items():
        images = record.data.counts.get(subset, {"images": official})["images"]  # multi_query may be absent
        if images != official:
            found.append(f"{subset} has {images:,} images, the published data set {official:,}")
    if not record.commit or record.uncommitted_changes:
        found.append("it was not run from a clean commit")
    return found


def repeats(committed: Record | None, record: Record) -> bool:
    """Whether the committed record is of a later run of the same thing, as another runs folder may have had."""
    return committed is not None and committed.finished > record.finished and _subject(committed) == _subject(record)


def _subject(record: Record) -> tuple[str | None, ...]:
    return record.source_hash, record.config_hash, record.weights, record.data.fingerprint


def publish_record(record: Record, folder: Path) -> Path:
    """Write `results/<paper>/<run>.json`, with floats at six significant digits."""
    file = folder / "results" / record.paper / f"{record.run}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(rounded(record.model_dump(mode="json")), indent=1, sort_keys=True) + "\n")
    return file


def remove_superseded(record: Record, folder: Path) -> list[Path]:
    """Remove the published records of the same row that a mean with this one would be wrong for: other settings, other
    starting weights or other images than its own. Returns their files."""
    removed = []
    for other in published_records(record.paper, folder):
        row = [(one.kind, one.dataset, one.variant) for one in (record, other)]
        experiment = [(one.config_hash, one.weights, one.data.fingerprint) for one in (record, other)]
        if row[0] == row[1] and experiment[0] != experiment[1]:
            removed.append(folder / "results" / other.paper / f"{other.run}.json")
            removed[-1].unlink()
    return removed


def rounded(value):
    """The JSON value with floats at six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def publish_figures(paper: PaperSpec, runs: Path, kind: str | None, folder: Path) -> list[Path]:
    """Copy the figures of trained networks, with their data, from the user's tables to the committed ones."""
    written = []
    made_here = runs / "tables" / paper.paper
    for data in sorted(made_here.glob(f"*-{kind or '*'}.json")):
        figure = data.with_suffix(".png")
        for source, target in (
            (data, folder / "results" / paper.paper / "figures" / data.name),
            (figure, folder / "tables" / paper.paper / figure.name),
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            written.append(target)
    return written
