"""Frames per second: demonstrations of ``reach_vision`` being recorded, against bare mujoco_warp on the same worlds.

    python benchmarks/bench_render.py [--size 80x64] [--worlds 32] [--threads 2] [--repeats 5]

Bare means: all poses and colours of the same frames are at hand, and as many threads write them into mujoco_warp's
arrays, cast the rays and copy the pixels out. Beside it, in turns: our renderer, which computes the poses itself; and
the whole recording, from the demonstrator's commands to finished episodes. All three must give the same pixels. Prints
the rates (medians), and the ratios to bare mujoco_warp; the target is for the renderer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import mujoco
import mujoco_warp
import numpy as np
import warp

from watchtrylearn.suites import make_suite
from watchtrylearn.suites.reach import BLOCKS, colour_of, model
from watchtrylearn.suites.reach_vision import CAMERA, SAMPLES, ReachVision, renderer, replay
from watchtrylearn.suites.render import BACKGROUND, CHUNK
from watchtrylearn.types import Episode, Task

TARGET = 0.9
PLACED = ("geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat")


class Bare:
    """One thread's mujoco_warp: room for ``CHUNK`` worlds, and nothing that is not needed."""

    def __init__(self, size: tuple[int, int]) -> None:
        layout = model()
        with warp.ScopedDevice("cpu"):
            self.model = mujoco_warp.put_model(layout)
            self.state = mujoco_warp.make_data(layout, nworld=CHUNK)
            paint = np.repeat(layout.geom_rgba[None], CHUNK, axis=0)
            self.model.geom_rgba = warp.array(paint, dtype=self.model.geom_rgba.dtype)
            self.context = mujoco_warp.create_render_context(
                layout, nworld=CHUNK, cam_res=size, cam_active=["above"], render_rgb=True, render_depth=False,
                render_seg=False, use_shadows=False, samples_per_pixel=SAMPLES, enabled_geom_groups=[0, 1, 2],
                background_color=BACKGROUND,
            )  # fmt: skip
        self.views = {name: getattr(self.state, name).numpy() for name in PLACED}
        self.colours = self.model.geom_rgba.numpy()
        self.size = size

    def draw(self, placed: dict[str, np.ndarray], colours: np.ndarray, out: np.ndarray) -> None:
        count = len(out)
        for name, view in self.views.items():
            view[:count] = placed[name].reshape(count, *view.shape[1:])
        self.colours[:count] = colours
        self.state.nworld = count
        mujoco_warp.refit_bvh(self.model, self.state, self.context)
        mujoco_warp.render(self.model, self.state, self.context)
        pixels = self.context.rgb_data.numpy()[:count].view(np.uint8).reshape(count, self.size[1], self.size[0], 4)
        out[...] = pixels[..., 2::-1]


def placements(tasks: list[Task], episodes: list[Episode]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Where geoms and the camera are in every frame, (frame, ...), moment by moment; and the colours of every world."""
    layout, found = model(), {name: list[np.ndarray]() for name in PLACED}
    state = mujoco.MjData(layout)
    for joints, blocks in zip(*(moments.swapaxes(0, 1) for moments in replay(episodes)), strict=True):
        for world in range(len(tasks)):
            state.qpos[:], state.mocap_pos[:] = joints[world], blocks[world]
            mujoco.mj_kinematics(layout, state)
            mujoco.mj_comPos(layout, state)
            mujoco.mj_camlight(layout, state)
            for name in PLACED:
                found[name].append(getattr(state, name).copy())
    colours = np.repeat(layout.geom_rgba[None], len(tasks), axis=0)
    for block in range(BLOCKS):
        colours[:, layout.geom(f"block {block}").id, :3] = [colour_of(task, block) for task in tasks]
    return {name: np.stack(values) for name, values in found.items()}, colours


def bare_images(lanes: list[Bare], placed: dict[str, np.ndarray], colours: np.ndarray, out: np.ndarray) -> None:
    """As suites are drawn: all worlds of one moment, then those of the next."""
    worlds = len(colours)

    def work(lane: int, moment: int) -> None:
        for start in range(lane * CHUNK, worlds, len(lanes) * CHUNK):
            which = slice(moment * worlds + start, moment * worlds + min(start + CHUNK, worlds))
            own = {name: values[which] for name, values in placed.items()}
            lanes[lane].draw(own, colours[start : start + CHUNK], out[which])

    with warp.ScopedDevice("cpu"), ThreadPoolExecutor(len(lanes)) as pool:
        for moment in range(len(out) // worlds):
            list(pool.map(work, range(len(lanes)), [moment] * len(lanes)))


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="80x64")
    parser.add_argument("--worlds", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    suite = make_suite(f"reach_vision@{options.size}")
    assert isinstance(suite, ReachVision)
    camera = suite.spec.images[CAMERA]
    size = camera.width, camera.height
    tasks, seeds = suite.tasks("train")[: options.worlds], list(range(options.worlds))
    episodes = suite.demonstrations(tasks, seeds)
    seen = np.stack([np.concatenate([e.observation[CAMERA], e.final[CAMERA][None]]) for e in episodes], axis=1)
    expected = seen.reshape(-1, *camera.shape)
    placed, colours = placements(tasks, episodes)
    poses = list(zip(*(moments.swapaxes(0, 1) for moments in replay(episodes)), strict=True))
    lanes, out = [Bare(size) for _ in range(options.threads)], np.empty_like(expected)
    ours = renderer(tasks, size, threads=options.threads)
    bare_images(lanes, placed, colours, out)
    if not (np.array_equal(out, expected) and np.array_equal(ours.images(*poses[-1]), seen[-1])):
        raise SystemExit("the runs drew different images")
    taken = np.array([
        (
            seconds(lambda: bare_images(lanes, placed, colours, out)),
            seconds(lambda: [ours.images(*pose) for pose in poses]),
            seconds(lambda: suite.demonstrations(tasks, seeds)),
        )
        for _ in range(options.repeats)
    ])  # fmt: skip
    rates, ratios = len(expected) / np.median(taken, axis=0), np.median(taken[:, :1] / taken, axis=0)
    print(f"{len(expected)} frames of {options.size}, {options.threads} threads, median of {options.repeats}")
    for name, rate, ratio in zip(("bare mujoco_warp", "renderer", "recording"), rates, ratios, strict=True):
        print(f"{name:17}{rate:8.0f} frames/s, ratio {ratio:.3f}")
    print(f"target ratio {TARGET} of the renderer: {'met' if ratios[1] >= TARGET else 'missed'}")
    raise SystemExit(0 if ratios[1] >= TARGET else 1)


if __name__ == "__main__":
    main()
