"""Small episodes for the tests of the data package."""

from dataclasses import replace

import numpy as np

from watchtrylearn.ops.random import generator
from watchtrylearn.types import Channel, Episode, ImageChannel, Kind, Spec, Task


def channel(*names: str) -> Channel:
    return Channel(names, (-10.0,) * len(names), (10.0,) * len(names))


SPEC = Spec(
    fps=10,
    horizon=12,
    observation={"state": channel("x", "y"), "environment_state": channel("a", "b", "c")},
    action=channel("dx", "dy"),
)
SEEN = replace(SPEC, observation={**SPEC.observation, "images.front": ImageChannel(5, 6)})


def make_task(number: int) -> Task:
    parameters = (
        ("target", f"mug {number}"),
        ("by", "place"),
        ("size", 0.1 * number),
        ("left", number % 2 == 0),
    )
    family = ("push", "grasp")[number % 2]
    return Task("test", family, f"{family}-{number}", "train", f"{family} the mug {number}", parameters)


def make_episode(
    number: int, kind: Kind | None = None, spec: Spec = SPEC, executed: bool = False, final: bool = False
) -> Episode:
    """Episode ``number``: random numbers and images, of a random length, that depend on nothing but ``number``."""
    rng = generator("episode", number)
    steps = int(rng.integers(1, spec.horizon + 1))

    def numbers(size: int) -> np.ndarray:
        return rng.uniform(-1, 1, (steps, size)).astype(np.float32)

    kind = kind or ("demo" if number % 2 else "trial")
    seed = int(rng.integers(2**62))
    numeric = {name: numbers(c.size) for name, c in spec.numbers.items()}
    rest = {"action": numbers(spec.action.size), "reward": numbers(1)[:, 0]}
    seen = generator("images", number)
    images = {name: seen.integers(256, size=(steps, *c.shape), dtype=np.uint8) for name, c in spec.images.items()}
    observation = {name: (numeric | images)[name] for name in spec.observation}
    return Episode(
        task=make_task(number % 5),
        kind=kind,
        seed=seed,
        observation=observation,
        **rest,
        success=kind == "demo" or number % 3 == 0,
        terminated=number % 4 == 0,
        executed=numbers(spec.action.size) if executed else None,
        initial_state=rng.standard_normal(7),
        terms={"distance": float(rng.uniform()), "released": 1.0},
        final={name: values[0][::-1].copy() for name, values in observation.items()} if final else {},
    )


def same(one: Episode, two: Episode) -> bool:
    """Exactly equal, to the last bit and type."""
    pairs = [(one.action, two.action), (one.reward, two.reward), (one.initial_state, two.initial_state)]
    pairs += [(one.observation[name], two.observation[name]) for name in one.observation]
    pairs += [(values, two.final.get(name, np.zeros(0))) for name, values in one.final.items()]
    pairs += [(one.executed, two.executed)] if one.executed is not None and two.executed is not None else []
    plain = ("task", "kind", "seed", "success", "diverged", "terminated", "terms")
    return (
        all(getattr(one, name) == getattr(two, name) for name in plain)
        and list(one.observation) == list(two.observation)
        and list(one.final) == list(two.final)
        and (one.executed is None) == (two.executed is None)
        and all(a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True) for a, b in pairs)
    )
