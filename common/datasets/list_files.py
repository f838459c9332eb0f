"""Text files that list a subset's images with their labels, one a line, as in MSMT17 and RegDB."""

from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError


def read_list(path: Path, layout: str) -> list[tuple[str, int]]:
    """(image as written, label) of each line `0000/0000_045_12_0303morning_0006_2.jpg 0`; blank lines are skipped.

    layout: shown by errors. UserError: no such file, an empty file, or a malformed line (with its number).
    """
    if not path.is_file():
        raise UserError(f"{path} is missing. Expected:\n{layout}")
    entries = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        image, _, label = line.strip().rpartition(" ")
        if not image.strip() or not label.isdigit():
            raise UserError(f"{path}, line {number}: expected an image and its label, as in `a/b.jpg 0`, got {line!r}")
        entries.append((image.strip(), int(label)))
    if not entries:
        raise UserError(f"{path} lists no images: it was damaged in copying; unpack the download again")
    return entries


def refuse_missing(paths: Iterable[Path], source: Path, shown: int = 5) -> None:
    """UserError if any of `paths`, which the file `source` lists, is missing: their number and the first `shown`."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = "\n".join(f"  {path}" for path in missing[:shown])
        more = f"\n  and {len(missing) - shown:,} more" if len(missing) > shown else ""
        raise UserError(
            f"{source} lists {len(missing):,} images that are not on disk:\n{names}{more}\n"
            "The copy is incomplete: unpack the download again, or correct the list."
        )
