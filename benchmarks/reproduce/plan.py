"""The runs that the chosen documents need, and the state of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims import rows_of
from benchmarks.pages.compared import labels_of
from benchmarks.spec import BASELINES, Document, PaperSpec, Row, RunSpec
from common.datasets import open_dataset, trial_of, trials_of
from common.datasets.base import DataSet
from common.errors import UserError
from common.paper import images_per_epoch, load_paper
from common.runs import Run, open_run
from common.runs.record import program_directory, read_record
from common.runs.source import source_hash

PAIRS = "pairs"  # the scope of the headline documents' rows in the project's first table: a method and its baseline
COMPARISON = "comparison"  # the scope of the runs that the page of all papers' models shows, whatever their documents'
KEEP_WEIGHTS = ("pretrain_pose",)  # programs that train what other runs share, again only with --force


@dataclass
class PlannedRun:
    """One run of the plan. seconds: estimate of what is still to do, 0 if its result is reused."""

    name: str
    directory: Path
    module: str  # `python -m` this
    arguments: list[str]
    state: str  # new | interrupted | finished | stale | different, see Run.state
    images: int  # to train on, in all epochs still to do
    evaluated: int  # images to extract features of
    run: Run | None = None  # None for a program without training
    seconds: float = 0.0
    after: Path | None = None  # the directory of the run that it starts from

    @property
    def to_do(self) -> bool:
        return self.state not in ("finished", "stale")


@dataclass(frozen=True)
class Plan:
    documents: list[Document]  # the chosen ones
    runs: list[PlannedRun]
    left_out: list[str]  # a line for each data set that cannot be opened, with the reason
    kind: str  # of the data: real | demo | full

    @property
    def to_do(self) -> list[PlannedRun]:
        return [run for run in self.runs if run.to_do]

    @property
    def seconds(self) -> float:
        return sum(run.seconds for run in self.to_do)

    def trained(self, label: str, dataset: str | None = None) -> PlannedRun | None:
        """The first seed's run of a variant, on a data set if one is named."""
        fitting = [run for run in self.runs if run.run and run.run.variant == label]
        return next((run for run in fitting if dataset in (None, run.run.dataset.name)), None)


def chosen_documents(paper: PaperSpec, scope: str, only: Sequence[str]) -> list[Document]:
    """The documents in the scope, or those that `only` names. Scope `all` has every table and figure, but not the
    decisions."""
    if only:
        return [document for document in paper.documents if document.id in only]
    scopes = {"all": ("headline", "all"), PAIRS: ("headline",)}.get(scope, (scope,))
    return [document for document in paper.documents if document.scope in scopes]


def chosen_rows(paper: PaperSpec, scope: str, only: Sequence[str], *, demo: bool) -> list[tuple[Row, str, Document]]:
    """(row, data set, document) of our rows in the scope, or of those that `only` names by document or variant.

    A demo includes the paper's other data sets only with scope `all` or for a named document, and only the first trial
    of a data set with trials. Scope PAIRS leaves out what is trained for other rows than those of `pair_of`, where the
    paper has such a pair. UserError: a name that nothing has; the comparison of models on real data.
    """
    if scope == COMPARISON and not demo:
        raise UserError("the comparison of models is of synthetic pedestrians at demo size: run it without DATA_ROOT")
    rows = [
        (row, trial, document)
        for document in paper.documents
        for row, dataset in document.runs()
        for trial in trials_of(dataset)[: 1 if demo else None]
    ]

    def in_scope(dataset: str) -> bool:
        return not demo or scope == "all" or trial_of(dataset) in paper.demo_data_sets

    if not only:
        documents = chosen_documents(paper, scope, only)
        labels = labels_of(paper.paper) if scope == COMPARISON else ()
        chosen = [entry for entry in rows if entry[2] in documents or entry[0].run.label in labels]
        pair = pair_of(paper) if scope == PAIRS else set()
        chosen = [entry for entry in chosen if not pair or entry[0].run.label in pair or not entry[0].run.trains]
        return [entry for entry in chosen if in_scope(entry[1])]
    names = {document.id for document in paper.documents} | {row.run.label for row, _, _ in rows}
    for name in only:
        if name not in names:
            raise UserError(f"nothing in {paper.paper} is named '{name}'. ONLY accepts: {', '.join(sorted(names))}")
    return [entry for entry in rows if entry[2].id in only or (entry[0].run.label in only and in_scope(entry[1]))]


def pair_of(paper: PaperSpec) -> set[str]:
    """The runs of the paper's first claim in the project's README: its method and its baseline. Empty without one."""
    claim = next((claim for claim in paper.claims if claim.headline), None)
    if claim is None or not claim.over:
        return set()
    compared = (claim.document, claim.row), (claim.over_document or claim.document, claim.over)
    rows = [row for document, method in compared for row in rows_of(paper.document(document), method)]
    return {row.run.label for row in rows if row.run}


