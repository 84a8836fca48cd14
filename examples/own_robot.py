"""Bring your own robot: an arm this library has never heard of watches, tries and learns.

A planar arm with two joints stands before a red, a green and a blue pad. A person shows it once which one to
touch. Did they mean the colour, or the place? Where the pads lie in another order, in two of three scenes,
the two readings disagree, and one demonstration cannot tell them apart. So the best possible success at the
first attempt is 1/3 + 2/3 * 1/2 = 2/3; but whoever learns from a failure succeeds at the second, always.

    python examples/own_robot.py [DIRECTORY]

The commands do the same with it, and more, with the same results file and report as any suite of the library:

    wtl demo --preset debug --suite examples/own_robot.py:make

What a robot needs: an ordinary ``gymnasium.Env`` that tells ``info["success"]`` (``Arm``), a description of
its numbers (``SPEC``), and a suite that lists tasks and makes worlds (``ArmSuite``). The rest does by hand what the
commands do.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import watchtrylearn as wtl

UPPER, TURN, HORIZON, TOUCH = 0.6, 0.25, 20, 0.08  # upper arm (m), rad per step, steps, radius of a pad (m)
COLOURS, PLACES = ("red", "green", "blue"), ("left", "middle", "right")
TASKS = {"train": range(96), "val": range(96, 108), "test": range(108, 132)}
SCENES = 9  # of each task
NET = wtl.NetConfig(width=64, hidden=(128, 128))  # smaller than usual, as is the problem

STATE = ("x", "y", "shoulder", "elbow", "shoulder velocity", "elbow velocity")
PADS = tuple(f"{colour} {axis}" for colour in COLOURS for axis in "xy")
SPEC = wtl.Spec(
    fps=10,
    horizon=HORIZON,
    observation={
        "state": wtl.Channel(STATE, (-2.0, -2.0, -9.0, -9.0, -1.0, -1.0), (2.0, 2.0, 9.0, 9.0, 1.0, 1.0)),
        "environment_state": wtl.Channel(PADS, (-2.0,) * 6, (2.0,) * 6),
    },
    action=wtl.Channel(("shoulder", "elbow"), (-TURN, -TURN), (TURN, TURN)),  # how far to turn in this step
    entities=3,  # the environment is three things of two numbers each ...
    position=2,  # ... which are a position, as are the first two numbers of the state
)


# ---------------------------------------------------------------------------------------------- the robot


class Arm(gymnasium.Env[Any, Any]):
    """One arm in one scene: the same task and scene number is the same scene, always."""

    def __init__(self, task: wtl.Task, scene: int) -> None:
        self.task, self.target = task, target(task, scene)
        self.observation_space = gymnasium.spaces.Dict({n: c.space() for n, c in SPEC.observation.items()})
        self.action_space = SPEC.action.space()
        rng = np.random.default_rng([int(task["arm"]), scene])
        direction = np.array([2.5, 1.57, 0.64])[[place(colour, scene) for colour in range(3)]]
        direction += rng.uniform(-0.2, 0.2, 3)
        self.pads = rng.uniform(0.7, 0.9, (3, 1)) * unit(direction)
        self.start = np.array([0.6, 2.2]) + rng.uniform(-0.1, 0.1, 2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[wtl.Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self.joints, self.velocity, self.steps = self.start, np.zeros(2), 0
        return self.observe(), {}

    def step(self, action: np.ndarray) -> tuple[wtl.Observation, float, bool, bool, dict[str, Any]]:
        self.velocity = 0.5 * self.velocity + 0.5 * np.clip(action, -TURN, TURN)  # the motors lag behind
        self.joints, self.steps = self.joints + self.velocity, self.steps + 1
        touched = np.flatnonzero(np.linalg.norm(self.pads - self.tip(), axis=1) < TOUCH)
        success = self.target in touched
        return self.observe(), float(success), touched.size > 0, self.steps >= HORIZON, {"success": success}

    def tip(self) -> np.ndarray:
        """Where the forearm ends; every arm has a forearm of another length."""
        tip: np.ndarray = np.array([UPPER, float(self.task["forearm"])]) @ unit(self.joints.cumsum())
        return tip

    def observe(self) -> wtl.Observation:
        state = np.concatenate([self.tip(), self.joints, self.velocity])
        return {"state": state.astype(np.float32), "environment_state": self.pads.ravel().astype(np.float32)}


class Arms(gymnasium.vector.SyncVectorEnv):
    """Many arms: Gymnasium's own vectorised environment, which also knows what its worlds are."""

    def __init__(self, tasks: Sequence[wtl.Task], seeds: Sequence[int]) -> None:
        super().__init__([partial(Arm, task, seed) for task, seed in zip(tasks, seeds, strict=True)])
        self.tasks, self.seeds, self.episode_spec = list(tasks), list(seeds), SPEC


