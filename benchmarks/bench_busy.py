"""The main job on a machine that is not idle, against the same on a quiet one.

    python benchmarks/bench_busy.py [--full]

The job is run alone, and again beside a load of its own making: on each processor a program that computes half of
the time. By default it is a small share of the main job (a tenth of its tasks and steps), twice each in turns; with
``--full`` the whole of it, once each, and all tests: half an hour. Printed are wall times and their ratio, which would
be 2 if the load took half of everything. The same weights must come out.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

LIMIT = 2.0  # beside the load over alone
MINUTES, TEST_MINUTES = 6.0, 7.0  # the whole job alone, and all tests, on two processors
PERIOD = 0.1  # seconds: computes for half of each
SMALL = [
    "tasks=52", "eval_tasks=8", "one_shot.train.steps=350", "watch_try_learn.train.steps=200", "bc.train.steps=100",
    "trials_only.train.steps=150", "gallery=0",
]  # fmt: skip


@contextmanager
def load(processors: int) -> Iterator[None]:
    """A process on each processor that computes for half of the time."""
    burning = [multiprocessing.Process(target=_burn, args=(cpu,), daemon=True) for cpu in _processors()[:processors]]
    for process in burning:
        process.start()
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.join()


def _processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _burn(processor: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})
    while True:
        begin = time.monotonic()
        while time.monotonic() - begin < PERIOD / 2:
            pass
        time.sleep(PERIOD / 2)


def job(settings: list[str]) -> tuple[float, str]:
    """Seconds of one main job from nothing, and a digest of the weights that came out."""
    with tempfile.TemporaryDirectory() as folder:
        chosen = ["--set", *settings] if settings else []
        begin = time.perf_counter()
        command = [sys.executable, "-m", "watchtrylearn.cli", "demo", "--out", f"{folder}/run", *chosen]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        weights = sorted(Path(folder).glob("run/*/model.safetensors"))
        return seconds, hashlib.sha256(b"".join(path.read_bytes() for path in weights)).hexdigest()


def tests() -> float:
    """Seconds of ``make test``, installed already."""
    begin = time.perf_counter()
    subprocess.run(["make", "test"], check=True, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    whole = "the whole main job, alone and beside the load, and all tests (also: make bench FULL=1)"
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1", help=whole)
    options = parser.parse_args()
    alone: list[float] = []
    beside: list[float] = []
    digests = set()
    for _ in range(1 if options.full else 2):
        for times, processors in ((alone, 0), (beside, 2)):
            with load(processors):
                seconds, digest = job([] if options.full else SMALL)
            times.append(seconds)
            digests.add(digest)
    ratio = float(np.median([b / a for a, b in zip(alone, beside, strict=True)]))
    print(f"alone              {np.median(alone):7.1f} s{'' if options.full else '  (a small share of the main job)'}")
    print(f"both cores half taken {np.median(beside):4.1f} s")
    print(f"ratio              {ratio:7.2f}  (limit {LIMIT:.2f}: {'met' if ratio <= LIMIT else 'missed'})")
    print("the same weights" if len(digests) == 1 else "OTHER WEIGHTS beside the load")
    met = ratio <= LIMIT and len(digests) == 1
    if options.full:
        for name, seconds, limit in (("make demo", alone[0], MINUTES), ("make test", tests(), TEST_MINUTES)):
            quick = seconds <= 60 * limit
            print(
                f"{name}          {seconds / 60:7.1f} minutes alone (limit {limit:.0f}: {'met' if quick else 'missed'})"
            )
            met = met and quick
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
