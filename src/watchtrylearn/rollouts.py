"""Running a policy in worlds: the one place where attempts become episodes.

Whatever a world or a policy does, attempts that have ended are kept. One that breaks down (an action that is no
usable number, a world or a policy that raises or hangs) is a failure marked ``diverged``: it counts, and it is never
training data. A logged warning names it and says why, and so do its terms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers.utils import create_zero_array
from jaxtyping import Float, Float32, Float64

from watchtrylearn.ops.random import generator
from watchtrylearn.recorder import Recorder
from watchtrylearn.system.watchdog import watched
from watchtrylearn.types import Episode, Kind, Observation, Policy, WtlError
from watchtrylearn.worlds import (
    States,
    commands,
    full_states,
    identity,
    require_fitting,
    require_resumable,
    start_states,
    worst_reward,
)

STEP_TIMEOUT = 60.0  # seconds that a policy's action, or a step of the worlds, may take
RAISED, HUNG, BAD_ACTION = "raised", "hung", "bad_action"  # the terms of attempts that broke down


@runtime_checkable
class Disturbance(Protocol):
    """What comes between the command that is meant and the one that reaches the robot (noise, a fault, a person)."""

    def __call__(
        self, step: int, action: Float32[np.ndarray, "world act"], rngs: Sequence[np.random.Generator]
    ) -> Float[np.ndarray, "world act"]:
        """What is executed instead of ``action`` (which lies within its bounds) in control step ``step``, from 0.

        It is cut to the bounds. World ``i`` draws from ``rngs[i]``.
        """


def rollout(
    policy: Policy,
    worlds: VectorEnv,
    *,
    attempt: int = 0,
    run_seed: int = 0,
    kind: Kind = "trial",
    start: States | None = None,
    disturbance: Disturbance | None = None,
    rngs: Sequence[np.random.Generator] | None = None,
    on_step: Callable[[int], None] | None = None,
    step_timeout: float | None = STEP_TIMEOUT,
) -> list[Episode]:
    """One attempt of ``policy`` in every world, as episodes.

    What the policy commands is recorded as ``action``; what reaches the robot, cut to the spec's bounds and disturbed,
    as ``executed`` where it differs. An action that is not finite, or absurdly far outside (``recorder.WILD``), ends
    the attempt in its world, which gets its last sound command again from then on. Where the worlds or the policy raise
    an exception or hang, all attempts still running end; in a ``SyncVectorEnv`` only that in the world that raised.

    Args:
        policy: acts in all worlds at once.
        worlds: from ``suite.worlds(tasks, seeds)``; carries ``tasks``, ``seeds`` and ``episode_spec``.
        attempt: which attempt at the scene this is. World ``i``'s randomness depends on
            (run_seed, task, scene seed, attempt) alone, not on the other worlds or their order.
        start: the state at which each world begins, None for its scene's start: an ``Episode.initial_state``, or what
            ``states`` finds at any step of an episode. The steps before it count towards the horizon, but the policy is
            not told of them: it begins as at a scene's start, and one that counts its steps, as networks with a time
            input do, counts from 0. A state may be of another scene; task, scene seed, success and reward are those of
            the world, as they apply to what stands there (docs/suites.md, "Beginning in the middle").
        disturbance: what happens to commands on their way. It has random numbers of its own.
        rngs: one generator per world, from which the policy and then the disturbance draw, instead of the above.
        on_step: called after every control step with the number of worlds still running.
        step_timeout: seconds after which a call of the policy or the worlds counts as hung. To notice that, the
            attempts run in a thread of their own, which is left behind if it hangs. None: they run in the calling
            thread (for worlds that are bound to it) and may take forever.

    Returns:
        One episode per world. An attempt that broke down is kept, marked ``diverged``, and counts as a failure.

    Raises:
        WtlError: policy and worlds do not fit, actions are no real numbers or too few, a disturbance gives no usable
            commands, worlds cannot begin where told, or a ``reset`` hangs.
    """
    tasks, seeds, spec = identity(worlds)
    require_fitting(policy, spec)

    def stream(name: str) -> Sequence[np.random.Generator]:
        if rngs is not None:
            return rngs
        return [generator(name, run_seed, t.name, s, attempt) for t, s in zip(tasks, seeds, strict=True)]

    streams = stream("attempt"), stream("disturbance") if disturbance is not None else ()
    begins = None if start is None else start_states(start, len(tasks))
    record = Recorder(tasks, seeds, spec, worst_reward(worlds))
    with _guarded(worlds) as guards:
        run = _Run(policy, worlds, record, guards, streams, begins, disturbance, on_step)
        if step_timeout is None:
            run.go()
        else:
            why = f"did not return within {step_timeout:g} s"
            watched(run.go, lambda: run.calling, step_timeout, lambda call: run.hang(call, why), run.abandon)
    return record.episodes(kind)


# ------------------------------------------------------------------------------------------------- replaying


def replayed(worlds: VectorEnv, episodes: Sequence[Episode]) -> Iterator[tuple[Observation, Mapping[str, Any]]]:
    """Episodes again, from their initial states, with what reached the robots.

    Yields the observations and infos of all worlds before the first action, then after every step of the longest.

    Worlds whose episode is over get its last action again. ``WtlError`` if an episode has no simulator state, or is not
    of the task and scene of its world.
    """
    tasks, seeds, _ = identity(worlds)
    if len(episodes) != len(tasks):
        raise WtlError(f"{len(tasks)} worlds replay as many episodes, got {len(episodes)}")
    for i, (episode, task, seed) in enumerate(zip(episodes, tasks, seeds, strict=True)):
        if (episode.task, episode.seed) != (task, seed):
            raise WtlError(
                f"episode {i} is of task {episode.task.name} in scene {episode.seed}, "
                f"its world of {task.name} in scene {seed}"
            )
        if not episode.initial_state.size:
            raise WtlError(f"episode {i} ({episode.task.name}) holds no simulator state to replay it from")
    sent = [e.action if e.executed is None else e.executed for e in episodes]
    with _guarded(worlds):
        yield worlds.reset(options={"initial_state": [e.initial_state for e in episodes]})
        for step in range(max(map(len, episodes))):
            actions = np.stack([each[min(step, len(each) - 1)] for each in sent])
            observation, _, _, _, info = worlds.step(actions)
            yield observation, info


def states(worlds: VectorEnv, episodes: Sequence[Episode], steps: Sequence[int]) -> list[Float64[np.ndarray, "_"]]:
    """The full states in which episode ``i`` was before its action ``steps[i]``: where ``rollout`` may start again.

    Found by replaying. Raises ``WtlError`` for a step that an episode does not have, where a replay does not show
    exactly what was seen, or where the worlds cannot tell their states.
    """
    if len(steps) != len(episodes):
        raise WtlError(f"{len(episodes)} episodes need as many steps, got {len(steps)}")
    for i, (episode, step) in enumerate(zip(episodes, steps, strict=True)):
        if not 0 <= step < len(episode):
            raise WtlError(f"episode {i} ({episode.task.name}) has steps 0 to {len(episode) - 1}, not {step}")
    found: list[Any] = [None] * len(episodes)
    for now, (observation, _) in enumerate(replayed(worlds, episodes)):
        wanted = [i for i, step in enumerate(steps) if step == now]
        if wanted:
            here = full_states(worlds)
        for i in wanted:
            for name, values in episodes[i].observation.items():
                if not np.array_equal(values[now], np.asarray(observation[name][i], values.dtype)):
                    raise WtlError(
                        f"episode {i} ({episodes[i].task.name} in scene {episodes[i].seed}) does not replay exactly: "
                        f"{name} differs at step {now}; was it recorded by other worlds than these?"
                    )
            found[i] = here[i]
        if now == max(steps):
            break
    return found


# ------------------------------------------------------------------------------------------------- the loop


class _Run:
    """One attempt in every world, step by step.

    ``calling`` says what is being waited for, and which step of it: (steps done, "policy.act"). It is written here
    and read by the thread that watches for hangs; ``lock`` protects the record from being written by both.
    """

    def __init__(
        self,
        policy: Policy,
        worlds: VectorEnv,
        record: Recorder,
        guards: Sequence[_Guard],
        streams: Sequence[Sequence[np.random.Generator]],
        start: Sequence[np.ndarray | None] | None,
        disturbance: Disturbance | None,
        on_step: Callable[[int], None] | None,
    ) -> None:
        self.policy, self.worlds, self.record, self.guards, self.on_step = policy, worlds, record, guards, on_step
        (self.rngs, self.disturbed_by), self.start, self.disturbance = streams, start, disturbance
        self.calling: tuple[int, str] | None = None
        self.lock = threading.Lock()
        self.abandoned = False
        self.seen: Observation = {}
        self.sent = np.clip(np.zeros_like(record.action[:, 0]), *record.bounds)

    def go(self) -> None:
        """To the end of all attempts, or until the run is abandoned."""
        self.calling = 0, "policy.reset"
        self.policy.reset(self.rngs)
        self.calling = 0, "worlds.reset"
        self.seen, info = self._reset()
        self.record.begin(info, self.start)
        for step in range(self.record.spec.horizon):
            self._step(step)
            self.calling = None
            if self.abandoned or not self.record.running.any():
                return
            if self.on_step:
                self.on_step(int(self.record.running.sum()))

    def _reset(self) -> tuple[Observation, Mapping[str, Any]]:
        """The worlds where they are to begin; that they did is checked."""
        if self.start is None:
            return self.worlds.reset()
        require_resumable(self.worlds)
        seen, info = self.worlds.reset(options={"initial_state": self.start})
        for i, (told, now) in enumerate(zip(self.start, full_states(self.worlds), strict=True)):
            if told is not None and not np.array_equal(now[: len(told)], told):
                where = f"{self.record.tasks[i].name} in scene {self.record.seeds[i]}"
                raise WtlError(
                    f"world {i} ({where}) did not begin at the state it was told by options['initial_state']"
                )
        return seen, info

    def _step(self, step: int) -> None:
        record = self.record
        record.see(self.seen)
        call = "policy.act"
        try:
            self.calling = step, call
            action = commands(self.policy.act(self.seen), record.spec.action, len(self.sent))
            bad = ~record.usable(action)
            action[bad] = self.sent[bad]
            sent = np.clip(action, *record.bounds)
            if self.disturbance is not None:
                call = "disturbance"
                self.calling = step, call
                sent = self._disturbed(step, sent)
            call = "worlds.step"
            self.calling = step, call
            following, reward, terminated, truncated, info = self.worlds.step(sent.copy())
        except (WtlError, MemoryError):
            raise
        except Exception as error:
            if step == 0 and call != "worlds.step":  # nothing is lost yet, and it would be the same in every world
                raise
            self.break_off(RAISED, f"{call} raised {_told(error)}", error)
            return
        with self.lock:
            if self.abandoned:
                return
            before = record.running.copy()
            record.step(action, sent, reward, terminated, truncated, info, following)
            record.warn(before & record.diverged, "the world says it diverged")
            record.fail(before & bad, BAD_ACTION, "the action is not finite, or absurdly large")
            for i, guard in enumerate(self.guards):
                if before[i] and guard.error is not None:
                    told = f"the world raised {_told(guard.error)}"
                    record.fail(np.arange(len(before)) == i, RAISED, told, guard.error)
            self.seen, self.sent = following, sent

    def _disturbed(self, step: int, sent: Float32[np.ndarray, "world act"]) -> Float32[np.ndarray, "world act"]:
        assert self.disturbance is not None
        try:
            found = commands(self.disturbance(step, sent.copy(), self.disturbed_by), self.record.spec.action, len(sent))
        except WtlError as error:
            raise WtlError(f"the disturbance at step {step}: {error}") from error
        unusable = ~np.isfinite(found).all(axis=1) & self.record.running
        if unusable.any():
            i = int(np.argmax(unusable))
            where = f"{self.record.tasks[i].name} in scene {self.record.seeds[i]}"
            raise WtlError(f"the disturbance at step {step}: what it sends in {where} is not finite")
        executed: np.ndarray = np.clip(np.where(np.isfinite(found), found, sent), *self.record.bounds)
        return executed

    def break_off(self, term: str, why: str, error: Exception | None = None) -> None:
        """All attempts still running are failures at this step, in which they hold still."""
        with self.lock:
            if self.abandoned:
                return
            running, nothing = self.record.running.copy(), np.zeros(len(self.sent))
            self.record.step(self.sent, self.sent, nothing, running, ~running, {}, self.seen)
            self.record.fail(running, term, why, error)
            self.abandoned = True

    def hang(self, call: str, why: str) -> None:
        """A call did not return: failures, or an error if nothing has begun yet."""
        if call.endswith("reset"):
            self.abandon()
            raise WtlError(f"{call} {why}, before the first step of task {self.record.tasks[0].name} and others")
        self.break_off(HUNG, f"{call} {why}")

    def abandon(self) -> None:
        self.abandoned = True


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# ------------------------------------------------------------------------------------------- worlds kept apart


@contextmanager
def _guarded(worlds: VectorEnv) -> Iterator[list[_Guard]]:
    """Keeps apart the worlds of a ``SyncVectorEnv``, so that one may raise and the others go on."""
    inner = worlds.unwrapped
    if not isinstance(inner, SyncVectorEnv):
        yield []
        return
    plain = inner.envs
    guards = [_Guard(env, place) for place, env in enumerate(plain)]
    inner.envs = list(guards)
    try:
        yield guards
    finally:
        inner.envs = plain


class _Guard(gymnasium.Wrapper):
    """A world that ends where it raises, and stands still from then on; ``error`` is what it raised.

    Of the states to begin at it takes its own.
    """

    error: Exception | None = None
    seen: Any = None

    def __init__(self, env: gymnasium.Env, place: int) -> None:
        super().__init__(env)
        self.place = place

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if options and "initial_state" in options:
            own = options["initial_state"][self.place]
            options = {**options, "initial_state": own}
            if own is None:
                del options["initial_state"]
        if self.error is None:
            try:
                self.seen, info = self.env.reset(seed=seed, options=options)
                return self.seen, info
            except (WtlError, MemoryError):
                raise
            except Exception as error:
                self.error = error
                if self.seen is None:  # an attempt that sees nothing, and ends at its first step
                    self.seen = create_zero_array(self.observation_space)
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self.error is None:
            try:
                self.seen, reward, terminated, truncated, info = self.env.step(action)
                return self.seen, reward, terminated, truncated, info
            except (WtlError, MemoryError):
                raise
            except Exception as error:
                self.error = error
        return self.seen, 0.0, True, False, {}
