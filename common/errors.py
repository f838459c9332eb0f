"""Errors for the user: what was wrong, where, and what to do."""

import difflib
import functools
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A mistake that the user can fix. Commands print it as one message and exit with code 2."""


on_user_error: list[Callable[[str], None]] = []  # called with the message before a command exits


def command(main: Callable) -> Callable:
    """Wrap a command's `main`: a UserError prints one message on stderr and exits with 2, Ctrl-C one line and 130."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            for call in on_user_error:
                call(str(error))
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("\ninterrupted; finished work is kept", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapped


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?" for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
