"""Training runs: settings, directory, log, checkpoints and result record."""

from .meter import Meter
from .opening import open_run, reopen_run
from .program import Program
from .run import Run

__all__ = ["Meter", "Program", "Run", "open_run", "reopen_run"]