class Person:
    """Demonstrates: turns the joints so that the tip moves straight to the right pad, at any pace."""

    def __init__(self, targets: Sequence[int]) -> None:
        self.targets = np.array(targets)

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.pace = np.array([rng.uniform(0.4, 0.8) for rng in rngs])

    def act(self, observation: wtl.Observation) -> np.ndarray:
        tip, elbow = observation["state"][:, :2], UPPER * unit(observation["state"][:, 2])
        levers = np.stack([tip, tip - elbow], 2)  # (world, xy, joint): from each joint to the tip
        jacobian = np.stack([-levers[:, 1], levers[:, 0]], 1)  # the tip moves at right angles to the lever
        pads = observation["environment_state"].reshape(-1, 3, 2)
        way = pads[np.arange(len(tip)), self.targets] - tip
        turn = np.linalg.solve(jacobian, way[..., None])[..., 0] * self.pace[:, None]
        return np.asarray(turn * np.minimum(1.0, TURN / np.abs(turn).max(1, keepdims=True)))


def unit(angle: np.ndarray) -> np.ndarray:
    vector: np.ndarray = np.stack([np.cos(angle), np.sin(angle)], -1)
    return vector


# ---------------------------------------------------------------------------------------------- the suite


class ArmSuite:
    """The ``wtl.Suite`` protocol: a name, a spec, tasks by split, and worlds to attempt them in."""

    name, spec = "arm", SPEC

    def tasks(self, split: Any) -> list[wtl.Task]:
        """Two tasks for every arm, one per reading; the arms of the test are new."""
        return [self.task(split, number) for number in TASKS[split]]

    def task(self, split: Any, number: int) -> wtl.Task:
        arm, reading = number // 2, ("colour", "place")[number % 2]
        value = arm % 3
        which = f"{COLOURS[value]} pad" if reading == "colour" else f"pad on the {PLACES[value]}"
        forearm = float(np.random.default_rng(arm).uniform(0.45, 0.55))
        parameters = (("arm", arm), ("reading", reading), ("value", value), ("forearm", forearm))
        return wtl.Task(self.name, reading, f"arm-{number:03d}", split, f"touch the {which}", parameters)

    def worlds(self, tasks: Sequence[wtl.Task], seeds: Sequence[int]) -> Arms:
        return Arms(tasks, seeds)

    def demonstrations(self, tasks: Sequence[wtl.Task], seeds: Sequence[int]) -> list[wtl.Episode]:
        person = Person([target(task, seed) for task, seed in zip(tasks, seeds, strict=True)])
        return wtl.rollout(person, self.worlds(tasks, seeds), kind="demo")

    def demonstrate(self, task: wtl.Task, seed: int) -> wtl.Episode:
        return self.demonstrations([task], [seed])[0]


def make() -> ArmSuite:
    """What ``--suite examples/own_robot.py:make`` names."""
    return ArmSuite()


def place(colour: int, scene: int) -> int:
    """Where a colour lies; consecutive scenes go through the three orders in turn."""
    return (colour + scene) % 3


def target(task: wtl.Task, scene: int) -> int:
    """The pad that is meant, as a colour."""
    value = int(task["value"])
    return value if task["reading"] == "colour" else (value - scene) % 3


