"""A run trained in two processes; one process then computes the same scores from its checkpoint."""

import json
import subprocess
import sys

import pytest
import torch

from common.datasets.synthetic import make_dataset
from common.evaluation import evaluate_first_search
from common.paths import REPOSITORY
from ndmf_net.evaluate import load_run


@pytest.fixture
def one_thread():
    """As torchrun gives each process; another number of threads rounds differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_run_of_two_processes_has_the_scores_that_one_process_computes(tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv("REID_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_dataset(tmp_path / "market1501", size="tiny", processes=1)
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "ndmf_net.train", "--demo", "--device", "cpu", "--data-root", str(tmp_path)]
    command += ["--run-dir", str(run), "--set", "num_epochs=1"]
    finished = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    record = json.loads((run / "result.json").read_text())
    assert record["machine"]["processes"] == 2
    assert finished.stdout.count("Rank-1") == 1  # one process prints

    loaded = load_run(run, "cpu")
    scores = evaluate_first_search(loaded.embed, loaded.run.dataset, loaded.run.settings)
    assert scores.pop("cmc") == pytest.approx(record["scores"].pop("cmc"), abs=1e-9)
    assert scores == pytest.approx(record["scores"], abs=1e-9)
