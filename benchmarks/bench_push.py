"""What the suite push costs beside the bare ray caster, on the same worlds and in the same run.

    python benchmarks/bench_push.py [--size 125x125] [--worlds 64] [--rounds 5]

"Bare" is mujoco_warp alone, on as many threads: its two calls for every 16 worlds, which are placed already. "Images"
also places every world (its own meshes, paints and poses) and hands them out; "steps" also simulates, judges and
copies. Medians over rounds, taken in turns; the target is for the images.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import warp

from watchtrylearn.suites import make_suite
from watchtrylearn.suites.push.suite import Push
from watchtrylearn.suites.push.world import PushWorlds
from watchtrylearn.suites.render import CHUNK

TARGET = 0.9


def bare(worlds: PushWorlds) -> None:
    """The ray caster's own work for one image of every world."""
    lanes = worlds._renderer._lanes

    def cast(lane: int) -> None:
        for start in range(lane * CHUNK, worlds.num_envs, len(lanes) * CHUNK):
            lanes[lane]._device_state.nworld = min(CHUNK, worlds.num_envs - start)
            lanes[lane]._cast()

    with warp.ScopedDevice("cpu"), ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(cast, range(len(lanes))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="125x125")
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    suite = make_suite(f"push@{options.size}")
    assert isinstance(suite, Push)
    worlds = suite.worlds(suite.tasks("train")[: options.worlds], range(options.worlds))
    worlds.reset()
    still = np.zeros((options.worlds, suite.spec.action.size))
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: bare(worlds),
        "images": worlds.images,
        "steps": lambda: worlds.step(still),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - begin)
    rate = {name: options.worlds / statistics.median(seconds[1:]) for name, seconds in taken.items()}
    print(f"push, {options.worlds} worlds, {options.size} pixels, images a second:")
    for name, found in rate.items():
        print(f"  {name:8s}{found:8.0f}   {found / rate['bare']:.2f} of bare")
    met = rate["images"] >= TARGET * rate["bare"]
    print(f"target {TARGET} of bare for images: {'met' if met else 'missed'}")
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
