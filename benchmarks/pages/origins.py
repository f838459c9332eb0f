"""The table at the end of a page: the run, machine and commit behind each number."""

from collections.abc import Iterable

from tabulate import tabulate

from benchmarks.spec import PaperSpec
from common.datasets import trial_of
from common.runs.record import Record

from .sources import Source


def origins(paper: PaperSpec, sources: list[Source]) -> list[str]:
    """Markdown lines: one row per variant and source, with its seeds together."""
    wanted = {(row.run.label, dataset) for document in paper.documents for row, dataset in document.runs()}
    cells = []
    for source in sources:
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in source.records:
            key = (record.variant, trial_of(record.dataset))
            if key in wanted:
                groups.setdefault(key, []).append(record)
        cells += [
            [source.title, *describe(records), distinct(filter(None, map(source.today.change, records)))]
            for records in groups.values()
        ]
    if not cells:
        return ["No run yet."]
    headers = [
        *("source", "run", "seeds", "epochs", "parameters (M)", "GMACs", "images/s", "minutes a run"),
        *("commit", "machine", "precision", "data", "changed since"),
    ]
    if not any(line[-1] for line in cells):
        headers, cells = headers[:-1], [line[:-1] for line in cells]
    return tabulate(cells, headers, tablefmt="pipe", disable_numparse=True).split("\n")


def describe(records: list[Record]) -> list[str]:
    first = records[0]
    machines = [record.machine for record in records]
    minutes = [record.total_seconds / 60 for record in records]
    size = first.model
    return [
        f"{first.dataset}-{first.kind}-{first.variant}",
        distinct(record.seed for record in records),
        distinct(record.num_epochs for record in records),
        f"{size['num_parameters'] / 1e6:.1f}" if "num_parameters" in size else "–",
        f"{size['macs'] / 1e9:.2f}" if "macs" in size else "–",
        distinct(f"{record.images_per_second:.0f}" if record.images_per_second else "–" for record in records),
        f"{sum(minutes) / len(minutes):.1f}",
        distinct(commit_name(record) for record in records),
        distinct(machine.gpu or f"{machine.cpu}, {machine.cores} cores" for machine in machines),
        distinct(machine.precision for machine in machines),
        distinct(record.data.fingerprint for record in records),
    ]


def commit_name(record: Record) -> str:
    """Short hash; + if files differed from the commit."""
    if not record.commit:
        return "–"
    return record.commit[:10] + ("+" if record.uncommitted_changes else "")


def distinct(values: Iterable) -> str:
    """The different values in order, once each."""
    return ", ".join(dict.fromkeys(str(value) for value in values))
