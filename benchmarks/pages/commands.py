"""The commands that the pages name, and what they cost."""

from benchmarks.spec import Document, PaperSpec
from common.datasets import reader_of, trial_of, trials_of

ASK_ABOVE_SECONDS = 2 * 3600  # `make reproduce` refuses a longer plan without YES=1


def make_command(paper: PaperSpec, document: Document, kind: str) -> str:
    """The command that runs a document on data of a kind, with YES=1 where it would otherwise ask for it."""
    data = {"demo": "", "real": " DATA_ROOT=DIR", "full": " DATA_ROOT=data/synthetic/full"}[kind]
    layouts = " ".join(dict.fromkeys(reader_of(dataset).NAME for _, dataset in document.runs()))
    made = f"python -m common.datasets make --like {layouts} --size full && " if kind == "full" else ""
    hours = gpu_hours(paper, document, kind) if kind != "demo" and paper.real_data_cost else 0
    confirmed = " YES=1" if 3600 * hours > ASK_ABOVE_SECONDS else ""
    return f"{made}{paper.command}{data} ONLY={document.id}{confirmed}"


def trainings(document: Document, kind: str) -> set[tuple[str, str]]:
    """(run, data set or trial) of each network that the rows need with one seed; a demo has only the first trial."""
    return {
        (row.run.label, trial)
        for row, dataset in document.runs()
        if row.fits(kind) and row.run.trains
        for trial in trials_of(dataset)[: 1 if kind == "demo" else None]
    }


def gpu_hours(paper: PaperSpec, document: Document, kind: str) -> float:
    """Estimate for the document at the paper's settings. The paper's spec must have a `real_data_cost`."""
    cost, data_sets = paper.real_data_cost, [trial_of(trial) for _, trial in trainings(document, kind)]
    hours = cost.gpu_hours_per_run * sum(cost.times.get(dataset, 1.0) for dataset in data_sets)
    return round(hours + sum(cost.gpu_hours_before.get(dataset, 0.0) for dataset in set(data_sets)), 1)


def unpublished(paper: PaperSpec, document: Document) -> str:
    """The line of a document without any run on real data: the command, and what it takes."""
    command, cost = f"`{make_command(paper, document, 'real')}`", paper.real_data_cost
    runs = len(trainings(document, "real"))
    if cost is None or not runs:
        return f"{command}."
    data_sets = {trial_of(trial) for _, trial in trainings(document, "real")}
    disk = round(
        max(cost.disk_gb_of.get(dataset, cost.disk_gb) for dataset in data_sets) + cost.disk_gb_per_run * runs, 1
    )
    number = "one training" if runs == 1 else f"{runs} trainings"
    hours = gpu_hours(paper, document, "real")
    return f"{command} ({number}, about {hours:g} GPU hours, {disk:g} GB of disk)."
