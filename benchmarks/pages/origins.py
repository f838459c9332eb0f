"""The table at the end of a page: the run, machine and commit behind each number."""

from collections.abc import Iterable

from benchmarks.spec import PaperSpec
from common.datasets import trial_of
from common.runs.record import Record

from .markdown import markdown_table
from .sources import Source


def origins(paper: PaperSpec, sources: list[Source]) -> list[str]:
    """Markdown lines: what all runs have in common, then one row per variant and source, with its seeds together."""
    wanted = {(row.run.label, dataset) for document in paper.documents for row, dataset in document.runs()}
    lines = []
    for source in sources:
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in source.records:
            key = (record.variant, trial_of(record.dataset))
            if key in wanted:
                groups.setdefault(key, []).append(record)
        lines += [
            {
                **describe(records),
                "changed since": distinct(filter(None, map(source.today.change, records))),
                "source": source.title,
            }
            for records in groups.values()
        ]
    if not lines:
        return ["No run yet."]
    images = {(line["source"], line["data set"]): line["data"] for line in lines}
    if all(line["data"] == images[line["source"], line["data set"]] for line in lines):  # the same in all its runs
        named = distinct(f"{dataset} {fingerprint}" for (_, dataset), fingerprint in images.items())
        lines = [line | {"data": named} for line in lines]
    lines = [{name: cell for name, cell in line.items() if name != "data set"} for line in lines]
    columns = [name for name in lines[0] if len({line[name] for line in lines}) > 1 or name == "run"]
    common = [f"{name}: {lines[0][name]}" for name in lines[0] if name not in columns and lines[0][name]]
    table = markdown_table(columns, [[line[name] for name in columns] for line in lines])
    return [*([f"All runs: {'; '.join(common)}.", ""] if common else []), *table]


def describe(records: list[Record]) -> dict[str, str]:
    """{column: cell} of one row."""
    first = records[0]
    machines = [record.machine for record in records]
    minutes = [record.total_seconds / 60 for record in records]
    size = first.model
    return {
        "data set": first.dataset,
        "run": f"{first.dataset}-{first.kind}-{first.variant}",
        "seeds": distinct(record.seed for record in records),
        "epochs": distinct(record.num_epochs for record in records),
        "parameters (M)": f"{size['num_parameters'] / 1e6:.1f}" if "num_parameters" in size else "–",
        "GMACs": f"{size['macs'] / 1e9:.2f}" if "macs" in size else "–",
        "images/s": between([record.images_per_second for record in records if record.images_per_second]),
        "minutes a run": f"{sum(minutes) / len(minutes):.1f}",
        "commit": distinct(commit_name(record) for record in records),
        "machine": distinct(machine.gpu or f"{machine.cpu}, {machine.cores} cores" for machine in machines),
        "precision": distinct(machine.precision for machine in machines),
        "data": distinct(record.data.fingerprint[:10] for record in records),
    }


def commit_name(record: Record) -> str:
    """Short hash; + if files differed from the commit."""
    if not record.commit:
        return "–"
    return record.commit[:10] + ("+" if record.uncommitted_changes else "")


def distinct(values: Iterable) -> str:
    """The different values in order, once each."""
    return ", ".join(dict.fromkeys(str(value) for value in values))


def between(values: list[float]) -> str:
    """The least and the largest of the values: `118 to 124`."""
    return " to ".join(dict.fromkeys(f"{value:.0f}" for value in (min(values), max(values)))) if values else "–"
