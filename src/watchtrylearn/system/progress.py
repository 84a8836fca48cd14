"""Progress with the remaining time: live bars on a terminal, a line now and then anywhere else.

What a second process does is shown beside it: ``Relayed`` writes its progress as lines of JSON, ``Display.show`` reads
them.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_REFRESH = 0.1  # seconds between updates of a bar: one per step would cost more than a small step
_LINES = 15.0  # seconds between lines where there is no terminal


class PipedConsole(Console):
    """A console whose reader may go away (``wtl demo 2>&1 | head``).

    Where a closed pipe ends nothing but a listing, ``BrokenPipeError`` says so. On stderr, where progress is shown, it
    is a request to stop like SIGTERM, if anybody listens to that: the step is finished and saved first.
    """

    def on_broken_pipe(self) -> None:
        self.quiet = True
        if not (self.stderr and callable(signal.getsignal(signal.SIGTERM))):
            raise BrokenPipeError
        os.kill(os.getpid(), signal.SIGTERM)  # which wakes the main thread, whichever thread was writing


@runtime_checkable
class Advance(Protocol):
    """``advance(count, note)``: ``count`` more are done; ``note`` is a short text, say the loss.

    ``advance(0, note)`` says what takes long now: on a bar it is shown at once.
    """

    def __call__(self, count: int = 1, note: str = "") -> None: ...


class Display:
    """Shows any number of activities, one after the other, nested, or from several threads, on one console.

    Example::

        with display.track("collecting trials", total=520) as advance:
            for chunk in chunks:
                advance(len(chunk), note=f"{successes} successes")
    """

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or PipedConsole(stderr=True, quiet=quiet)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )
        self._active = 0
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """One line for the person watching; may hold the console's markup (``[bold]...[/bold]``)."""
        self.console.print(text, highlight=False)

    def show(self, lines: Iterable[str]) -> None:
        """Show what a ``Relayed`` display wrote, until its lines end."""
        tracked: dict[int, tuple[AbstractContextManager[Advance], Advance]] = {}
        for line in lines:
            event: dict[str, Any] = json.loads(line)
            number = event.get("activity", -1)
            match event["event"]:
                case "say":
                    self.say(event["text"])
                case "begin":
                    activity = self.track(event["description"], event["total"], event["done"])
                    tracked[number] = activity, activity.__enter__()
                case "advance":
                    tracked[number][1](event["count"], event["note"])
                case "end":
                    tracked.pop(number)[0].__exit__(None, None, None)
        for shown, _ in tracked.values():  # the other process died
            shown.__exit__(None, None, None)

    @contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Show one activity of ``total`` units, ``done`` of which were finished earlier (after a resume)."""
        shown = self._bar if self.console.is_terminal else self._lines
        with shown(description, total, done) as advance:
            yield advance

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[Advance]:
        bar = self._bars.add_task(description, total=total, completed=done, note="")
        pending, shown_at = done, 0.0

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal pending, shown_at
            pending += count
            if not count or pending >= total or time.monotonic() - shown_at > _REFRESH:
                shown_at = time.monotonic()
                self._bars.update(bar, completed=pending, note=note)

        with self._lock:
            self._active += 1
            self._bars.start()
        try:
            yield advance
        finally:
            with self._lock:
                self._active -= 1
                if not self._active:
                    self._bars.stop()

    @contextmanager
    def _lines(self, description: str, total: int, done: int) -> Iterator[Advance]:
        started = shown_at = time.monotonic()
        now_done = done

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal now_done, shown_at
            now_done += count
            now = time.monotonic()
            if now_done >= total or now - shown_at > _LINES:
                shown_at = now
                left = (now - started) / max(1, now_done - done) * (total - now_done)
                line = f"{description}: {now_done}/{total}, {now - started:.0f} s, {left:.0f} s left  {note}"
                self.console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)

        yield advance


class Relayed(Display):
    """The display of a second process: what there is to show goes as lines of JSON to whoever shows it."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out
        self._numbers = itertools.count()

    def say(self, text: str) -> None:
        self._write(event="say", text=text)

    @contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        number = next(self._numbers)
        pending, told_at, left = 0, 0.0, total - done

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal pending, told_at, left
            pending, left = pending + count, left - count
            if not count or left <= 0 or time.monotonic() - told_at > _REFRESH:
                told_at = time.monotonic()
                self._write(event="advance", activity=number, count=pending, note=note)
                pending = 0

        self._write(event="begin", activity=number, description=description, total=total, done=done)
        try:
            yield advance
        finally:
            self._write(event="end", activity=number)

    def _write(self, **event: str | int) -> None:
        self._out.write(json.dumps(event) + "\n")
        self._out.flush()
