"""Errors written for the person at the keyboard: what was wrong, where, what to do."""

import functools
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that its user can mend. Commands print it as one message and exit with code 2."""


def command(main: Callable) -> Callable:
    """Wrap a command's `main`: a UserError becomes one message on stderr and exit code 2, Ctrl-C a line and 130."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("\ninterrupted; what was finished is kept", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapped
