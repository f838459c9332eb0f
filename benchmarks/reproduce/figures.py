"""The figures of a plan's documents that need its trained networks, drawn by the paper's figures.py."""

import json
from pathlib import Path

from benchmarks.spec import Document, PaperSpec
from benchmarks.start.maps import start_maps
from common.errors import UserError
from common.files import read_json, write_text
from common.paper import load_paper
from common.runs.record import read_record

from .plan import Plan, PlannedRun

SHARED = {"start_maps": start_maps}  # figures that any paper's spec may have, by the document's id


def draw_from_runs(paper: PaperSpec, plan: Plan, folder: Path) -> None:
    """Draw the plan's figures of trained networks, unless they were drawn from the same runs before."""
    for document in plan.documents:
        if document.kind != "figure":
            continue
        found = {row.method: plan.trained(row.run.label, document.data_set_of(row)) for row in document.rows if row.run}
        runs = {method: run for method, run in found.items() if run is not None and _is_finished(run)}
        if len(runs) != len(document.rows):
            continue
        file = folder / f"{document.id}-{plan.kind}.png"
        origin = {method: _origin(run) for method, run in runs.items()}
        drawn = read_json(file.with_suffix(".json"))
        if drawn and drawn["runs"] == origin and file.is_file():
            continue
        print(f"drawing {document.name}", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        data = _draw(paper.paper, document, runs, file)
        write_text(file.with_suffix(".json"), json.dumps({"runs": origin, **data}, indent=1))


def _is_finished(planned: PlannedRun) -> bool:
    return (planned.directory / "result.json").is_file()


def _origin(planned: PlannedRun) -> dict:
    record = read_record(planned.directory / "result.json")
    return {"run": record.run, "finished": record.finished, "data": record.data.fingerprint}


def _draw(paper: str, document: Document, runs: dict[str, PlannedRun], file: Path) -> dict:
    modules = load_paper(paper)
    draw = getattr(modules.figures, document.id, None) or SHARED.get(document.id)
    if draw is None:
        raise UserError(f"{paper}/figures.py has no function `{document.id}`, which specs/{paper}.yaml needs")
    load_run = modules.evaluate.load_run
    return draw({method: load_run(run.directory, str(run.run.device)) for method, run in runs.items()}, file)
