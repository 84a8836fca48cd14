"""Children to be killed: forked, so that a dozen of them cost a second and not a dozen imports of torch."""

import os
import signal
import time
import traceback
from collections.abc import Callable


def fork(work: Callable[[], object]) -> int:
    """Start ``work`` in a child process and return its pid; the child exits with 0, or 1 after an exception.

    An exception's ``exit_status`` is used where there is one.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        status = getattr(error, "exit_status", 1)
        if status == 1:
            traceback.print_exc()
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """The exit status of a child; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int, due: Callable[[], bool], after: float = 0.0, patience: float = 120.0) -> None:
    """kill -9 a child, ``after`` seconds from when ``due()`` holds.

    One that has finished by then is fine, one that failed is not, and after ``patience`` seconds nobody waits any more.
    """
    begin, status = time.monotonic(), None
    while status is None and not due():
        time.sleep(0.002)
        ended, state = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(state)
        elif time.monotonic() - begin > patience:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"the child did not get there within {patience:g} s; it ended with {wait(pid)}")
    if status is None:
        time.sleep(after)
        os.kill(pid, signal.SIGKILL)
        status = wait(pid)
    assert status in (0, -signal.SIGKILL)
