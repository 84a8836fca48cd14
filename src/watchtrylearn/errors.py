"""The one exception that is meant for the person at the keyboard."""

import difflib
from collections.abc import Iterable


class WtlError(Exception):
    """A problem the user can act on: one clear sentence; the command line exits with status 2."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown ``word``: the known one it is close to, or all of them if none is."""
    names = list(known)
    close = difflib.get_close_matches(word[:60], names, n=1)  # what comes from files may be long
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
