"""A paper's training, watched step by step from outside by what measures it."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.errors import UserError
from common.paper import Paper
from common.runs import Meter

Observer = Callable[[Meter, dict[str, float], int], None]


class Enough(Exception):
    """Raised by an observer: the training has shown what was asked."""


def train_observed(paper: Paper, words: Sequence[str], observer: Observer) -> None:
    """Run train.py in this process until it ends or the observer raises Enough. UserError: what it reported."""
    Meter.observers.append(observer)
    try:
        paper.train.main(list(words))
    except Enough:
        pass
    except SystemExit as stop:  # `command` has turned an error into an exit code; 0: it was finished already
        if isinstance(stop.__context__, UserError | KeyboardInterrupt):
            raise stop.__context__ from None
        if stop.code:
            raise UserError(f"train.py ended with exit code {stop.code}") from None
    finally:
        Meter.observers.remove(observer)


@contextmanager
def runs_in(folder: Path) -> Iterator[Path]:
    """Whatever runs meanwhile leaves its files in this folder."""
    before = os.environ.get("REID_RUNS")
    os.environ["REID_RUNS"] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop("REID_RUNS")
        if before is not None:
            os.environ["REID_RUNS"] = before
