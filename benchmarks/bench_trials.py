"""Trials per minute as `wtl try` makes them, against bare ``mujoco.batch`` on the same worlds.

    python benchmarks/bench_trials.py [--tasks 32] [--threads 2] [--repeats 3] [--profile]

The library's side is ``steps.make_trials`` itself: worlds, contexts, the one-shot policy with the network of
experiment wtl-state (after a single training step), attempts, episodes, all of them on the disk at the end. The bare
side holds the grippers of the same worlds still for as many control steps: no policy, no judge, no record. The two
alternate; medians of both rates and of their ratio are printed.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_world import bare_batch
from mujoco.batch import Batch

from watchtrylearn.experiments import Experiment, experiment, steps
from watchtrylearn.experiments.run import Run
from watchtrylearn.suites.tabletop.model import SUBSTEPS
from watchtrylearn.suites.tabletop.suite import Tabletop
from watchtrylearn.system.progress import Display

TARGET = 0.70  # trials per minute, the library's over the bare simulator's
SCENES = 8  # per task


def small(tasks: int) -> Experiment:
    """Experiment wtl-state with some of its tasks and next to no training."""
    return experiment("wtl-state", [f"tasks={tasks}", f"demos_per_task={SCENES}", "one_shot.train.steps=1"])


def run_library(run: Run) -> tuple[float, list[int]]:
    """Seconds for the trials in every demonstrated scene, and the control steps of each trial."""
    shutil.rmtree(run.directory / "trials", ignore_errors=True)
    begin = time.perf_counter()
    steps.make_trials(run, "one_shot")
    seconds = time.perf_counter() - begin
    return seconds, [record.length for record in run.store("trials", "one_shot").records]


def run_bare(batch: Batch, initial: np.ndarray, control_steps: int) -> float:
    """Seconds for as many control steps of the worlds together, from their scenes, with the grippers held still."""
    batch.state[:] = initial
    whole, rest = divmod(control_steps, len(initial))
    begin = time.perf_counter()
    for _ in range(whole):
        batch.step(nstep=SUBSTEPS)
    if rest:
        batch.rollout(SUBSTEPS, ids=np.arange(len(initial)) < rest)
    return time.perf_counter() - begin


def prepared(run: Run) -> tuple[Batch, np.ndarray]:
    """Demonstrations and a policy in ``run``; the bare worlds of the demonstrated scenes, and where they begin."""
    steps.record(run)
    steps.train(run, "one_shot")
    records = run.store("demos").records
    tasks, seeds = [r.task for r in records], [r.seed for r in records]
    initial = run.suite.worlds(tasks, seeds).reset()[1]["initial_state"]
    return bare_batch(tasks, getattr(run.suite, "nthread", 0)), initial


def profiled(run: Run) -> None:
    """Where the library's time goes."""
    with cProfile.Profile() as profile:
        run_library(run)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where the time goes, and measure nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), small(options.tasks), Tabletop(options.threads), Display(quiet=True))
        batch, initial = prepared(run)
        if options.profile:
            return profiled(run)
        found = []
        for _ in range(options.repeats):
            seconds, lengths = run_library(run)
            found.append((seconds, run_bare(batch, initial, sum(lengths))))
    rates = [60 * len(lengths) / np.median(column) for column in zip(*found, strict=True)]
    ratio = float(np.median([bare / library for library, bare in found]))
    print(f"{len(lengths)} trials of {np.mean(lengths):.1f} control steps, {options.threads} threads")
    print(f"library            {rates[0]:8.0f} trials/min")
    print(f"bare mujoco.batch  {rates[1]:8.0f} trials/min")
    print(f"ratio              {ratio:8.3f}  (target {TARGET:.2f}: {'met' if ratio >= TARGET else 'missed'})")


if __name__ == "__main__":
    main()
