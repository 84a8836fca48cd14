"""Running a policy in worlds: the one place where attempts become episodes.

Whatever a world or a policy does, attempts that have ended are kept. One that breaks down (an action that is no
usable number, a world or a policy that raises or hangs) is a failure marked ``diverged``: it counts, and it is never
training data. A logged warning names it and says why, and so do its terms.
"""

from __future__ import annotations

import contextvars
import ctypes
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv, VectorEnv
from gymnasium.wrappers.utils import create_zero_array
from jaxtyping import Bool, Float, Float32

from watchtrylearn.ops.random import generator
from watchtrylearn.suites import commands
from watchtrylearn.types import Episode, Kind, Observation, Policy, Spec, Task, WtlError

STEP_TIMEOUT = 60.0  # seconds that a policy's action, or a step of the worlds, may take
WILD = 1e6  # an action farther outside its bounds than this many times their width is no command but a breakdown
RAISED, HUNG, BAD_ACTION = "raised", "hung", "bad_action"  # the terms of attempts that broke down

log = logging.getLogger(__name__)


def rollout(
    policy: Policy,
    worlds: VectorEnv,
    *,
    attempt: int = 0,
    run_seed: int = 0,
    kind: Kind = "trial",
    on_step: Callable[[int], None] | None = None,
    step_timeout: float | None = STEP_TIMEOUT,
) -> list[Episode]:
    """One attempt of ``policy`` in every world, as episodes.

    Actions beyond the spec's bounds are cut to them, and recorded so. An action that is not finite, or absurdly far
    outside (``WILD``), ends the attempt in its world, which gets its last sound action again from then on. Where the
    worlds or the policy raise an exception or hang, all attempts still running end; in a ``SyncVectorEnv`` only the
    attempt in the world that raised.

    Args:
        policy: acts in all worlds at once.
        worlds: from ``suite.worlds(tasks, seeds)``; carries ``tasks``, ``seeds`` and ``episode_spec``.
        attempt: which attempt at the scene this is. World ``i``'s randomness depends on
            (run_seed, task, scene seed, attempt) alone, not on the other worlds or their order.
        on_step: called after every control step with the number of worlds still running.
        step_timeout: seconds after which a call of the policy or the worlds counts as hung. To notice that, the
            attempts run in a thread of their own, which is left behind if it hangs. None: they run in the calling
            thread (for worlds that are bound to it) and may take forever.

    Returns:
        One episode per world. An attempt that broke down is kept, marked ``diverged``, and counts as a failure.

    Raises:
        WtlError: policy and worlds do not fit, actions are no real numbers or too few, or a ``reset`` hangs.
    """
    tasks, seeds, spec = worlds_identity(worlds)
    found = getattr(policy, "spec", spec).differences(spec)
    if found:
        raise WtlError(f"the policy was made for other dimensions than these worlds: {'; '.join(found)}")
    rngs = [generator("attempt", run_seed, t.name, s, attempt) for t, s in zip(tasks, seeds, strict=True)]
    record = _Recorder(tasks, seeds, spec, getattr(worlds, "worst_reward", 0.0))
    with _guarded(worlds) as guards:
        run = _Run(policy, worlds, record, guards, on_step)
        if step_timeout is None:
            run.go(rngs)
        else:
            _watch(run, rngs, step_timeout)
    return record.episodes(kind)


def worlds_identity(worlds: VectorEnv) -> tuple[Sequence[Task], Sequence[int], Spec]:
    """The tasks, scene seeds and spec that a suite attached to its worlds."""
    missing = [name for name in ("tasks", "seeds", "episode_spec") if not hasattr(worlds, name)]
    if missing:
        raise WtlError(
            f"the worlds lack the attribute {missing[0]!r}: make them with suite.worlds(tasks, seeds), and in your own "
            "suite set worlds.tasks, worlds.seeds and worlds.episode_spec"
        )
    carried: Any = worlds
    return carried.tasks, carried.seeds, carried.episode_spec


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
        record: _Recorder,
        guards: Sequence[_Guard],
        on_step: Callable[[int], None] | None,
    ) -> None:
        self.policy, self.worlds, self.record, self.guards, self.on_step = policy, worlds, record, guards, on_step
        self.calling: tuple[int, str] | None = None
        self.lock = threading.Lock()
        self.abandoned = False
        self.seen: Observation = {}
        self.sent = np.clip(np.zeros_like(record.action[:, 0]), *record.bounds)

    def go(self, rngs: Sequence[np.random.Generator]) -> None:
        """To the end of all attempts, or until the run is abandoned."""
        self.calling = 0, "policy.reset"
        self.policy.reset(rngs)
        self.calling = 0, "worlds.reset"
        self.seen, info = self.worlds.reset()
        self.record.begin(info)
        for step in range(self.record.spec.horizon):
            self._step(step)
            self.calling = None
            if self.abandoned or not self.record.running.any():
                return
            if self.on_step:
                self.on_step(int(self.record.running.sum()))

    def _step(self, step: int) -> None:
        record = self.record
        call = "policy.act"
        try:
            self.calling = step, call
            action = commands(self.policy.act(self.seen), record.spec.action, len(self.sent))
            bad = ~record.usable(action)
            sent = np.clip(action, *record.bounds)
            sent[bad] = self.sent[bad]
            call = "worlds.step"
            self.calling = step, call
            following, reward, terminated, truncated, info = self.worlds.step(sent.copy())
        except (WtlError, MemoryError):
            raise
        except Exception as error:
            if step == 0 and call == "policy.act":  # nothing is lost yet, and it would be the same in every world
                raise
            self.break_off(RAISED, f"{call} raised {_told(error)}", error)
            return
        with self.lock:
            if self.abandoned:
                return
            before = record.running.copy()
            record.step(self.seen, sent, reward, terminated, truncated, info)
            record.warn(before & record.diverged, "the world says it diverged")
            record.fail(before & bad, BAD_ACTION, "the action is not finite, or absurdly large")
            for i, guard in enumerate(self.guards):
                if before[i] and guard.error is not None:
                    told = f"the world raised {_told(guard.error)}"
                    record.fail(np.arange(len(before)) == i, RAISED, told, guard.error)
            self.seen, self.sent = following, sent

    def break_off(self, term: str, why: str, error: Exception | None = None) -> None:
        """All attempts still running are failures at this step, in which they hold still."""
        with self.lock:
            if self.abandoned:
                return
            running, nothing = self.record.running.copy(), np.zeros(len(self.sent))
            self.record.step(self.seen, self.sent, nothing, running, ~running, {})
            self.record.fail(running, term, why, error)
            self.abandoned = True


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


# ------------------------------------------------------------------------------------------------ hanging

SLICES = 8  # a hang is waited for in at least so many turns, since a process that was stopped meanwhile has not hung
GRACE = 2.0  # seconds that an interrupted run gets to finish its step
_idle: list[_Worker] = []  # kept, since in a new thread torch begins slowly


