"""Children to be killed: forked, so that a dozen of them cost a second and not a dozen imports of torch."""

import os
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
