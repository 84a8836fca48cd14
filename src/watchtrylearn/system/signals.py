"""Ctrl-C and SIGTERM as a request: finish what you are doing, save, and say how to continue."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from watchtrylearn.types import WtlError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(WtlError):
    """The work was stopped on request and can be continued; ``exit_status`` is the shell's custom."""

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the number of the signal received, 0 as long as there was none.

    The first signal is only remembered; the second ends the process at once, as if nobody were listening.
    Outside the main thread, where Python delivers no signals, the function always returns 0.
    """
    received = 0

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    previous = {each: signal.signal(each, remember) for each in _SIGNALS}
    try:
        yield lambda: received
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)
