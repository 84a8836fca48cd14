"""What worlds say of themselves, and how they take commands and starts: what suites and rollouts share.

What worlds must carry, ``describe`` sets and ``identity`` reads: ``tasks``, ``seeds``, ``episode_spec``. What they may
carry beside it is ``worst_reward``; what they may be able to do is to begin where told (``Resumable``).

The **full state** of a world is one vector: first the simulator's own state, then what an episode remembers beside it
(how many steps are done, what its judge holds). From the full state before step t a world goes on exactly as it did.
The simulator's part alone is where a scene begins: nothing is remembered there yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Float32, Float64

from watchtrylearn.types import Channel, Policy, Spec, Task, WtlError

States = Sequence[Float[np.ndarray, "_"] | None] | Float[np.ndarray, "world _"]  # None: where the scene begins


@runtime_checkable
class Resumable(Protocol):
    """Worlds that can begin where told: they tell their full states, and take them.

    ``reset(options={"initial_state": states})`` begins each world at its state (full, or the simulator's part alone),
    or at its scene's start where there is None, and reports in ``info["step"]`` (world,) how many control steps lie
    before. In a ``SyncVectorEnv`` each environment has ``state()`` and gets its own state alone.
    """

    def state(self) -> Float[np.ndarray, "world state"]:
        """The full state of every world, now."""


def describe(worlds: VectorEnv, spec: Spec, tasks: Sequence[Task], seeds: Sequence[int]) -> None:
    """Sets what worlds say of themselves: tasks, seeds, episode_spec, and Gymnasium's spaces."""
    if len(tasks) == 0:
        raise WtlError("worlds need at least one task")
    if len(tasks) != len(seeds):
        raise WtlError(f"worlds need one scene seed per task, got {len(tasks)} tasks and {len(seeds)} seeds")
    told: Any = worlds
    told.tasks, told.seeds, told.episode_spec = list(tasks), [int(s) for s in seeds], spec
    told.num_envs = len(tasks)
    told.single_observation_space = gymnasium.spaces.Dict({n: c.space() for n, c in spec.observation.items()})
    told.single_action_space = spec.action.space()
    told.observation_space = batch_space(told.single_observation_space, told.num_envs)
    told.action_space = batch_space(told.single_action_space, told.num_envs)


def identity(worlds: VectorEnv) -> tuple[Sequence[Task], Sequence[int], Spec]:
    """The tasks, scene seeds and spec that a suite attached to its worlds."""
    missing = [name for name in ("tasks", "seeds", "episode_spec") if not hasattr(worlds, name)]
    if missing:
        raise WtlError(
            f"the worlds lack the attribute {missing[0]!r}: make them with suite.worlds(tasks, seeds), and in your own "
            "suite set worlds.tasks, worlds.seeds and worlds.episode_spec"
        )
    if (worlds.metadata or {}).get("autoreset_mode") == AutoresetMode.SAME_STEP:
        raise WtlError(
            "worlds that begin anew in the step in which they end hide how it ended; use another AutoresetMode"
        )
    carried: Any = worlds
    return carried.tasks, carried.seeds, carried.episode_spec


def worst_reward(worlds: VectorEnv) -> float:
    """What an attempt that breaks down gets for each step left: the worlds' attribute ``worst_reward``, else 0."""
    return float(getattr(worlds, "worst_reward", 0.0))


def require_fitting(policy: Policy, spec: Spec) -> None:
    """``WtlError`` if a policy says, by an attribute ``spec``, that it was made for worlds of other dimensions."""
    found = getattr(policy, "spec", spec).differences(spec)
    if found:
        raise WtlError(f"the policy was made for other dimensions than these worlds: {'; '.join(found)}")


def commands(actions: Any, channel: Channel, worlds: int) -> Float32[np.ndarray, "world act"]:
    """What a policy commands, rounded to float32 as it is stored; every suite takes its actions through here.

    What is too large for that becomes infinite. Raises ``WtlError`` unless there is one row of real numbers per world.
    """
    values = np.asarray(actions)
    if values.dtype.kind not in "fiu":
        raise WtlError(f"actions are real numbers, not {values.dtype}")
    if values.shape != (worlds, channel.size):
        raise WtlError(f"actions have shape {values.shape}; {worlds} worlds need {(worlds, channel.size)}")
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


# --------------------------------------------------------------------------------------------------- states


def require_resumable(worlds: VectorEnv) -> None:
    """``WtlError`` if worlds cannot begin where told (``Resumable``)."""
    _tellers(worlds)


def full_states(worlds: VectorEnv) -> list[Float64[np.ndarray, "_"]]:
    """The full state of every world, now; ``WtlError`` if these worlds do not tell it."""
    tellers = _tellers(worlds)
    apart = isinstance(worlds.unwrapped, SyncVectorEnv)
    found = [tell() for tell in tellers] if apart else tellers[0]()
    return [np.array(state, np.float64) for state in found]


def _tellers(worlds: VectorEnv) -> list[Callable[[], Any]]:
    """The worlds' method ``state``, or those of each of them where they are apart."""
    inner: Any = worlds.unwrapped
    found: list[Any] = [getattr(inner, "state", None)]
    if isinstance(inner, SyncVectorEnv):
        found = [env.get_wrapper_attr("state") if env.has_wrapper_attr("state") else None for env in inner.envs]
    if not all(map(callable, found)):  # many environments keep an attribute of that name
        raise WtlError(
            "these worlds cannot begin where told: they have no state() that tells their full state "
            "(docs/suites.md, 'Beginning in the middle')"
        )
    return found


def start_states(given: Any, worlds: int) -> list[Float64[np.ndarray, "_"] | None]:
    """States to begin at, one vector of finite numbers or None per world; anything else is refused in a sentence."""
    if not isinstance(given, Sequence | np.ndarray) or isinstance(given, str) or len(given) != worlds:
        got = f"{len(given)} states" if isinstance(given, Sequence | np.ndarray) else type(given).__name__
        raise WtlError(f"{worlds} worlds need as many states to begin at (or None for a scene's start), got {got}")
    found: list[np.ndarray | None] = []
    for i, state in enumerate(given):
        if state is None:
            found.append(None)
            continue
        values = np.asarray(state)
        if values.dtype.kind not in "fiu" or values.ndim != 1:
            raise WtlError(f"the state that world {i} is to begin at is no vector of numbers: {values!r:.80}")
        if not np.isfinite(values).all():
            at = int(np.argmin(np.isfinite(values)))
            raise WtlError(f"the state that world {i} is to begin at is not finite: number {at} is {values[at]}")
        found.append(values.astype(np.float64))
    return found


def begin(
    options: dict[str, Any] | None, own: Float[np.ndarray, "world physics"], memory: int, horizon: int
) -> tuple[Float[np.ndarray, "world physics"], Float[np.ndarray, "world memory"], Bool[np.ndarray, "world"]]:
    """Where worlds begin whose full state is their physics and then ``memory`` numbers, of which the first two are how
    many control steps are done and whether the attempt has ended (1 or 0).

    Args:
        options: of ``reset``; its ``initial_state`` tells (``Resumable``).
        own: the simulator's states where the scenes begin.

    Returns:
        The physics, the memory (zeros where a scene begins), and who is to remember.
    """
    given = (options or {}).get("initial_state")
    physics, remembered, told = own.copy(), np.zeros((len(own), memory)), np.zeros(len(own), bool)
    if given is None:
        return physics, remembered, told
    size = own.shape[1]
    for i, state in enumerate(start_states(given, len(own))):
        if state is None:
            continue
        if len(state) not in (size, size + memory):
            raise WtlError(
                f"the state that world {i} is to begin at has {len(state)} numbers; in these worlds a scene's start "
                f"has {size}, the state at a later step {size + memory}"
            )
        physics[i] = state[:size]
        if len(state) > size:
            remembered[i], told[i] = state[size:], True
            done, ended = remembered[i, :2]
            if ended or done >= horizon:
                raise WtlError(f"world {i} is to begin where its attempt has ended")
            if done < 0 or not done.is_integer():
                raise WtlError(f"the state that world {i} is to begin at says that {done:g} steps are done")
    return physics, remembered, told
