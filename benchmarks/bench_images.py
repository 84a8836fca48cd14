"""How fast are camera images gathered in random order from a file, and how much memory does that take?

    python benchmarks/bench_images.py [--frames 20000] [--batches 20] [--folder DIR]

The file is as training has it (``data/frames.py``): 100 x 100 RGB, by default 600 MB; ``--frames 212160`` is as much as
the demonstrations of preset demo (6.4 GB). A batch is 64 queries at 16 steps and the scene, and 64 contexts at 8 steps.
Beside it, in turns: plain NumPy fancy indexing into an array of as many frames in RAM (of at most 2 GB), and into the
same file mapped into memory. "Cold" is the first batch after the system was asked to forget the file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from watchtrylearn.data.frames import FrameFile, FramesOnDisk
from watchtrylearn.types import ImageChannel

CAMERA = ImageChannel(100, 100)
BATCH = 64 * (1 + 16 + 8)
TARGET = 5000  # frames a second
STEPS = 50  # of an episode
IN_RAM = 2 * 10**9


def resident() -> float:
    """MB of this process in memory."""
    if not Path("/proc/self/statm").exists():
        return float("nan")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def write(path: Path, frames: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, *CAMERA.shape), np.uint8)
    with open(path, "wb") as file:
        for begin in range(0, frames, len(noise)):
            file.write(noise[: frames - begin].data)
        file.flush()
        os.fsync(file.fileno())


def seconds(work: Callable[[np.ndarray], object], places: np.ndarray) -> float:
    begin = time.perf_counter()
    work(places)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--folder", help="where the file is made, for a while; by default where temporary files are")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder, "camera.frames")
        write(path, options.frames)
        lengths = [STEPS + 1] * (options.frames // (STEPS + 1))
        file = FrameFile(path, CAMERA, {i: n for i, n in enumerate([*lengths, options.frames - sum(lengths)]) if n})
        frames = FramesOnDisk([file], [list(file.episodes)])
        batches = [rng.integers(options.frames, size=BATCH) for _ in range(options.batches)]

        cold = None
        if hasattr(os, "posix_fadvise"):
            with open(path, "rb") as forgotten:
                os.posix_fadvise(forgotten.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            cold = seconds(frames.take, batches[0])
        begin = time.perf_counter()
        file.checksum()
        checked = time.perf_counter() - begin

        before = resident()
        ours = [seconds(frames.take, places) for places in batches]
        held = resident() - before

        ram = np.fromfile(path, np.uint8, min(options.frames, IN_RAM // CAMERA.size) * CAMERA.size)
        ram = ram.reshape(-1, *CAMERA.shape)
        turns = [(seconds(frames.take, places), seconds(ram.__getitem__, places % len(ram))) for places in batches]
        again, plain = (float(np.median(column)) for column in zip(*turns, strict=True))
        del ram
        mapped = np.memmap(path, np.uint8, "r").reshape(-1, *CAMERA.shape)
        before = resident()
        by_map = [seconds(mapped.__getitem__, places) for places in batches]
        held_by_map = resident() - before

    rate = BATCH / float(np.median(ours))
    print(f"{options.frames} frames, {options.frames * CAMERA.size / 1e9:.1f} GB; batches of {BATCH}")
    if cold is not None:
        print(f"from the file, cold     {BATCH / cold:9.0f} frames/s")
    held_by_us = f"{held:.0f} MB resident (a batch: {BATCH * CAMERA.size / 1e6:.0f})"
    print(f"from the file           {rate:9.0f} frames/s, {held_by_us}")
    print(f"the file mapped         {BATCH / float(np.median(by_map)):9.0f} frames/s, {held_by_map:.0f} MB resident")
    print(f"NumPy, from RAM         {BATCH / plain:9.0f} frames/s; ratio {plain / again:.2f}, measured in turns")
    print(f"all frames compared with their checksum in {checked:.1f} s")
    slowest = min(rate, BATCH / cold if cold else rate)
    print(f"target {TARGET} frames/s: {'met' if slowest >= TARGET else 'missed'}")
    raise SystemExit(0 if slowest >= TARGET else 1)


if __name__ == "__main__":
    main()
