"""What every paper folder must show, whichever paper it is: import rules, that a copy of it works, and its errors."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.spec import known_papers
from common.datasets.synthetic import make_dataset
from common.provenance import REPOSITORY

PAPERS = known_papers()


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
    """A root with a tiny synthetic Market-1501."""
    root = tmp_path_factory.mktemp("data")
    make_dataset(root / "market1501", like="market1501", size="tiny")
    return root


@pytest.fixture
def tree(tmp_path):
    """A place with common and a copy of a paper: tree(paper, name) makes it and returns the folder."""

    def make(paper, name):
        (tmp_path / "common").symlink_to(REPOSITORY / "common")
        shutil.copytree(REPOSITORY / paper, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        return tmp_path

    return make


def train(folder, package, *arguments, **environment):
    """Run a paper's train.py in a folder, offline and away from the checkout's own runs and data."""
    clean = {key: value for key, value in os.environ.items() if key not in ("DATA_ROOT", "PYTHONPATH")}
    places = {name: str(folder / name.lower()) for name in ("REID_RUNS", "REID_DATA", "TORCH_HOME")}
    offline = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
    return subprocess.run(
        [sys.executable, "-m", f"{package}.train", "--device", "cpu", *map(str, arguments)],
        cwd=folder,
        env=clean | places | offline | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("paper", PAPERS)
def test_a_copied_folder_trains_at_once_in_its_own_run_directory(paper, tree, tiny):
    folder = tree(paper, "my_idea")
    done = train(folder, "my_idea", "--demo", "--data-root", tiny, "--set", "num_epochs=1")
    assert done.returncode == 0, done.stderr
    (result,) = (folder / "reid_runs" / "my_idea").glob("*/result.json")
    assert '"paper": "my_idea"' in result.read_text()
    assert not (folder / "reid_runs" / paper).exists()


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--data-root", "nowhere"], ["market1501", "nowhere", "bounding_box_train"]),
        (["--demo", "--set", "num_epoch=1"], ["num_epoch", "did you mean 'num_epochs'?"]),
        (["--demo", "--set", "num_epochs=-1"], ["num_epochs", "-1", "greater than or equal to 0"]),
        (["--demo", "--variant", "ful"], ["unknown variant 'ful'", "did you mean 'full'?"]),
        (["--demo", "--dataset", "market1502"], ["market1502", "market1501"]),
    ],
    ids=["data set missing", "unknown key", "value out of range", "unknown variant", "unknown data set"],
)
def test_a_mistake_gives_one_message_and_exit_code_2(paper, arguments, messages, tree):
    folder = tree(paper, paper)
    assert_one_message(train(folder, paper, *arguments), messages)
    assert not (folder / "reid_runs").exists()


@pytest.mark.parametrize("paper", PAPERS)
def test_weights_that_cannot_be_fetched_are_said_with_the_ways_on(paper, tree, tiny):
    done = train(tree(paper, paper), paper, "--demo", "--data-root", tiny, "--set", "pretrained=imagenet")
    assert_one_message(done, ["pretrained: imagenet", "download.pytorch.org", "pretrained=none", "checkpoints"])


def assert_one_message(done: subprocess.CompletedProcess, parts: list[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr, done.stderr
    for part in parts:
        assert part in done.stderr