class _Worker:
    """A thread that runs one job after another until it is left behind; nobody has to wait for it to end."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.left = False
        self.thread = threading.Thread(target=self._serve, name="rollout", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with suppress(SystemExit):
            while not self.left:
                self.jobs.get()()

    def leave(self) -> None:
        """Ends it: now if it is idle, at its next line of Python, or when the native code it is in returns."""
        self.left = True
        thread = ctypes.c_ulong(self.thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))
        self.jobs.put(lambda: None)


def _worker() -> _Worker:
    """One that is idle, or a new one. (In a forked process the threads of its parent are not alive.)"""
    while _idle:
        worker = _idle.pop()
        if worker.thread.is_alive():
            return worker
    return _Worker()


def _watch(run: _Run, rngs: Sequence[np.random.Generator], limit: float) -> None:
    """``run.go`` in a thread, which is left behind if one call takes longer than ``limit`` seconds."""
    done, failed, worker = threading.Event(), [], _worker()
    context, grad, inference = contextvars.copy_context(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    threads = torch.get_num_threads()  # all of these are properties of the calling thread

    def work() -> None:
        try:
            torch.set_num_threads(threads)
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                context.run(run.go, rngs)
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()

    worker.jobs.put(work)
    turn, waited, calling, hung = min(limit / SLICES, 1.0), 0.0, run.calling, ""
    try:
        while not hung and not done.wait(turn):
            waited = waited + turn if run.calling == calling else 0.0
            calling = run.calling
            if waited >= limit and calling is not None:
                hung = calling[1]
    except BaseException:  # Ctrl-C above all: no step is begun any more
        run.abandoned = True
        done.wait(GRACE)
        worker.leave()
        raise
    if hung:
        why = f"{hung} did not return within {limit:g} s"
        if hung.endswith("reset"):
            run.abandoned = True
            worker.leave()
            raise WtlError(f"{why}, before the first step of task {run.record.tasks[0].name} and others")
        run.break_off(HUNG, why)
        worker.leave()
        return
    _idle.append(worker)
    if failed:
        raise failed[0]


@contextmanager
def _guarded(worlds: VectorEnv) -> Iterator[list[_Guard]]:
    """Keeps apart the worlds of a ``SyncVectorEnv``, so that one may raise and the others go on."""
    inner = worlds.unwrapped
    if not isinstance(inner, SyncVectorEnv):
        yield []
        return
    plain = inner.envs
    guards = [_Guard(env) for env in plain]
    inner.envs = list(guards)
    try:
        yield guards
    finally:
        inner.envs = plain


class _Guard(gymnasium.Wrapper):
    """A world that ends where it raises, and stands still from then on; ``error`` is what it raised."""

    error: Exception | None = None
    seen: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self.error is None:
            try:
                self.seen, info = self.env.reset(seed=seed, options=options)
                return self.seen, info
            except MemoryError:
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


# ---------------------------------------------------------------------------------------------- the record


class _Recorder:
    """Collects the steps of all worlds; a world is recorded until it first ends."""

    def __init__(self, tasks: Sequence[Task], seeds: Sequence[int], spec: Spec, worst_reward: float) -> None:
        self.tasks, self.seeds, self.spec, self.worst_reward = tasks, seeds, spec, worst_reward
        count = len(tasks)
        self.observation = {
            name: np.zeros((count, spec.horizon, channel.size), np.float32)
            for name, channel in spec.observation.items()
        }
        self.action = np.zeros((count, spec.horizon, spec.action.size), np.float32)
        self.reward = np.zeros((count, spec.horizon), np.float32)
        self.length = np.zeros(count, np.int64)
        self.running = np.ones(count, bool)
        self.success, self.diverged, self.terminated = np.zeros((3, count), bool)
        self.terms: list[dict[str, float]] = [{} for _ in range(count)]
        low, high = np.array(spec.action.low), np.array(spec.action.high)
        self.bounds = low.astype(np.float32), high.astype(np.float32)
        self.least, self.most = low - WILD * np.maximum(high - low, 1.0), high + WILD * np.maximum(high - low, 1.0)

    def begin(self, info: Mapping[str, Any]) -> None:
        nothing = np.zeros((len(self.tasks), 0))
        self.initial_state = np.array(info.get("initial_state", nothing), np.float64, copy=True)

    def usable(self, action: Float32[np.ndarray, "world act"]) -> Bool[np.ndarray, "world"]:
        """False where an action is not finite (which compares as False) or absurdly far outside its bounds."""
        usable: np.ndarray = ((action > self.least) & (action < self.most)).all(axis=1)
        return usable

    def step(
        self,
        observation: Observation,
        action: Float32[np.ndarray, "world act"],
        reward: Float[np.ndarray, "world"],
        terminated: Bool[np.ndarray, "world"],
        truncated: Bool[np.ndarray, "world"],
        info: Mapping[str, Any],
    ) -> None:
        live = np.flatnonzero(self.running)
        at = self.length[live]
        for name, values in self.observation.items():
            values[live, at] = observation[name][live]
        self.action[live, at] = action[live]
        self.reward[live, at] = reward[live]
        self.length[live] += 1
        self.success[live] |= _flag(info, "success", len(self.tasks))[live]
        self.diverged[live] |= _flag(info, "diverged", len(self.tasks))[live]
        self.terminated[live] |= np.asarray(terminated)[live]
        ended = np.asarray(terminated | truncated)[live]
        self._keep_terms(live[ended | (self.length[live] == self.spec.horizon)], info)
        self.running[live] = ~ended

    def fail(self, which: Bool[np.ndarray, "world"], term: str, why: str, error: Exception | None = None) -> None:
        """Attempts that broke down at the step just recorded get the worst reward there is for all they had left."""
        for i in np.flatnonzero(which):
            self.terms[i][term] = 1.0
            self.reward[i, self.length[i] - 1] = self.worst_reward * (self.spec.horizon + 1 - self.length[i])
        self.diverged[which] = self.terminated[which] = True
        self.running[which] = False
        self.warn(which, why, error)

    def warn(self, which: Bool[np.ndarray, "world"], why: str, error: Exception | None = None) -> None:
        """Names what broke down at the step just recorded."""
        if which.any():
            where = [f"{self.tasks[i].name} in scene {self.seeds[i]}" for i in np.flatnonzero(which).tolist()]
            step = self.length[which].max() - 1
            log.warning("failed at control step %d, %s: %s", step, why, ", ".join(where), exc_info=error)

    def episodes(self, kind: Kind) -> list[Episode]:
        return [self._episode(i, kind) for i in range(len(self.tasks))]

    def _keep_terms(self, ended: np.ndarray, info: Mapping[str, Any]) -> None:
        for name, values in info.get("terms", {}).items():
            if not name.startswith("_"):  # Gymnasium's own masks
                for i in ended:
                    self.terms[i][name] = float(values[i])

    def _episode(self, i: int, kind: Kind) -> Episode:
        steps = slice(0, int(self.length[i]))
        return Episode(
            task=self.tasks[i],
            kind=kind,
            seed=int(self.seeds[i]),
            observation={name: values[i, steps].copy() for name, values in self.observation.items()},
            action=self.action[i, steps].copy(),
            reward=self.reward[i, steps].copy(),
            success=bool(self.success[i] and not self.diverged[i]),
            diverged=bool(self.diverged[i]),
            terminated=bool(self.terminated[i]),
            initial_state=self.initial_state[i],
            terms=self.terms[i],
        )


def _flag(info: Mapping[str, Any], name: str, count: int) -> np.ndarray:
    return np.asarray(info.get(name, np.zeros(count, bool)), bool)
