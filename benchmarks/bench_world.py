"""Control steps per second: the public VectorEnv against bare ``mujoco.batch`` on the same worlds.

    python benchmarks/bench_world.py [--worlds 256] [--threads 2] [--repeats 9]

Both step the same different tasks from the same states through the same commands, the first steps of the
scripted demonstrations, so that grippers move and touch things; the runs alternate, and both must end in the
same state to the last bit. Prints both rates (medians), and the ratio.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from mujoco.batch import Batch

from watchtrylearn.suites.tabletop.model import SUBSTEPS
from watchtrylearn.suites.tabletop.suite import Tabletop, library, model_row
from watchtrylearn.suites.tabletop.world import TabletopWorlds
from watchtrylearn.types import Task

STEPS = 9  # no demonstration is over by then, so every world is stepped every time


def commands(suite: Tabletop, tasks: list[Task], seeds: list[int]) -> np.ndarray:
    """What the demonstrators' grippers were told: (time, world, act)."""
    episodes = suite.demonstrations(tasks, seeds)
    return np.stack([episode.executed[:STEPS] for episode in episodes if episode.executed is not None], axis=1)


def run_public(worlds: TabletopWorlds, actions: np.ndarray) -> tuple[float, np.ndarray, list[np.ndarray]]:
    """Seconds, final state, and the servo targets of every step (for the bare run)."""
    worlds.reset()
    start, controls = time.perf_counter(), []
    for action in actions:
        worlds.step(action)
        controls.append(worlds.batch.ctrl.copy())
    return time.perf_counter() - start, worlds.batch.state.copy(), controls


def run_bare(batch: Batch, initial: np.ndarray, controls: list[np.ndarray]) -> tuple[float, np.ndarray]:
    batch.state[:] = initial
    ctrl = batch.bind("ctrl")
    start = time.perf_counter()
    for control in controls:
        ctrl[:] = control
        batch.step(nstep=SUBSTEPS)
    return time.perf_counter() - start, batch.state.copy()


def bare_batch(tasks: list[Task], threads: int) -> Batch:
    batch = Batch(library().model, len(tasks), threads)
    for name, values in library().fields([model_row(task) for task in tasks]).items():
        batch.expand(name)[:] = values
    batch.set_const()
    return batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    suite = Tabletop(options.threads)
    tasks = suite.tasks("train")[: options.worlds]
    seeds = list(range(len(tasks)))
    actions = commands(suite, tasks, seeds)
    worlds, batch = suite.worlds(tasks, seeds), bare_batch(tasks, options.threads)
    initial = worlds.reset()[1]["initial_state"]
    seconds = []
    for _ in range(options.repeats):
        public, public_state, controls = run_public(worlds, actions)
        bare, bare_state = run_bare(batch, initial, controls)
        if not np.array_equal(public_state, bare_state):
            raise SystemExit("the two runs ended in different states")
        seconds.append((public, bare))
    steps = STEPS * len(tasks)
    public, bare = (steps / np.median(column) for column in zip(*seconds, strict=True))
    ratio = np.median([b / a for a, b in seconds])
    print(f"{len(tasks)} worlds, {options.threads} threads, {SUBSTEPS} substeps, median of {options.repeats}")
    print(f"public VectorEnv   {public:8.0f} control steps/s")
    print(f"bare mujoco.batch  {bare:8.0f} control steps/s")
    print(f"ratio              {ratio:8.3f}")


if __name__ == "__main__":
    main()
