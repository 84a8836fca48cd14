"""How often is the block reached by the demonstrator, by whoever does not know which one is meant, and by chance?

Every held-out task in as many scenes (150 tasks; the paper has 10 attempts at each).

usage: python benchmarks/reach_reference.py [--scenes 40]
"""

import argparse
from collections.abc import Sequence

import numpy as np

from watchtrylearn.rollouts import rollout
from watchtrylearn.suites.reach import BLOCKS, NOISE, SPEC, Expert, Reach
from watchtrylearn.types import Episode, Observation


class Uniform:
    """Random commands, each uniform within ``size`` times its bounds."""

    def __init__(self, size: float) -> None:
        self.size = size

    def reset(self, rngs: Sequence[np.random.Generator]) -> None:
        self.rngs = rngs

    def act(self, observation: Observation) -> np.ndarray:
        return np.stack([rng.uniform(-self.size, self.size, SPEC.action.size) for rng in self.rngs])


def say(who: str, episodes: Sequence[Episode]) -> None:
    rate = np.mean([episode.success for episode in episodes])
    away = np.mean([episode.terms["distance"] for episode in episodes])
    print(f"{who:43} {100 * rate:5.1f} %, at the end {100 * away:4.1f} cm away")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=40)
    options = parser.parse_args()
    suite = Reach()
    tasks = [task for task in suite.tasks("test") for _ in range(options.scenes)]
    seeds = list(range(options.scenes)) * (len(tasks) // options.scenes)
    print(f"{len(tasks)} attempts")
    worlds = suite.worlds(tasks, seeds)
    say(f"demonstrator, commands disturbed by {NOISE:.2f}", suite.demonstrations(tasks, seeds))
    say("the same, undisturbed", rollout(Expert(worlds), worlds))
    blind = np.random.default_rng(0).integers(BLOCKS, size=len(tasks))
    say("the same to any of the three blocks", rollout(Expert(worlds, blind), worlds))
    say("random commands", rollout(Uniform(1.0), worlds))
    say("no commands", rollout(Uniform(0.0), worlds))


if __name__ == "__main__":
    main()
