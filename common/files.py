"""JSON and YAML files read with clear errors, and files written atomically."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError

PARTIAL = ".partial"  # suffix of a file that is being written


@contextmanager
def written_atomically(file: Path, *, advice: str = "Free some space and try again") -> Iterator[Path]:
    """Yield a temporary path that is renamed to `file` when the block ends, so that `file` is never half written.

    After an error in the block the old `file` is kept. An OSError, such as a full disk, becomes a UserError that ends
    with `advice`.
    """
    partial = file.with_name(file.name + PARTIAL)
    try:
        yield partial
        with open(partial, "rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error}. {advice}") from None
    finally:
        with suppress(OSError):  # if even the folder is unreadable, the error above says so
            partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    with written_atomically(file) as partial:
        partial.write_text(text)


def read_json(file: Path) -> Any | None:
    """A JSON file's contents, None where there is no file. UserError: not valid JSON."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not valid JSON ({error}): remove its folder, or restore the file") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; loading runs no code. An empty file is an empty mapping. UserError: missing, or not YAML."""
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if values is not None and not isinstance(values, dict):
        raise UserError(f"{path} must hold key: value lines")
    return values or {}