def with_starts(paper: PaperSpec, rows: Sequence[tuple[Row, str, Document]]) -> list[tuple[Row, str]]:
    """(row, data set) of the rows, and ahead of the first whose setting `start_from` names another run that run's."""
    ours = {row.run.label: row.run for document in paper.documents for row, _ in document.runs()}
    found, added = [], set()
    for row, dataset, _ in rows:
        start = ours.get(row.run.set.get("start_from"))
        if start and (start.label, dataset) not in added:
            added.add((start.label, dataset))
            found.append((Row(method=start.label, run=start, only=row.only), dataset))
        found.append((row, dataset))
    return found


def make_plan(
    paper: PaperSpec,
    *,
    scope: str,
    only: Sequence[str],
    seeds: Sequence[int],
    data_root: Path | None,
    device: str,
    force: bool,
) -> Plan:
    """The runs that the chosen rows need, each once, with its state in the runs folder.

    data_root: real data, at the paper's settings; None for synthetic data at demo size.
    A run that others start from is planned with them; force does not reach it where nobody asked for it.
    UserError: none of the data sets is there.
    """
    rows = chosen_rows(paper, scope, only, demo=data_root is None)
    if not rows:
        raise UserError(f"specs/{paper.paper}.yaml has no document of scope '{scope}' with a run")
    datasets, left_out = _open_data_sets(dict.fromkeys(dataset for _, dataset, _ in rows), data_root)
    if not datasets:
        raise UserError("nothing can be run:\n       " + "\n       ".join(left_out))
    data_arguments = ["--data-root", str(data_root)] if data_root else ["--demo"]
    planned: dict[str, PlannedRun] = {}
    asked = {(row.run.label, name) for row, name, _ in rows}
    for row, name in with_starts(paper, rows):
        dataset = datasets.get(name)
        if dataset is None or not row.fits(dataset.kind):
            continue
        again = force and (row.run.label, name) in asked
        for seed in seeds if row.run.program == "train" else [0]:
            if row.run.program == "train":
                run = _plan_training(paper.paper, row.run, dataset, seed, device, data_arguments, again)
                start = planned.get(f"{dataset.name}-{dataset.kind}-{row.run.set.get('start_from')}-s{seed}")
                run.after = start.directory if start else None
            else:
                run = _plan_program(paper.paper, row.run, dataset, device, data_arguments, again)
            planned.setdefault(run.name, run)
    kind = next(iter(datasets.values())).kind
    return Plan(chosen_documents(paper, scope, only), list(planned.values()), left_out, kind)


def _open_data_sets(names: Sequence[str], data_root: Path | None) -> tuple[dict[str, DataSet], list[str]]:
    """The data sets that are there, and a line for each that is not."""
    found, left_out = {}, []
    for name in names:
        try:
            found[name] = open_dataset(name, data_root, size="demo")
        except UserError as error:
            left_out.append(f"{name}: {error}")
    return found, left_out


def _plan_training(
    paper: str, spec: RunSpec, dataset: DataSet, seed: int, device: str, data_arguments: list[str], force: bool
) -> PlannedRun:
    arguments = [*data_arguments, "--dataset", dataset.name, "--variant", spec.variant, "--seed", str(seed)]
    arguments += ["--device", device]
    arguments += ["--set", *(f"{key}={value}" for key, value in spec.set.items())] if spec.set else []
    run = open_run(paper, load_paper(paper).settings.Settings, arguments)
    state = run.state()
    epochs = run.settings.num_epochs
    if force and state != "new":
        state = "new"
        arguments.append("--force")
    elif state == "interrupted":
        arguments.append("--resume")
        log = run.directory / "log.jsonl"
        epochs -= len(log.read_text().splitlines()) if log.is_file() else 0
    elif state == "different":
        if dataset.kind != "demo":
            raise UserError(
                f"{run.directory} holds a run with other settings or data: move it away, or replace it with "
                "FORCE=1 (--force)"
            )
        arguments.append("--force")
    return PlannedRun(
        name=run.directory.name,
        directory=run.directory,
        module=f"{paper}.train",
        arguments=arguments,
        state=state,
        images=max(epochs, 0) * images_per_epoch(load_paper(paper), run),
        evaluated=sum({part.name: len(part) for s in dataset.searches for part in (s.query, s.gallery)}.values()),
        run=run,
    )


def _plan_program(
    paper: str, spec: RunSpec, dataset: DataSet, device: str, data_arguments: list[str], force: bool
) -> PlannedRun:
    """Programs are quick: a result that is not up to date is computed again."""
    directory, module = program_directory(paper, spec.program, dataset), spec.module(paper)
    record = read_record(directory / "result.json")
    current = record and (record.data.fingerprint, record.source_hash) == (dataset.fingerprint, source_hash(module))
    arguments = ["--dataset", dataset.name, *data_arguments, "--device", device]
    if spec.program in BASELINES:
        arguments = [spec.program, "--paper", paper, *arguments]
    elif force and spec.program in KEEP_WEIGHTS:
        arguments.append("--force")
    state = "finished" if current and not force else "new"
    return PlannedRun(directory.name, directory, module, arguments, state, 0, 0)
