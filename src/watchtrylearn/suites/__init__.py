"""Suites: families of tasks with worlds to attempt them in. This module holds the protocols and finds the suites.

To bring your own robot, implement ``Suite`` (a page; see ``examples/``): nothing else in the library needs to
know about it. What else a suite can do it says by having the methods of further protocols, each of them optional:
``Demonstrator``, ``Targeted``, ``Ambiguous``, ``Filmable``, ``Rewarding``, ``Symmetric``. Whoever needs one asks
``isinstance(suite, Filmable)``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, overload, runtime_checkable

import gymnasium
import numpy as np
from jaxtyping import Float, Shaped, UInt8

from watchtrylearn.errors import suggestion
from watchtrylearn.ops.symmetry import Symmetry
from watchtrylearn.suites.outside import is_outside, outside_suite
from watchtrylearn.types import Episode, Spec, Split, Task, WtlError

if TYPE_CHECKING:
    from watchtrylearn.suites.choices import Choices
    from watchtrylearn.suites.push.suite import Push
    from watchtrylearn.suites.reach import Reach
    from watchtrylearn.suites.reach_vision import ReachVision
    from watchtrylearn.suites.reacher import Reacher
    from watchtrylearn.suites.tabletop.suite import Tabletop
    from watchtrylearn.suites.toy import Toy


@runtime_checkable
class Suite(Protocol):
    """Tasks and the worlds to attempt them in.

    ``worlds(tasks, seeds)`` returns a ``gymnasium.vector.VectorEnv`` whose world ``i`` is ``tasks[i]`` in scene
    ``seeds[i]``; the same task and seed is the same scene, always. Its observation space is a ``Dict`` of the
    channels of ``spec``, and it carries the attributes ``tasks``, ``seeds`` and ``episode_spec`` (= ``spec``).
    ``reset()`` starts every world in its scene, and ``step`` reports, per world,
    ``info["success"]`` (bool: achieved at this step) and optionally ``info["diverged"]`` (bool: physics broke
    down), ``info["terms"]`` (dict of name -> (world,) floats) and, from ``reset``,
    ``info["initial_state"]`` ((world, state) the simulator's; worlds that can begin in the middle of an attempt are
    ``watchtrylearn.worlds.Resumable``). Where rewards matter, the worlds also carry
    ``worst_reward``, the least reward of a step (else 0): what an attempt that breaks down gets for each step left.
    A world that has ended (``terminated | truncated``) is ignored from then on, whatever it does.
    """

    name: str
    spec: Spec

    def tasks(self, split: Split) -> list[Task]:
        """The tasks of a split, always the same in the same order."""

    def worlds(self, tasks: Sequence[Task], seeds: Sequence[int]) -> gymnasium.vector.VectorEnv:
        """One world per task, in the scenes given by ``seeds``."""


@runtime_checkable
class Demonstrator(Protocol):
    """A suite that can demonstrate its own tasks (a scripted expert)."""

    def demonstrate(self, task: Task, seed: int) -> Episode:
        """One successful demonstration in scene ``seed``; raises ``WtlError`` if the expert fails there."""

    def demonstrations(self, tasks: Sequence[Task], seeds: Sequence[int]) -> list[Episode]:
        """The expert's attempts at many tasks at once, failures included (``success`` tells)."""


@runtime_checkable
class Targeted(Protocol):
    """A suite whose tasks are about one of several things, and which knows the right one."""

    def target(self, task: Task, seed: int) -> int:
        """The right one in scene ``seed``: a slot of ``environment_state`` (see ``Spec.entities``)."""


@runtime_checkable
class Ambiguous(Targeted, Protocol):
    """A suite whose demonstrations leave something open, by a known amount: they have more than one reading."""

    def conflict(self, task: Task, demo_seed: int, seed: int) -> bool:
        """Do the readings of a demonstration in scene ``demo_seed`` disagree in scene ``seed``?"""

    def ceiling(self, family: str, *, demos: int, trials: int, subset: str, scene: str = "same") -> float | None:
        """The best possible success rate after so many demonstrations and trials; None if it is not known.

        ``subset``: over "all" scenes, or those in "conflict"; ``scene``: the trials were in the "same" or a "new" one.
        """


