"""A second process for the branch of an experiment that needs nothing from the first.

Methods that need nothing of each other (``plan.branches``) have only the demonstrations in common. Each branch keeps
one processor core busy; together they use two. What a step does depends on neither, so the results are the same bits as
one after the other.

The second process writes into the same run directory, in other folders, and ends as soon as the first has ended,
however that ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape

from watchtrylearn.errors import WtlError
from watchtrylearn.experiments.plan import Verb
from watchtrylearn.experiments.run import Run, open_run
from watchtrylearn.experiments.steps import timed
from watchtrylearn.suites.outside import is_outside, search_path
from watchtrylearn.system.progress import Relayed
from watchtrylearn.system.signals import Interrupted

YIELDING = 3  # the first process's way is the longer one: where both want a core, it gets two thirds of it


class Killed(WtlError):
    """The second process was ended from outside, say for want of memory; what it had finished is saved."""


def how_many(wanted: int | None) -> int:
    """How many processes to use: as many as wanted; else two, unless there is but one core."""
    if wanted is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(2, cores)
    if wanted not in (1, 2):
        raise WtlError(f"--processes must be 1 or 2, got {wanted}")
    return wanted


@contextmanager
def beside(run: Run, branch: Sequence[Verb]) -> Iterator[None]:
    """Carries out ``branch`` in a second process while the block runs; leaves when both are done.

    The second process is stopped, with its state saved, when the block raises. Raises ``WtlError`` if it failed, with
    its sentence, and ``Killed`` if somebody else ended it.
    """
    suite = run.experiment.suite
    order = {
        "directory": str(run.directory),
        "branch": branch,
        "skip_bad": run.skip_bad,
        "device": run.device,
        "suite": suite if is_outside(suite) else None,
        "search": search_path(suite),
    }
    # -P: what lies in the working directory is not imported, as it is not by the command ``wtl``
    # in a process group of its own: Ctrl-C reaches the first process alone, which passes it on once
    other = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    failure: list[str] = []
    relay = threading.Thread(target=_relay, args=(run, other, failure), daemon=True)
    relay.start()
    try:
        yield
        with timed(run, "wait"):
            status = other.wait()
    except BaseException:
        other.terminate()
        other.wait()
        raise
    finally:
        relay.join()
        assert other.stdin is not None
        other.stdin.close()
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise Interrupted(failure[0] if failure else "the second process was stopped", status - 128)
    if status < 0:
        raise Killed(f"the second process was killed by signal {-status}")
    if status:
        raise WtlError(failure[0] if failure else f"the second process ended with status {status}")


def _relay(run: Run, other: subprocess.Popen[str], failure: list[str]) -> None:
    """Shows the second process's progress, and keeps the sentence with which it failed."""
    lines = iter(other.stdout or ())

    def shown() -> Iterator[str]:
        for line in lines:
            if line.startswith(_FAILED):
                failure.append(line.removeprefix(_FAILED).strip())
                run.display.say(escape(f"the second process failed: {failure[0]}"))
            else:
                yield line

    try:
        run.display.show(shown())
    finally:
        for _ in shown():  # whatever became of the display: nobody waits for a reader
            pass


# ------------------------------------------------------------------------------------------ the second process

_FAILED = "failed: "


def _main(order: str) -> int:
    from watchtrylearn.experiments import main_job  # which starts this process

    if hasattr(os, "nice"):
        os.nice(YIELDING)
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    given = json.loads(order)
    told = os.fdopen(os.dup(1), "w")
    sys.path += given["search"]
    os.dup2(2, 1)  # what a library prints must not come between the lines of JSON
    try:
        directory, display = Path(given["directory"]), Relayed(told)
        options = {name: given[name] for name in ("suite", "skip_bad", "device")}
        with open_run(directory, None, display, **options, second=True) as run:
            main_job.carry_out(run, [(verb, name) for verb, name in given["branch"]])
    except WtlError as error:
        print(f"{_FAILED}{error}", file=told, flush=True)
        return int(getattr(error, "exit_status", 2))
    return 0


def _end_with_the_first() -> None:
    """Nobody is left to work for once standard input is closed; what is finished is saved, as after any kill."""
    while sys.stdin.read(1):
        pass
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1]))
