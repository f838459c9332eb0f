"""The commands that the pages name, and what they cost."""

from benchmarks.spec import Document, PaperSpec
from common.datasets import reader_of, trials_of

ASK_ABOVE_SECONDS = 2 * 3600  # `make reproduce` refuses a longer plan without YES=1


def make_command(paper: PaperSpec, document: Document, kind: str) -> str:
    """The command that runs a document on data of a kind, with YES=1 where it would otherwise ask for it."""
    data = {"demo": "", "real": " DATA_ROOT=DIR", "full": " DATA_ROOT=data/synthetic/full"}[kind]
    layouts = " ".join(dict.fromkeys(reader_of(dataset).NAME for _, dataset in document.runs()))
    made = f"python -m common.datasets make --like {layouts} --size full && " if kind == "full" else ""
    cost = paper.real_data_cost if kind != "demo" else None
    hours = cost.gpu_hours_per_run * num_trainings(document, kind) if cost else 0
    confirmed = " YES=1" if 3600 * hours > ASK_ABOVE_SECONDS else ""
    return f"{made}{paper.command}{data} ONLY={document.id}{confirmed}"


def num_trainings(document: Document, kind: str) -> int:
    """How many networks the document's rows need on data of a kind with one seed; a demo has only the first trial."""
    wanted = {(row.run.label, dataset) for row, dataset in document.runs() if row.fits(kind) and row.run.trains}
    return sum(1 if kind == "demo" else len(trials_of(dataset)) for _, dataset in wanted)


def unpublished(paper: PaperSpec, document: Document) -> str:
    """The line of a document without any run on real data: the command, and what it takes."""
    command, cost = f"`{make_command(paper, document, 'real')}`", paper.real_data_cost
    runs = num_trainings(document, "real")
    if cost is None or not runs:
        return f"{command}."
    hours, disk = cost.gpu_hours_per_run * runs, cost.disk_gb + cost.disk_gb_per_run * runs
    number = "one training" if runs == 1 else f"{runs} trainings"
    return f"{command} ({number}, about {hours:g} GPU hours and {disk:g} GB of disk)."