@runtime_checkable
class Filmable(Protocol):
    """A suite whose episodes can be shown as moving pictures."""

    def film(
        self, episodes: Sequence[Episode], on_clip: Callable[[], None] | None = None
    ) -> list[UInt8[np.ndarray, "time height width 3"]]:
        """The frames of every episode of one story (demonstration, trial, retrial), ``spec.fps`` a second.

        ``on_clip`` is called after each. Raises ``WtlError`` if an episode holds nothing to show it from.
        """


@runtime_checkable
class Rewarding(Protocol):
    """A suite whose reward is a pure function of what is seen and done, and of which task it is."""

    def reward(
        self,
        tasks: Sequence[Task],
        observation: Mapping[str, Shaped[np.ndarray, "batch ..."]],
        action: Float[np.ndarray, "batch act"],
        next_observation: Mapping[str, Shaped[np.ndarray, "batch ..."]],
    ) -> Float[np.ndarray, "batch"]:
        """What the worlds of ``tasks[i]`` pay for row ``i``, up to the rounding of observations to float32.

        ``action`` is what the policy commands: it is cut to its bounds, as in the worlds. Breakdowns are not covered:
        what they cost is no matter of observations.
        """


@runtime_checkable
class Symmetric(Protocol):
    """A suite that knows under which maps of whole episodes its tasks become others that are as good."""

    def symmetries(self) -> Sequence[Symmetry]:
        """Some, of which all others are made by applying one after another.

        Where episodes of a task's scenes are all mapped alike, they are what might have happened at another task that
        the suite could have made, in scenes as likely as its own: same dynamics, same judge, same rewards.
        """


def suite_names() -> list[str]:
    """The suites of this folder. To be in it is all it takes: as NAME.py or NAME/suite.py, with a function ``make``."""
    return sorted(_modules())


def _modules() -> dict[str, str]:
    """Suite -> the module that makes it. Only read: suites are imported on use, so that the core needs no simulator."""
    found: dict[str, str] = {}
    for folder in map(Path, __path__):
        for file in (*folder.glob("*.py"), *folder.glob("*/suite.py")):
            if re.search(r"^def make\(", file.read_text("utf-8"), flags=re.MULTILINE):
                parts = file.relative_to(folder).with_suffix("").parts
                found[parts[0]] = ".".join((__name__, *parts))
    return found


@overload
def make_suite(name: Literal["tabletop"]) -> Tabletop: ...  # for type checkers, who know more of these
@overload
def make_suite(name: Literal["push"]) -> Push: ...
@overload
def make_suite(name: Literal["reach"]) -> Reach: ...
@overload
def make_suite(name: Literal["reach_vision"]) -> ReachVision: ...
@overload
def make_suite(name: Literal["reacher"]) -> Reacher: ...
@overload
def make_suite(name: Literal["toy"]) -> Toy: ...
@overload
def make_suite(name: Literal["choices"]) -> Choices: ...
@overload
def make_suite(name: str) -> Suite: ...
def make_suite(name: str) -> Suite:
    """The suite registered under ``name``; an unknown name is refused with the nearest right one.

    ``"NAME@40x32"`` is suite NAME with images of that width and height, if its camera's images can have another size.
    ``"module:make"`` or ``"path.py:make"`` runs code from outside: the suite that function ``make`` of it returns.
    """
    if is_outside(name):
        outside: Suite = outside_suite(name)
        return outside
    known = _modules()
    name, at, size = name.partition("@")
    if name not in known:
        if name.endswith(".py"):
            raise WtlError(f"suite {name!r} does not say which function makes it; write {name}:make")
        raise WtlError(f"unknown suite {name!r}; {suggestion(name, known)}")
    try:
        module = importlib.import_module(known[name])
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ("mujoco", "mujoco_warp", "av"):
            raise WtlError(
                f"suite {name!r} needs {error.name}, which is not installed: pip install 'watchtrylearn[sim]'"
            ) from error
        raise
    suite: Suite = module.make(**_sized(name, module.make, size)) if at else module.make()
    return suite


def _sized(name: str, make: Callable[..., Suite], size: str) -> dict[str, tuple[int, int]]:
    """The argument of ``make`` for images of ``size``, WIDTHxHEIGHT."""
    found = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", size)
    if found is None:
        raise WtlError(f"the size of images is WIDTHxHEIGHT, as in {name}@40x32, not {size[:60]!r}")
    if "size" not in inspect.signature(make).parameters:
        raise WtlError(
            f"suite {name!r} has no camera whose images could have another size, so it cannot be {name}@{size}"
        )
    return {"size": (int(found[1]), int(found[2]))}
