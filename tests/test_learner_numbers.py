"""The numbers of every method, with every encoder, stay what they were: losses, trained weights, actions.

``learner_numbers.json`` has them from before the code was last rearranged. They are compared to five digits, since
the last bits depend on the machine; ``python tests/test_learner_numbers.py`` prints a digest of all bits, to hold
two versions of the code against each other on one machine.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from toy_learners import Random
from watchtrylearn.data.batches import gather, stack
from watchtrylearn.data.sampling import PairIndex
from watchtrylearn.data.table import EpisodeTable
from watchtrylearn.learners import learner_entry, make_learner
from watchtrylearn.nn.target_net import NetConfig
from watchtrylearn.ops.random import generator
from watchtrylearn.rollouts import rollout
from watchtrylearn.suites import make_suite
from watchtrylearn.types import Context, Episode

KEPT = Path(__file__).with_name("learner_numbers.json")
SMALL = NetConfig(width=16, hidden=(16,), code=8, chunk=3, execute=2, mixtures=2)
SUITE = make_suite("toy")
COMBINATIONS = [
    (name, embedding)
    for name in ("bc", "one_shot", "trials_only", "watch_try_learn")
    for embedding in ("object", "flat", "transitions", "last_frame")
] + [("contextual", "last_frame")]
STEPS = 20


@cache
def episodes() -> tuple[list[Episode], list[Episode]]:
    """Demonstrations, and attempts that owe nothing to a network."""
    demos = [SUITE.demonstrate(task, seed) for task in SUITE.tasks("train")[:16] for seed in range(4)]
    worlds = SUITE.worlds([d.task for d in demos], [d.seed for d in demos])
    return demos, rollout(Random().adapt([Context()] * len(demos)), worlds)


def numbers(name: str, embedding: str) -> dict[str, np.ndarray]:
    """The loss of every step of a short training, the weights after it, and what the policies do then."""
    demos, trials = episodes()
    learner = make_learner(
        name, SUITE.spec, learner_entry(name).config(net=replace(SMALL, embedding=embedding)), seed=3
    )
    store = stack(demos + trials, SUITE.spec)
    learner.prepare(store)
    pairs = PairIndex(EpisodeTable.of(demos + trials), replace(learner.config.sampling, frames=3))
    trained = [p for _, p in learner.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-2)
    found: dict[str, list[np.ndarray]] = {"losses": []}
    for step in range(STEPS):
        loss, parts = learner.loss(gather(store, pairs.sample(generator("numbers", step), 8)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found["losses"].append(torch.stack([loss, parts["nll"]]).detach().numpy())
    found["weights"] = [value.numpy().ravel() for _, value in sorted(learner.state_dict().items())]
    learner.train(False)
    contexts = [Context(demos[:1]), Context(demos[4:6], trials[4:7]), Context(demos[8:9], trials[8:9])]
    for verb in ("adapt", "explore"):
        policy = getattr(learner, verb)(contexts)
        policy.reset([generator("world", i) for i in range(len(contexts))])
        worlds = SUITE.worlds([demos[i].task for i in (0, 4, 8)], [40, 41, 42])
        observation, _ = worlds.reset()
        found[verb] = []
        for _ in range(5):
            found[verb].append(policy.act(observation))
            observation = worlds.step(found[verb][-1])[0]
    return {what: np.concatenate([np.ravel(v) for v in values]) for what, values in found.items()}


@pytest.mark.parametrize(("name", "embedding"), COMBINATIONS)
def test_every_number_is_what_it_was(name: str, embedding: str) -> None:
    found, kept = numbers(name, embedding), json.loads(KEPT.read_text())[f"{name} {embedding}"]
    assert found["losses"][[0, -2]] == pytest.approx(kept["losses"], rel=1e-4)
    assert [np.abs(found["weights"]).sum(), len(found["weights"])] == pytest.approx(kept["weights"], rel=1e-4)
    for verb in ("adapt", "explore"):
        assert found[verb] == pytest.approx(kept[verb], abs=1e-3)


def main() -> None:
    """Prints a digest of every bit of everything; with ``--write``, notes the numbers."""
    torch.set_num_threads(1)
    kept = {}
    for name, embedding in COMBINATIONS:
        found = numbers(name, embedding)
        digest = hashlib.sha256(b"".join(found[what].astype(np.float32).tobytes() for what in sorted(found)))
        print(f"{digest.hexdigest()[:16]}  {name} {embedding}")
        kept[f"{name} {embedding}"] = {
            "losses": found["losses"][[0, -2]].tolist(),
            "weights": [float(np.abs(found["weights"]).sum()), len(found["weights"])],
            **{verb: [round(float(x), 6) for x in found[verb]] for verb in ("adapt", "explore")},
        }
    if "--write" in sys.argv:
        KEPT.write_text(json.dumps(kept, indent=0) + "\n")


if __name__ == "__main__":
    main()
