"""Calls that may hang: they run in a thread of their own, which is left behind if one of them does not return.

No native call can be ended from outside, but nobody has to wait for it.
"""

from __future__ import annotations

import contextvars
import ctypes
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

import torch

SLICES = 8  # a hang is waited for in at least so many turns, since a process that was stopped meanwhile has not hung
GRACE = 2.0  # seconds that interrupted work gets to finish its step
_idle: list[_Worker] = []  # kept, since in a new thread torch begins slowly


def watched(
    work: Callable[[], None],
    calling: Callable[[], tuple[int, str] | None],
    limit: float,
    on_hang: Callable[[str], None],
    abandon: Callable[[], None],
) -> None:
    """Runs ``work`` in a thread, with the caller's context and torch modes; its exceptions are raised here.

    Args:
        calling: what is being waited for (which turn of it, a name), or None where no limit holds.
        limit: seconds after which that has hung.
        on_hang: is then told the name, before the thread is left behind.
        abandon: called where the caller is interrupted (Ctrl-C): work should end at its next step.
    """
    done, failed, worker = threading.Event(), [], _worker()
    context, grad, inference = contextvars.copy_context(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    threads = torch.get_num_threads()  # all of these are properties of the calling thread

    def job() -> None:
        try:
            torch.set_num_threads(threads)
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                context.run(work)
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    worker.jobs.put(job)
    turn, waited, before, hung = min(limit / SLICES, 1.0), 0.0, calling(), ""
    try:
        while not hung and not done.wait(turn):
            now = calling()
            waited = waited + turn if now == before else 0.0
            before = now
            if waited >= limit and now is not None:
                hung = now[1]
    except BaseException:  # Ctrl-C above all: no step is begun any more
        abandon()
        done.wait(GRACE)
        worker.leave()
        raise
    if hung:
        try:
            on_hang(hung)
        finally:
            worker.leave()
        return
    _idle.append(worker)
    if failed:
        raise failed[0]


class _Worker:
    """A thread that runs one job after another until it is left behind; nobody has to wait for it to end."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.left = False
        self.thread = threading.Thread(target=self._serve, name="rollout", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with suppress(SystemExit):
            while not self.left:
                self.jobs.get()()

    def leave(self) -> None:
        """Ends it: now if it is idle, at its next line of Python, or when the native code it is in returns."""
        self.left = True
        thread = ctypes.c_ulong(self.thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
        self.jobs.put(lambda: None)


def _worker() -> _Worker:
    """One that is idle, or a new one. (In a forked process the threads of its parent are not alive.)"""
    while _idle:
        worker = _idle.pop()
        if worker.thread.is_alive():
            return worker
    return _Worker()
