"""Whole runs on a pretend GPU: training, interruption, resuming, scoring and figures are those of the CPU."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from PIL import Image

from benchmarks.gpu_runs import GPU, PAPERS, command_line, small_runs, waits_between_steps
from benchmarks.pretend_gpu import GPUTensor, PretendGPU
from benchmarks.reproduce.figures import SHARED
from benchmarks.spec import load_spec
from common import devices
from common.evaluation import report
from common.paper import load_paper
from common.runs import meter
from common.runs.record import Record, read_record

pytestmark = pytest.mark.filterwarnings("ignore:k1 is")  # of re-ranking: tiny galleries

BY_PAPER = [pytest.param(paper, marks=pytest.mark.xdist_group(f"gpu {paper}")) for paper in PAPERS]
EPOCHS = {"fgsam": 3}  # a phase each; of the others two, so that one is before the interruption and one after it


class Pair(NamedTuple):
    """The same run on both devices. waits: of the GPU's, from each step to the next."""

    paper: str
    cpu: Path
    gpu: Path
    waits: list[int]

    def records(self) -> tuple[Record, Record]:
        return read_record(self.cpu / "result.json"), read_record(self.gpu / "result.json")


@pytest.fixture(scope="module", params=BY_PAPER)
def trained(request, tmp_path_factory, tiny_data):
    """A Pair. On the GPU the run is interrupted after its first epoch, and resumed."""
    paper, folder = request.param, tmp_path_factory.mktemp(request.param)
    train, saved = load_paper(paper).train, meter.write_checkpoint
    epochs = f"num_epochs={EPOCHS.get(paper, 2)}"
    with small_runs(folder) as patch:
        train.main(command_line(paper, tiny_data, folder / "cpu", epochs, "checkpoint_epochs=9"))

        def stop_after_the_first(directory, checkpoint):
            saved(directory, checkpoint)
            if checkpoint["epoch"] == 1 and directory == folder / "gpu":
                raise KeyboardInterrupt

        words = command_line(paper, tiny_data, folder / "gpu", epochs, "checkpoint_epochs=1", device=GPU)
        with PretendGPU() as gpu, waits_between_steps(gpu) as waits:
            patch.setattr(meter, "write_checkpoint", stop_after_the_first)
            with pytest.raises(SystemExit):
                train.main(words)
            patch.setattr(meter, "write_checkpoint", saved)
            train.main([*words, "--resume"])
        yield Pair(paper, folder / "cpu", folder / "gpu", waits())


def test_log_and_scores_are_those_of_the_cpu(trained):
    cpu, gpu = trained.records()
    assert [without_seconds(entry) for entry in gpu.log] == [without_seconds(entry) for entry in cpu.log]
    assert len(gpu.log) >= 2
    assert gpu.scores == cpu.scores
    assert gpu.machine.device == "cuda"


def without_seconds(entry):
    return {key: value for key, value in entry.items() if key != "seconds"}


def test_a_step_waits_once(trained):
    assert len(trained.waits) >= 2 and set(trained.waits) == {1}


def test_a_run_is_scored_again_and_re_ranked(trained, monkeypatch):
    draw, drawn = report._draw_retrieval, []

    def note(search, features, path):
        drawn.append(features)
        draw(search, features, path)

    monkeypatch.setattr(report, "_draw_cmc", lambda *_: None)
    monkeypatch.setattr(report, "_draw_retrieval", note)
    load_run, cpu = load_paper(trained.paper).evaluate.load_run, trained.records()[0]
    on_cpu = report.evaluate_main(trained.paper, load_run, [str(trained.cpu), "--rerank", "--device", "cpu"])
    with PretendGPU():
        loaded = load_run(trained.gpu, GPU)
        assert all(isinstance(parameter, GPUTensor) for parameter in loaded.model.parameters())
        on_gpu = report.evaluate_main(trained.paper, lambda *_: loaded, [str(trained.gpu), "--rerank"])
    assert len(on_gpu) >= 2 and on_gpu == on_cpu
    assert all(isinstance(features, GPUTensor) for features in drawn[1].values()), "scored where they were extracted"
    assert next(iter(on_gpu.values()))["mAP"] == pytest.approx(cpu.scores["mAP"], abs=1e-6)


def test_figures_are_those_of_the_cpu(trained, tmp_path):
    """A checkpoint of the GPU is loaded without one, too."""
    figures, load_run = load_paper(trained.paper).figures, load_paper(trained.paper).evaluate.load_run
    documents = [document for document in load_spec(trained.paper).documents if document.kind == "figure"]
    assert documents
    drawn = {}
    for device in ("cpu", GPU):
        with PretendGPU() if device == GPU else devices.full_precision(torch.device("cpu")):
            loaded = load_run(trained.gpu, device)
            for document in documents:
                file = tmp_path / f"{document.id}.png"
                draw = getattr(figures, document.id, None) or SHARED[document.id]
                values = draw({row.method: loaded for row in document.rows}, file)
                drawn[document.id, device] = json.loads(json.dumps(values)), file.read_bytes()
    for document in documents:
        (on_cpu, cpu_file), (on_gpu, gpu_file) = drawn[document.id, "cpu"], drawn[document.id, GPU]
        assert on_gpu == on_cpu and gpu_file == cpu_file


# ------------------------------------------------------------------ the papers' other programs, on a trained run


def output_on_both(trained, capsys, program, *words):
    """What a program of the paper prints about the GPU's run on the CPU and on the GPU."""
    main = load_paper(trained.paper).module(program).main
    capsys.readouterr()
    main([str(trained.gpu), *words, "--device", "cpu"])
    on_cpu = capsys.readouterr().out
    with PretendGPU():
        main([str(trained.gpu), *words, "--device", GPU])
    return on_cpu, capsys.readouterr().out


def test_programs_for_a_trained_run(trained, capsys, tmp_path, monkeypatch):
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for file, colour in zip(images, ("red", "navy"), strict=True):
        Image.new("RGB", (64, 128), colour).save(file)
    programs = {
        "fgsam": ("predict_attributes", images, "upper colour"),
        "mgre": ("choose_weights", [], "lambda^F"),
        "mutual_attention": ("verify_images", images, "same person"),
    }
    if trained.paper not in programs:
        pytest.skip("it has none")
    program, words, expected = programs[trained.paper]
    if trained.paper == "mgre":
        monkeypatch.setattr(load_paper("mgre").module("choose_weights"), "GRID", (0.5, 1.0))
    on_cpu, on_gpu = output_on_both(trained, capsys, program, *words)
    assert expected in on_gpu and on_gpu == on_cpu
