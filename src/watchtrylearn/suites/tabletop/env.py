"""The tabletop as Gymnasium has environments: ``make`` and ``make_vec`` of ``watchtrylearn/Tabletop-v0``.

Both show one task in ever new scenes. ``import watchtrylearn`` registers them; a time limit is Gymnasium's business, so
``max_episode_steps`` (50, unless told otherwise) is what ends an attempt that does not succeed.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, UInt8

from watchtrylearn.suites.tabletop.model import build
from watchtrylearn.suites.tabletop.suite import SPEC, Tabletop, find_task, library, model_row
from watchtrylearn.suites.tabletop.world import TabletopWorlds
from watchtrylearn.types import MOST_STEPS, Task, WtlError

if TYPE_CHECKING:
    from watchtrylearn.suites.render import Renderer

TASK = "grasp-train-000"
RENDERING = {"render_modes": ["rgb_array"], "render_fps": SPEC.fps}
SIZE = (320, 224)  # of images, width and height in pixels


class TabletopEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """One tabletop. ``reset(seed=s)`` is scene ``s`` of the task; ``reset()`` draws the next scene.

    Args:
        task: a task or its name, e.g. "grasp-train-000".
        render_mode: None, or "rgb_array": ``render()`` then gives the camera's image (height, width, 3).
        width, height: of that image, in pixels.
        nthread: threads that step it; one world needs one.
    """

    metadata = RENDERING

    def __init__(
        self,
        task: Task | str = TASK,
        render_mode: str | None = None,
        width: int = SIZE[0],
        height: int = SIZE[1],
        nthread: int = 1,
    ) -> None:
        self._worlds = _worlds(find_task(task), 1, nthread, None)
        self._camera = _Camera(self._worlds, render_mode, width, height)
        self.render_mode = render_mode
        self.observation_space = self._worlds.single_observation_space
        self.action_space = self._worlds.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        scene = _next_scene(self.np_random) if seed is None else seed
        if options and "initial_state" in options:  # of one world
            options = {**options, "initial_state": np.atleast_2d(options["initial_state"])}
        observation, info = self._worlds.reset(seed=[scene], options=options)
        return _first(observation), _first(info)

    def state(self) -> Float[np.ndarray, "state"]:
        """The full state, now: ``reset(seed=scene, options={"initial_state": state})`` goes on from here."""
        state: np.ndarray = self._worlds.state()[0]
        return state

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._worlds.step(np.asarray(action)[None])
        return _first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _first(info)

    def render(self) -> UInt8[np.ndarray, "height width 3"] | None:
        return self._camera.images()[0] if self.render_mode else None


class TabletopVectorEnv(VectorEnv[dict[str, np.ndarray], np.ndarray, np.ndarray]):
    """Many tabletops with one task, stepped together; what a ``SyncVectorEnv`` of ``TabletopEnv`` does, faster.

    A world that ended is reset in the next step, into its next scene (Gymnasium's "next step" autoreset).

    Args:
        num_envs: how many.
        task, render_mode, width, height: as for ``TabletopEnv``; ``render()`` gives one image per world.
        max_episode_steps: after which an attempt is cut off; None: never.
        nthread: threads that step them; 0 for all processors.
    """

    metadata = {**RENDERING, "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(
        self,
        num_envs: int = 1,
        task: Task | str = TASK,
        render_mode: str | None = None,
        width: int = SIZE[0],
        height: int = SIZE[1],
        max_episode_steps: int | None = None,
        nthread: int = 0,
    ) -> None:
        self._worlds = _worlds(find_task(task), num_envs, nthread, max_episode_steps)
        self._camera = _Camera(self._worlds, render_mode, width, height)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space = self._worlds.single_observation_space
        self.single_action_space = self._worlds.single_action_space
        self.observation_space, self.action_space = self._worlds.observation_space, self._worlds.action_space
        self._rngs = [seeding.np_random()[0] for _ in range(num_envs)]
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Scene ``seed[i]`` in world ``i`` (an integer s means s, s + 1, ...), or every world's next scene."""
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        chosen = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if chosen is None:
            chosen = [None] * self.num_envs
        elif len(chosen) != self.num_envs:
            raise WtlError(f"{self.num_envs} worlds need as many seeds, got {len(chosen)}")
        return self._reset(mask, [None if s is None else int(s) for s in chosen], options or {})

    def step(
        self, actions: Float[np.ndarray, "world act"]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        again = self._ended.copy()
        observation, reward, terminated, truncated, info = self._worlds.step(actions)
        info = _masked(info, ~again)
        if again.any():
            observation, began = self._reset(again, [None] * self.num_envs, {})
            info |= began
            reward[again], terminated[again], truncated[again] = 0.0, False, False
        self._ended = terminated | truncated
        return observation, reward, terminated, truncated, info

    def state(self) -> Float[np.ndarray, "world state"]:
        """The full states, now (``worlds.Resumable``)."""
        return self._worlds.state()

    def render(self) -> tuple[UInt8[np.ndarray, "height width 3"], ...] | None:
        return tuple(self._camera.images()) if self.render_mode else None

    def _reset(
        self, mask: Bool[np.ndarray, "world"], seeds: Sequence[int | None], options: dict[str, Any]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        scenes = list(self._worlds.seeds)
        for i in np.flatnonzero(mask).tolist():
            seed = seeds[i]
            if seed is not None:
                self._rngs[i] = seeding.np_random(seed)[0]
            scenes[i] = _next_scene(self._rngs[i]) if seed is None else seed
        observation, info = self._worlds.reset(seed=scenes, options={**options, "reset_mask": mask})
        self._ended[mask] = False
        return observation, _masked(info, mask)


class _Camera:
    """Draws the worlds as they are; made on first use, since the ray caster takes seconds to start."""

    def __init__(self, worlds: TabletopWorlds, mode: str | None, width: int, height: int) -> None:
        if mode not in (None, "rgb_array"):
            raise WtlError(f"unknown render_mode {mode!r}; did you mean 'rgb_array'?")
        self.worlds, self.size = worlds, (width, height)

    @functools.cached_property
    def renderer(self) -> Renderer:
        from watchtrylearn.suites.render import Renderer

        shown, (width, height) = model_row(self.worlds.tasks[0]), self.size
        shared = build([library().objects[name] for name in shown.objects])
        return Renderer(shared.model, shared.fields([shown]), camera="clip", width=width, height=height, samples=2)

    def images(self) -> UInt8[np.ndarray, "world height width 3"]:
        poses = [self.worlds.batch.bind(name).copy() for name in ("qpos", "mocap_pos")]
        return self.renderer.images(*poses)


def _worlds(task: Task, count: int, nthread: int, max_episode_steps: int | None) -> TabletopWorlds:
    """Worlds of one task that cut an attempt off after so many steps; None or Gymnasium's -1: in practice never."""
    steps = MOST_STEPS if max_episode_steps in (None, -1) else max_episode_steps
    if not isinstance(steps, int) or steps < 1:
        raise WtlError(f"max_episode_steps is a number from 1 on, not {max_episode_steps!r}")
    worlds = Tabletop(nthread).worlds([task] * count, range(count))
    worlds.episode_spec = replace(SPEC, horizon=steps)
    return worlds


def _next_scene(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _first(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _first(value) if isinstance(value, dict) else value[0] for name, value in values.items()}


def _masked(values: dict[str, Any], mask: Bool[np.ndarray, "world"]) -> dict[str, Any]:
    """Zeros outside ``mask``, and the mask beside every value, as Gymnasium's vector environments have it."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found[name] = _masked(value, mask) if isinstance(value, dict) else value.copy()
        if not isinstance(value, dict):
            found[name][~mask] = 0
        found[f"_{name}"] = mask.copy()
    return found
