"""`python -m benchmarks publish PAPER`: copy finished runs into the committed records and render the tables anew."""

import argparse
import importlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from common.config import config_hash, load_config
from common.datasets import READERS, trial_of
from common.errors import UserError
from common.provenance import paper_folder, source_hash
from common.runs import runs_folder, write_text

from .pages import write_committed_pages
from .records import BENCHMARKS, local_records
from .spec import Paper, RunSpec, load_spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paper")
    parser.add_argument("--kind", choices=("real", "demo", "full"), help="only runs on this kind of data")


def main(arguments: argparse.Namespace) -> int:
    paper = load_spec(arguments.paper)
    runs = runs_folder()
    records = [record for record in local_records(paper.paper, runs) if arguments.kind in (None, record["kind"])]
    rows = {(row.run.label, dataset): row.run for document in paper.documents for row, dataset in document.runs()}
    published = 0
    for record in records:
        problems = objections(paper, record, rows.get((record["variant"], trial_of(record["dataset"]))))
        if problems:
            print(f"left out   {record['run']}: {'; '.join(problems)}")
        else:
            print(f"published  {publish_record(record)}")
            published += 1
    if not published:
        raise UserError(f"nothing was published: no finished run in {runs / paper.paper} passes the checks")
    for file in publish_figures(paper, runs, arguments.kind):
        print(f"published  {file}")
    for file in write_committed_pages():
        print(f"written    {file}")
    return 0


def objections(paper: Paper, record: dict, spec: RunSpec | None) -> list[str]:
    """Why a record cannot be published; empty when it can."""
    if spec is None:
        return [f"no row of specs/{paper.paper}.yaml asks for it"]
    found = []
    if record["paper"] != paper.paper:
        found.append(f"it is a run of {record['paper']}")
    if not all(math.isfinite(value) for value in numbers(record["scores"])):
        found.append("a score is not finite")
    if spec.program == "train" and record["config_hash"] != expected_config_hash(paper.paper, record, spec):
        found.append("its settings are not today's config.yaml with what the row changes")
    if record["source_hash"] != source_hash(paper.paper):
        found.append("it was run with other source code than that of today")
    if record["kind"] == "real":
        found += real_data_objections(record)
    return found


def numbers(scores: dict) -> Iterator[float]:
    """All numbers of nested scores."""
    for value in scores.values():
        if isinstance(value, dict):
            yield from numbers(value)
        elif isinstance(value, int | float):
            yield value


def real_data_objections(record: dict) -> list[str]:
    """Numbers on real data are only worth committing when anyone can tell what made them."""
    found = []
    for subset, (published, *_) in READERS[record["dataset"]].OFFICIAL_COUNTS[record["dataset"]].items():
        images = record["data"]["counts"].get(subset, {"images": published})["images"]  # multi_query may be absent
        if images != published:
            found.append(f"{subset} has {images:,} images, published are {published:,}")
    if not record["commit"] or record["uncommitted_changes"]:
        found.append("it was not run from a clean commit")
    return found


def expected_config_hash(paper: str, record: dict, spec: RunSpec) -> str:
    schema = importlib.import_module(f"{paper}.train").Config
    config = load_config(
        schema,
        paper_folder(paper),
        dataset=record["dataset"],
        demo=record["kind"] == "demo",
        variant=spec.variant,
        overrides=spec.set,
    )
    return config_hash(config)


def publish_record(record: dict, folder: Path = BENCHMARKS) -> Path:
    """Write `results/<paper>/<run>.json`, whole or not at all, floats to six digits."""
    file = folder / "results" / record["paper"] / f"{record['run']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(rounded(record), indent=1, sort_keys=True) + "\n")
    return file


def rounded(value):
    """The same JSON value with six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def publish_figures(paper: Paper, runs: Path, kind: str | None, folder: Path = BENCHMARKS) -> list[Path]:
    """Copy the pictures that need trained networks, and their data, from the user's tables to the committed ones."""
    written = []
    made_here = runs / "tables" / paper.paper
    for data in sorted(made_here.glob(f"*-{kind or '*'}.json")):
        picture = data.with_suffix(".png")
        for source, target in (
            (data, folder / "results" / paper.paper / "figures" / data.name),
            (picture, folder / "tables" / paper.paper / picture.name),
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            written.append(target)
    return written
