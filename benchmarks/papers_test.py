"""What every paper folder must show, whichever paper it is: import rules, that a copy of it works, and its errors."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.spec import known_papers, load_spec
from common.datasets import reader_of
from common.datasets.synthetic import make_dataset
from common.provenance import REPOSITORY

PAPERS = known_papers()
DATA_SETS = {paper: load_spec(paper).demo_data_sets[0] for paper in PAPERS}  # that its train.py takes by itself


def imported_packages(file: Path) -> set[str]:
    """Top-level packages that a file imports absolutely; `.` stands for imports relative to its own folder."""
    packages = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add(node.module.split(".")[0] if node.level == 0 else "." * node.level)
    return packages


def modules(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_imports_common_and_its_own_folder_relatively(paper):
    files = modules(paper)
    assert files
    for file in files:
        packages = imported_packages(file)
        forbidden = {"benchmarks", ".." if file.parent.name == paper else "..."} | set(PAPERS)
        if file.name.endswith("_test.py"):
            forbidden -= {paper}  # tests are run from the repository's root
        assert not packages & forbidden, f"{file} imports {packages & forbidden}"


def test_common_imports_no_paper_and_no_benchmark():
    for file in modules("common"):
        found = imported_packages(file) & {*PAPERS, "benchmarks"}
        assert not found, f"{file} imports {found}"


def test_import_rules_are_seen(tmp_path):
    (tmp_path / "x.py").write_text("import ndmf_net.model\nfrom benchmarks import spec\nfrom ..other import y\n")
    assert imported_packages(tmp_path / "x.py") == {"ndmf_net", "benchmarks", ".."}


# ------------------------------------------------------------------ commands


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A root with each paper's data set, drawn at tiny size."""
    root = tmp_path_factory.mktemp("data")
    others = ["regdb"] if "sysu_mm01" in DATA_SETS.values() else []
    for name in dict.fromkeys([*(reader_of(dataset).NAME for dataset in DATA_SETS.values()), "dukemtmcreid", *others]):
        make_dataset(root / name, like=name, size="tiny")
    return root


def copy_paper(place, paper, name):
    """Common and a copy of a paper's folder in a place of their own; returns the place."""
    (place / "common").symlink_to(REPOSITORY / "common")
    shutil.copytree(REPOSITORY / paper, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


@pytest.fixture(scope="module", params=PAPERS)
def copied_run(request, tmp_path_factory, tiny):
    """A copied paper after an epoch on tiny data: (name of the paper, place, run directory)."""
    place = copy_paper(tmp_path_factory.mktemp(request.param), request.param, "my_idea")
    done = train(place, "my_idea", "--demo", "--data-root", tiny, "--set", "num_epochs=1")
    assert done.returncode == 0, done.stderr
    (result,) = (place / "reid_runs" / "my_idea").glob("*/result.json")
    return request.param, place, result.parent


def train(folder, package, *arguments, **environment):
    """Run a paper's train.py in a folder, offline and away from the checkout's own runs and data."""
    return run_module(folder, f"{package}.train", "--device", "cpu", *arguments, **environment)


def run_module(folder, module, *arguments, **environment):
    clean = {key: value for key, value in os.environ.items() if key not in ("DATA_ROOT", "PYTHONPATH")}
    places = {name: str(folder / name.lower()) for name in ("REID_RUNS", "REID_DATA", "TORCH_HOME")}
    offline = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=folder,
        env=clean | places | offline | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_copied_folder_trains_at_once_in_its_own_run_directory(copied_run):
    paper, place, directory = copied_run
    assert json.loads((directory / "result.json").read_text())["paper"] == "my_idea"
    assert not (place / "reid_runs" / paper).exists()


def test_a_finished_run_is_scored_again_and_on_another_data_set(copied_run, tiny):
    paper, place, directory = copied_run
    name = DATA_SETS[paper]
    multi_query = ["--multi-query"] if name == "market1501" else []
    done = run_module(place, "my_idea.evaluate", directory, "--rerank", "--device", "cpu", *multi_query)
    assert done.returncode == 0, done.stderr
    (folder,) = (directory / "evaluation").glob(f"{name}-tiny")
    found = json.loads((folder / "scores.json").read_text())
    trained = json.loads((directory / "result.json").read_text())["scores"]
    first, reranked = list(found["scores"].values())[:2]
    assert first["mAP"] == pytest.approx(trained["mAP"], abs=1e-6) and first["rank1"] == trained["rank1"]
    assert reranked != first and ("multi_query" in found["scores"]) == bool(multi_query)
    assert f"{100 * first['mAP']:.1f}" in (folder / "table.md").read_text()
    for picture in ("cmc.png", "retrieval.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    other = "regdb" if name == "sysu_mm01" else "dukemtmcreid"
    done = run_module(place, "my_idea.evaluate", directory, "--dataset", other, "--data-root", tiny, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert (directory / "evaluation" / f"{other}-tiny" / "scores.json").is_file()


def test_a_folder_that_holds_no_run_of_the_paper_is_refused(copied_run, tmp_path):
    _, place, directory = copied_run
    assert_one_message(run_module(place, "my_idea.evaluate", tmp_path), ["is not a run directory", str(tmp_path)])
    (tmp_path / "run.json").write_text(json.dumps(json.loads((directory / "run.json").read_text()) | {"paper": "x"}))
    assert_one_message(run_module(place, "my_idea.evaluate", tmp_path), ["holds a run of x, not of my_idea"])


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--data-root", "nowhere"], ["{dataset}", "nowhere", "{landmark}"]),
        (["--demo", "--set", "num_epoch=1"], ["num_epoch", "did you mean 'num_epochs'?"]),
        (["--demo", "--set", "num_epochs=-1"], ["num_epochs", "-1", "greater than or equal to 0"]),
        (["--demo", "--variant", "ful"], ["unknown variant 'ful'", "did you mean 'full'?"]),
        (["--demo", "--dataset", "market1502"], ["market1502", "market1501"]),
    ],
    ids=["data set missing", "unknown key", "value out of range", "unknown variant", "unknown data set"],
)
def test_a_mistake_gives_one_message_and_exit_code_2(paper, arguments, messages, tmp_path):
    folder = copy_paper(tmp_path, paper, paper)
    names = {"dataset": DATA_SETS[paper], "landmark": reader_of(DATA_SETS[paper]).LANDMARKS[0]}
    messages = [message.format_map(names) if "{" in message else message for message in messages]
    assert_one_message(train(folder, paper, *arguments), messages)
    assert not (folder / "reid_runs").exists()


@pytest.mark.parametrize("paper", PAPERS)
def test_weights_that_cannot_be_fetched_are_said_with_the_ways_on(paper, tmp_path, tiny):
    done = train(
        copy_paper(tmp_path, paper, paper), paper, "--demo", "--data-root", tiny, "--set", "pretrained=imagenet"
    )
    assert_one_message(done, ["pretrained: imagenet", "download.pytorch.org", "pretrained=none", "checkpoints"])


def assert_one_message(done: subprocess.CompletedProcess, parts: list[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr, done.stderr
    for part in parts:
        assert part in done.stderr
