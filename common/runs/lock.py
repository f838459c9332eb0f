"""One process at a time in a run's directory. The lock ends with the process that holds it, however that ends."""

import errno
import os
import socket
import sys
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import UserError

_held: dict[Path, FileLock] = {}
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # file systems without locks


def lock_file(directory: Path) -> Path:
    """Beside the directory, which a run may replace."""
    return directory.absolute().with_name(f".{directory.name}.lock")


def hold(directory: Path, advice: str) -> None:
    """Keep other processes out of a directory until this one ends. UserError, with `advice`: one of them holds it."""
    file = lock_file(directory)
    if file in _held:
        return
    lock = FileLock(file, fallback_to_soft=False)  # a soft lock survives a killed process
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        file.write_text(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M}")
    except Timeout:
        raise UserError(f"{directory} is in use by {file.read_text() or 'another process'}: {advice}") from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise UserError(f"{directory} cannot be written: {error}") from None
        print(f"{file.parent} has no file locks: start only one run in {directory}", file=sys.stderr)
    _held[file] = lock
