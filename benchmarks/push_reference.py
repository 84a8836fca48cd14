"""How often the demonstrator of the suite push succeeds, and how often random torques do, by both rules.

python benchmarks/push_reference.py [--split test] [--scenes 6]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.push.suite import Push
from watchtrylearn.types import SPLITS, Episode, Observation

AT_ONCE = 74  # worlds


class Random:
    """Torques drawn from a standard normal distribution, whatever is seen."""

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.rngs = rngs

    def act(self, observation: Observation) -> np.ndarray:
        return np.stack([rng.standard_normal(7) for rng in self.rngs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--scenes", type=int, default=6, help="of each task")
    options = parser.parse_args()
    suite = Push(size=None)  # neither looks at images
    pairs = [(task, seed) for task in suite.tasks(options.split) for seed in range(options.scenes)]
    for name in ("demonstrator", "random"):
        episodes: list[Episode] = []
        for begin in range(0, len(pairs), AT_ONCE):
            tasks, seeds = zip(*pairs[begin : begin + AT_ONCE], strict=True)
            if name == "demonstrator":
                episodes += suite.demonstrations(tasks, seeds)
            else:
                episodes += rollout(Random(), suite.worlds(tasks, seeds))
        strict, loose = np.mean([(e.success, e.terms["loose"]) for e in episodes], axis=0)
        print(f"{name:14s} {len(episodes)} {options.split} scenes: strict {strict:.1%}, loose {loose:.1%}", flush=True)


if __name__ == "__main__":
    main()