# --------------------------------------------------------------------------------------- watch, try, learn


def main(directory: Path, steps: int = 350) -> dict[str, list[float]]:
    """Success of each method at its first, second and third attempt on the test tasks."""
    suite = ArmSuite()
    tasks = [task for task in suite.tasks("train") for _ in range(SCENES)]
    seeds = list(range(SCENES)) * len(suite.tasks("train"))

    demos = stored(directory / "demos", lambda: suite.demonstrations(tasks, seeds))  # watch

    one_shot: Any = wtl.make_learner("one_shot", SPEC, wtl.OneShotConfig(NET))
    train(one_shot, [demos], steps, directory / "one_shot")

    shown = demos.read()
    elsewhere = [i - seed + (seed + 4) % SCENES for i, seed in enumerate(seeds)]  # the same task, another scene
    contexts = [wtl.Context(demos=[shown[i]]) for i in elsewhere]
    explorer, worlds = one_shot.explore(contexts), suite.worlds(tasks, seeds)
    trials = stored(directory / "trials", lambda: wtl.rollout(explorer, worlds))  # try

    learner: Any = wtl.make_learner("watch_try_learn", SPEC, wtl.WatchTryLearnConfig(NET))
    learner.start_from(one_shot)
    train(learner, [demos, trials], steps, directory / "watch_try_learn")  # learn

    scenes = test_scenes(suite)
    return {method.name: success(method, suite, scenes) for method in (one_shot, learner)}


def stored(path: Path, make: Callable[[], Sequence[wtl.Episode]]) -> wtl.EpisodeStore:
    """The dataset at ``path``, made first if need be: a second start goes on where the first stopped."""
    with wtl.EpisodeStore.open_or_create(path, SPEC, suite=ArmSuite.name) as store:
        if not len(store):
            store.append(make())
    return store


def train(learner: Any, data: Sequence[wtl.EpisodeStore], steps: int, directory: Path) -> None:
    """Meta-trains ``learner`` on (context, episode to imitate) pairs drawn from the episodes in ``data``."""
    episodes = [episode for store in data for episode in store.read()]
    pairs = wtl.PairIndex(wtl.EpisodeTable.of(episodes), learner.config.sampling)
    store = wtl.stack(episodes, SPEC)
    learner.prepare(store)
    plan = wtl.TrainConfig(steps=steps, learning_rate=4e-3)
    held = {store.path.name: store.digest() for store in data}  # so that a later start notices other data
    source = wtl.FixedSource(lambda rng: wtl.gather(store, pairs.sample(rng, plan.batch_size)))
    wtl.fit(learner, source, plan, directory, held)


def test_scenes(suite: ArmSuite) -> list[wtl.Scene]:
    """New arms in new scenes, three for each demonstration: all three orders of the pads.

    In scenes that are multiples of three, both tasks of an arm are demonstrated in the same way.
    """
    jobs = [(task, scene) for task in suite.tasks("test") for scene in range(SCENES)]
    shown = suite.demonstrations([task for task, _ in jobs], [999 + scene // 3 * 3 for _, scene in jobs])
    return [wtl.Scene(task, (demo,), 2000 + scene) for (task, scene), demo in zip(jobs, shown, strict=True)]


def success(method: Any, suite: ArmSuite, scenes: Sequence[wtl.Scene]) -> list[float]:
    attempts = wtl.evaluate(method, suite, scenes, trials=2)
    return [float(np.mean([a.episode.success for a in attempts if a.trials == k])) for k in range(3)]


def report(rates: dict[str, list[float]]) -> None:
    print(f"{'success on new tasks':24}{'1st attempt':>12}{'2nd':>8}{'3rd':>8}")
    for name, values in {**rates, "the best possible": [2 / 3, 1.0, 1.0]}.items():
        print(f"{name:24}{values[0]:12.0%}{values[1]:8.0%}{values[2]:8.0%}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        report(main(Path(sys.argv[1] if len(sys.argv) > 1 else temporary)))
