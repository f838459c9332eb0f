"""The source hash covers what a program can execute, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import REPOSITORY
from common.runs import source
from common.runs.source import code_of, imported_modules, source_hash

EXAMPLE = '''"""A module."""
# a comment
import os  # noqa
def f(x, *, y="# no comment"):
    """One line."""; z = 1
    return f"{x!r:#>10} {y["a"] if y else 'é'} # no comment"  # é
class C:
    """Several

    lines."""

    """not a docstring"""
    async def g(self):
        "also a docstring"
        return """kept
# kept
"""
'''
EXAMPLE = EXAMPLE.replace('y["a"]', "y['a']").replace("'é'", "1")  # nested quotes are Python 3.12's


def test_code_is_what_remains_without_comments_docstrings_and_blank_lines():
    assert code_of(EXAMPLE).split("\n") == [
        "import os",
        'def f(x, *, y="# no comment"):',
        "    ; z = 1",
        "    return f\"{x!r:#>10} {y['a'] if y else 1} # no comment\"",
        "class C:",
        '    """not a docstring"""',
        "    async def g(self):",
        '        return """kept',
        "# kept",
        '"""',
    ]


def interpreters():
    """This Python and the others on this machine."""
    found = [sys.executable]
    for version in ("3.11", "3.12", "3.13"):
        python = shutil.which(f"python{version}")
        if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            found.append(python)
    return found


@pytest.mark.parametrize("python", interpreters())
def test_every_python_computes_the_same_hash(python, tmp_path):
    (tmp_path / "example").mkdir()
    (tmp_path / "example" / "__init__.py").touch()
    (tmp_path / "example" / "train.py").write_text(EXAMPLE)
    program = (
        f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); module = runpy.run_path({source.__file__!r}); "
        "print(module['source_hash']('example.train'))"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "9b65cea7e5f62e93"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Returns a function that writes modules of a package and hashes its `train`."""
    (tmp_path / "some_paper").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**modules):
        for name, text in ({"__init__": ""} | modules).items():
            (tmp_path / "some_paper" / f"{name}.py").write_text(text)
        return source_hash("some_paper.train")

    return write


def test_the_hash_follows_imports_into_functions_and_common(package):
    modules = {
        "train": "from .model import f\ndef g():\n    from . import late\n",
        "model": "import common.errors\ndef f(): return 1\n",
        "late": "x = 1\n",
        "figures": "x = 1\n",
        "model_test": "x = 1\n",
    }
    first = package(**modules)
    names = set(imported_modules("some_paper.train"))
    assert {"some_paper", "some_paper.train", "some_paper.model", "some_paper.late"} <= names
    assert {"common", "common.errors"} <= names and "some_paper.figures" not in names
    assert package(**modules | {"figures": "x = 2\n", "model_test": "x = 2\n"}) == first
    assert package(**modules | {"model": '"""Docs."""\nimport common.errors\n\ndef f(): return 1  # one\n'}) == first
    assert package(**modules | {"model": "import common.errors\ndef f(): return 2\n"}) != first
    assert package(**modules | {"late": "x = 2\n"}) != first


def test_a_papers_training_reads_common_and_leaves_out_the_generator_and_other_papers():
    found = imported_modules("ndmf_net.train")
    assert {"common.metrics.ranking", "common.runs.meter", "ndmf_net.losses"} <= set(found)
    assert not [name for name in found if name.startswith(("common.datasets.synthetic", "mgre", "benchmarks"))]
    assert "common.evaluation.report" not in found  # scoring again is another program
    assert all(Path(file).is_relative_to(REPOSITORY) for file in found.values())
