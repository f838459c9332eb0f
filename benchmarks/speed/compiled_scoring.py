"""Scores by compiled code that sorts per query, as fast-reid's does; compiled where the system has a C compiler."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("sort_per_query.c")


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compile_scoring() -> Callable[..., tuple[float, float]]:
    """A function of distances, (Q, G) float32, query ids, gallery ids, query cameras and gallery cameras, that returns
    CMC at rank 1 and mAP by the Market-1501 rule; equal distances rank by position. RuntimeError: no compiler."""
    if (command := compiler()) is None:
        raise RuntimeError("no C compiler: neither cc, gcc nor clang is in PATH")
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/sort_per_query.so"
        subprocess.run([command, "-O3", "-shared", "-fPIC", "-o", library, str(SOURCE)], check=True)
        compiled = ctypes.CDLL(library).score  # stays loaded when the file is gone

    def score(distances, *labels) -> tuple[float, float]:
        distances = np.ascontiguousarray(distances, np.float32)
        columns = [np.ascontiguousarray(values, np.int64) for values in labels]
        scores = np.empty(2)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (distances, *columns, scores)]
        sizes = map(ctypes.c_int64, distances.shape)
        if compiled(pointers[0], *sizes, *pointers[1:]):
            raise MemoryError("compiled scoring")
        return tuple(scores.tolist())

    return score
