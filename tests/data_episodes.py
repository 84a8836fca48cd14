"""Small episodes for the tests of the data package."""

import numpy as np

from watchtrylearn.ops.random import generator
from watchtrylearn.types import Channel, Episode, Kind, Spec, Task


def channel(*names: str) -> Channel:
    return Channel(names, (-10.0,) * len(names), (10.0,) * len(names))


SPEC = Spec(
    fps=10,
    horizon=12,
    observation={"state": channel("x", "y"), "environment_state": channel("a", "b", "c")},
    action=channel("dx", "dy"),
)


def make_task(number: int) -> Task:
    parameters = (
        ("target", f"mug {number}"),
        ("by", "place"),
        ("size", 0.1 * number),
        ("left", number % 2 == 0),
    )
    family = ("push", "grasp")[number % 2]
    return Task("test", family, f"{family}-{number}", "train", f"{family} the mug {number}", parameters)


def make_episode(number: int, kind: Kind | None = None, spec: Spec = SPEC, executed: bool = False) -> Episode:
    """Episode ``number``: random numbers, of a random length, that depend on nothing but ``number``."""
    rng = generator("episode", number)
    steps = int(rng.integers(1, spec.horizon + 1))

    def numbers(size: int) -> np.ndarray:
        return rng.uniform(-1, 1, (steps, size)).astype(np.float32)

    kind = kind or ("demo" if number % 2 else "trial")
    return Episode(
        task=make_task(number % 5),
        kind=kind,
        seed=int(rng.integers(2**62)),
        observation={name: numbers(c.size) for name, c in spec.observation.items()},
        action=numbers(spec.action.size),
        reward=numbers(1)[:, 0],
        success=kind == "demo" or number % 3 == 0,
        terminated=number % 4 == 0,
        executed=numbers(spec.action.size) if executed else None,
        initial_state=rng.standard_normal(7),
        terms={"distance": float(rng.uniform()), "released": 1.0},
    )


def same(one: Episode, two: Episode) -> bool:
    """Exactly equal, to the last bit and type."""
    pairs = [(one.action, two.action), (one.reward, two.reward), (one.initial_state, two.initial_state)]
    pairs += [(one.observation[name], two.observation[name]) for name in one.observation]
    pairs += [(one.executed, two.executed)] if one.executed is not None and two.executed is not None else []
    plain = ("task", "kind", "seed", "success", "diverged", "terminated", "terms")
    return (
        all(getattr(one, name) == getattr(two, name) for name in plain)
        and list(one.observation) == list(two.observation)
        and (one.executed is None) == (two.executed is None)
        and all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    )
