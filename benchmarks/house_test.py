"""Import rules: no cycles, no import of a higher layer by a lower one, and papers that stand alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.spec import known_papers
from common.paths import REPOSITORY
from common.runs.source import imports_of

PAPERS = known_papers()
PACKAGES = ("common", "benchmarks", *PAPERS)


def modules(folder: str, *, tests: bool = False) -> dict[str, Path]:
    """{dotted name: file} of a top-level folder's modules."""
    found = {}
    for file in sorted((REPOSITORY / folder).rglob("*.py")):
        if tests or not (file.name.endswith("_test.py") or file.name == "conftest.py"):
            parts = file.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def graph() -> dict[str, set[str]]:
    """{module: modules that it imports, inside functions too}. Importing a submodule does not count as importing its
    package, which runs before any submodule."""
    known = {name: file for package in PACKAGES for name, file in modules(package).items()}
    edges = {}
    for name, file in known.items():
        asked = imports_of(file.read_text(), name, is_package=file.name == "__init__.py")
        found = {other for other in asked if other in known and other != name}
        parents = {other for other in found if any(part.startswith(other + ".") for part in asked if part in known)}
        edges[name] = found - parents
    return edges


def test_there_is_no_import_cycle():
    edges, done = graph(), set()

    def visit(name, path):
        assert name not in path, f"import cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            for other in sorted(edges[name]):
                visit(other, [*path, name])
            done.add(name)

    for name in edges:
        visit(name, [])


FORBIDDEN_IMPORTS = [  # package -> what it must not import
    ("common", ("benchmarks", *PAPERS)),
    ("common.metrics", ("common.datasets", "common.runs", "common.evaluation", "common.images", "torch.nn")),
    ("common.reranking", ("common.datasets", "common.runs", "common.evaluation")),
    ("common.datasets", ("common.runs", "common.evaluation", "common.reranking", "common.paper")),
    ("common.visualize", ("common.runs", "common.evaluation", "common.paper")),
    ("common.samplers", ("common.runs", "common.evaluation", "common.datasets", "common.paper")),
    ("common.runs", ("common.evaluation", "common.paper", "common.reranking")),
    ("common.evaluation", ("common.paper",)),
    ("benchmarks", PAPERS),
    ("benchmarks.pages", ("benchmarks.reproduce", "benchmarks.publish")),
]


@pytest.mark.parametrize(("package", "forbidden"), FORBIDDEN_IMPORTS, ids=[package for package, _ in FORBIDDEN_IMPORTS])
def test_a_package_imports_only_lower_layers(package, forbidden):
    for name, file in modules(package.partition(".")[0]).items():
        if name == package or name.startswith(package + "."):
            asked = imports_of(file.read_text(), name, is_package=file.name == "__init__.py")
            found = [other for other in asked if other.startswith(tuple(forbidden))]
            assert not found, f"{name} imports {found}"


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_imports_common_and_its_own_folder_relatively(paper):
    files = modules(paper, tests=True)
    assert files
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text())):
            tops = []
            if isinstance(node, ast.Import):
                tops = [alias.name.partition(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                tops = [node.module.partition(".")[0]]
            elif isinstance(node, ast.ImportFrom):
                assert node.level < len(name.split(".")), f"{name} imports from outside its folder"
            assert not {"benchmarks", *PAPERS} & set(tops), f"{name} imports {tops}"


@pytest.mark.parametrize("paper", PAPERS)
def test_a_folder_contains_its_own_name_only_in_the_citation(paper):
    for file in (REPOSITORY / paper).rglob("*"):
        if file.is_file() and file.suffix in (".py", ".yaml", ".md"):
            lines = [line for line in file.read_text().split("\n") if paper in line]
            assert len(lines) <= (file.name == "README.md"), f"{file}: {lines}"


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_imports_at_most_25_names_from_common(paper):
    names = set()
    for file in modules(paper).values():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.partition(".")[0] == "common":
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert len(names) <= 25, sorted(names)


def test_no_module_is_longer_than_250_lines():
    long = {}
    for package in PACKAGES:
        for name, file in modules(package).items():
            if (count := len(file.read_text().splitlines())) > 250:
                long[name] = count
    assert not long


def test_benchmarks_imports_nothing_heavy_before_a_command_needs_it():
    program = "import sys, benchmarks.__main__; print({'torch', 'matplotlib', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
