"""Episodes with images of which every pixel tells the episode and the step it is from."""

import numpy as np

from watchtrylearn.types import Channel, Episode, ImageChannel, Kind, Spec, Task

SPEC = Spec(
    fps=10,
    horizon=6,
    observation={
        "state": Channel(("x", "y"), (-1e6,) * 2, (1e6,) * 2),
        "camera": ImageChannel(3, 4),
        "wrist": ImageChannel(2, 2),
    },
    action=Channel(("dx", "dy"), (-1e6,) * 2, (1e6,) * 2),
)


def mark(number: int, frame: int | np.ndarray) -> int | np.ndarray:
    """What every pixel of an episode's frame is; never 0."""
    return number * 8 % 240 + frame + 1


def episode(
    number: int, steps: int, kind: Kind = "demo", task: int = 0, seed: int = 0, final: bool = True, ended: bool = False
) -> Episode:
    """Its numbers are ``number + 1`` and hundredths for the step; ``final`` counts as step ``steps``."""
    value = number + 1 + 0.01 * np.arange(steps + 1, dtype=np.float32)
    pixel = mark(number, np.arange(steps + 1)).astype(np.uint8)
    seen = {
        "state": np.repeat(value[:, None], 2, 1),
        "camera": np.broadcast_to(pixel[:, None, None, None], (steps + 1, 3, 4, 3)).copy(),
        "wrist": np.broadcast_to(pixel[:, None, None, None], (steps + 1, 2, 2, 3)).copy(),
    }
    return Episode(
        task=Task("images", "f", f"t{task}", "train", "do it"),
        kind=kind,
        seed=seed,
        observation={name: values[:steps] for name, values in seen.items()},
        action=np.repeat(value[:steps, None], 2, 1) + 0.5,
        reward=value[:steps] * 2,
        success=kind == "demo",
        terminated=ended,
        final={name: values[steps] for name, values in seen.items()} if final else {},
    )
