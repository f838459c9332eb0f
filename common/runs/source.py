"""A hash of the source that a program can execute. Every Python version computes the same hash."""

import ast
import hashlib
import io
import tokenize
from importlib.util import find_spec
from pathlib import Path

OURS = ("common", "benchmarks")  # besides the program's own package
NOT_FOLLOWED = ("common.datasets.synthetic",)  # the data set's version and fingerprint cover its output


def source_hash(module: str) -> str:
    """16 hex digits over the code of `module` and of all modules of this repository that it imports, directly or not.

    Comments, docstrings and blank lines do not count. Imports inside functions count too.
    """
    digest = hashlib.sha256()
    for name, file in sorted(imported_modules(module).items()):
        digest.update(f"{name}\n{code_of(file.read_text())}\n".encode())
    return digest.hexdigest()[:16]


def imported_modules(module: str) -> dict[str, Path]:
    """{dotted name: file} of the module and what it imports from its own package and from OURS, packages included."""
    packages = {module.partition(".")[0], *OURS}
    found: dict[str, Path] = {}
    waiting = _with_parents(module)
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in packages or name.startswith(NOT_FOLLOWED):
            continue
        file = _file_of(name)
        if file is not None:  # else a name defined inside a module
            found[name] = file
            waiting += imports_of(file.read_text(), name, is_package=file.name == "__init__.py")
    return found


def code_of(text: str) -> str:
    """Python source without comments, docstrings, blank lines and trailing spaces."""
    lines = text.encode().split(b"\n")
    for row, begin, end in sorted([*_comments(text), *_docstrings(text, lines)], reverse=True):
        lines[row] = lines[row][:begin] + lines[row][end:]
    return "\n".join(line for line in (line.decode().rstrip() for line in lines) if line)


def _comments(text: str) -> list[tuple[int, int, int]]:
    """(row, first byte, last byte) of each comment; rows count from 0."""
    spans = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            begin = len(token.line[: token.start[1]].encode())
            spans.append((token.start[0] - 1, begin, begin + len(token.string.encode())))
    return spans


def _docstrings(text: str, lines: list[bytes]) -> list[tuple[int, int, int]]:
    """(row, first byte, last byte) of each line of each docstring."""
    spans = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or not node.body:
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            for row in range(first.lineno - 1, first.end_lineno):
                begin = first.col_offset if row == first.lineno - 1 else 0
                end = first.end_col_offset if row == first.end_lineno - 1 else len(lines[row])
                spans.append((row, begin, end))
    return spans


def imports_of(text: str, module: str, *, is_package: bool) -> list[str]:
    """Dotted names that a module's source imports; of `from x import y` both x and x.y."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names += _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parent = ".".join(parts[: len(parts) + is_package - node.level])
                base = f"{parent}.{base}" if base else parent
            names += _with_parents(base)
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def _with_parents(name: str) -> list[str]:
    """a.b.c -> a, a.b, a.b.c: importing a module runs its packages."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _file_of(name: str) -> Path | None:
    """The file of a module, found without importing anything."""
    package, *rest = name.split(".")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations)), *rest)
    files = [path / "__init__.py", path.with_suffix(".py")] if rest else [path / "__init__.py"]
    return next((file for file in files if file.is_file()), None)
