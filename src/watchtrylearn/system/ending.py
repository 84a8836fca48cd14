"""How a command ends: one sentence on stderr and an exit status, whatever became of it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TextIO

from watchtrylearn.errors import WtlError

CLOSED_PIPE = 141  # the exit status of who writes where nobody reads: 128 + SIGPIPE


class Terminated(BaseException):
    """SIGTERM where no step is listening for it (steps that have something to save do)."""


def exit_status(program: str, work: Callable[[], None]) -> int:
    """Does the work. A problem the user can act on becomes one sentence and exit status 2; a signal, its own status."""
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        work()
        sys.stdout.flush()
    except WtlError as error:
        return _tell(program, str(error), int(getattr(error, "exit_status", 2)))
    except (KeyboardInterrupt, Terminated) as stop:
        status = 143 if isinstance(stop, Terminated) else 130
        return _tell(program, "stopped; what was finished is saved, and the same command continues", status)
    except BrokenPipeError:  # whoever read the answer has seen enough
        _hush(sys.stdout)
        return CLOSED_PIPE
    except OSError as error:  # no permission, a name too long, a disk that fails: where no reader or writer names it
        return _tell(program, f"{error.filename or 'the system'}: {error.strerror or error}", 2)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _tell(program: str, sentence: str, status: int) -> int:
    """Say it on stderr and return the exit status; if nobody reads stderr any more, say it on the terminal."""
    try:
        print(f"{program}: {sentence}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        _hush(sys.stderr)
        with suppress(OSError), open("/dev/tty", "w") as terminal:
            print(f"{program}: the output was closed: {sentence}", file=terminal)
        return CLOSED_PIPE
    return status


def _hush(stream: TextIO) -> None:
    """Send what is left of a closed stream nowhere, or Python would complain of it at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
