"""The table at a page's end: which run, machine and source each number comes from."""

from collections.abc import Iterable

from tabulate import tabulate

from common.datasets import trial_of

from .records import Source
from .spec import Paper


def provenance(paper: Paper, sources: list[Source]) -> list[str]:
    """Markdown lines: a row for each variant of each source, its seeds together."""
    wanted = {(row.run.label, dataset) for document in paper.documents for row, dataset in document.runs()}
    cells = []
    for source in sources:
        groups: dict[tuple[str, str], list[dict]] = {}
        for record in source.records:
            key = (trial_of(record["dataset"]), record["variant"])
            if (record["variant"], trial_of(record["dataset"])) in wanted:
                groups.setdefault(key, []).append(record)
        cells += [
            [source.title, *describe(records), "yes" if any(map(source.is_stale, records)) else ""]
            for records in groups.values()
        ]
    if not cells:
        return ["No run yet."]
    headers = [
        *("source", "run", "seeds", "epochs", "parameters (M)", "GMACs", "images/s", "minutes a run"),
        *("commit", "machine", "precision", "data", "stale"),
    ]
    if not any(line[-1] for line in cells):
        headers, cells = headers[:-1], [line[:-1] for line in cells]
    return tabulate(cells, headers, tablefmt="pipe", disable_numparse=True).split("\n")


def describe(records: list[dict]) -> list[str]:
    first = records[0]
    machines = [record["machine"] for record in records]
    minutes = [sum(record["seconds"].values()) / 60 for record in records]
    model = first.get("model") or {}
    return [
        f"{first['dataset']}-{first['kind']}-{first['variant']}",
        distinct(record["seed"] for record in records),
        distinct(record["num_epochs"] for record in records),
        f"{model['num_parameters'] / 1e6:.1f}" if model else "–",
        f"{model['macs'] / 1e9:.2f}" if model else "–",
        distinct(
            f"{record['images_per_second']:.0f}" if record.get("images_per_second") else "–" for record in records
        ),
        f"{sum(minutes) / len(minutes):.1f}",
        distinct(commit_name(record) for record in records),
        distinct(machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores" for machine in machines),
        distinct(machine["precision"] for machine in machines),
        distinct(record["data"]["fingerprint"] for record in records),
    ]


def commit_name(record: dict) -> str:
    """Short hash; with + when files differed from the commit."""
    if not record.get("commit"):
        return "–"
    return record["commit"][:10] + ("+" if record.get("uncommitted_changes") else "")


def distinct(values: Iterable) -> str:
    """The different values in order, once each."""
    return ", ".join(dict.fromkeys(str(value) for value in values))
