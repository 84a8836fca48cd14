"""Training one method of a plan, wherever its episodes come from: a simulated run, or recordings from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from watchtrylearn.data.batches import gather
from watchtrylearn.data.sampling import Indexing
from watchtrylearn.experiments.plan import Method
from watchtrylearn.learners import learner_entry, make_learner
from watchtrylearn.ops.random import generator
from watchtrylearn.ops.symmetry import SymmetryGroup
from watchtrylearn.system.progress import Display
from watchtrylearn.training.fit import TrainSummary, fit
from watchtrylearn.training.material import Material, Sourced, Updating
from watchtrylearn.training.sources import FixedSource, Source
from watchtrylearn.training.update import GradientDescent
from watchtrylearn.types import Learner, Spec, Successor, WtlError


def fit_method(
    method: Method,
    material: Material,
    directory: Path,
    data: Mapping[str, str],
    display: Display,
    *,
    start: Learner | None = None,
    device: str = "cpu",
) -> TrainSummary:
    """Trains ``method`` in ``directory`` from ``material``, or continues there.

    Args:
        data: what identifies the material: name -> digest. A training is not continued on other data.
        start: the trained learner of the method from whose weights this one begins.
    """
    learner = make_learner(method.learner, material.spec, method.config, seed=material.seed)
    if start is not None:
        if not isinstance(learner, Successor):
            raise WtlError(f"{method.learner} cannot begin with the weights of {start.name}: it has no `start_from`")
        learner.start_from(start)
    plan = replace(method.train, seed=material.seed)
    source = _source(learner, method, material)
    update = (lambda _, config: learner.make_update(config)) if isinstance(learner, Updating) else GradientDescent
    return fit(learner, source, plan, directory, data, display, update=update, device=device)


def looked_at(method: Method, spec: Spec) -> Spec:
    """The channels that ``method`` is trained on: numbers alone, unless it is shown images or has its own source."""
    entry = learner_entry(method.learner)
    if entry.has_source or entry.image_frames(method.config) is not None:
        return spec
    return replace(spec, observation=spec.numbers)


def _source(learner: Learner, method: Method, material: Material) -> Source:
    """The learner's own source; else examples of the episodes, as the type of its config's ``sampling`` draws them."""
    if isinstance(learner, Sourced):
        return learner.source(material)
    entry, memory = learner_entry(method.learner), material.memory
    sampling = entry.sampling(method.config)
    if not isinstance(sampling, Indexing):
        raise WtlError(
            f"nothing says what {method.learner} is trained on: it has no `source`, and its config has no `sampling` "
            "with an `index`"
        )
    examples = sampling.index(memory.table)
    shown = entry.image_frames(method.config) or 0

    def draw(rng: np.random.Generator) -> Any:
        return gather(memory, examples.sample(rng, material.batch_size), shown)

    if not uses_symmetries(method):
        learner.prepare(memory.numbers())
        return FixedSource(draw)
    if not material.symmetries:
        raise WtlError(f"{method.learner}: sampling.symmetries: nothing here declares symmetries; a suite may")
    group, numbers = SymmetryGroup(material.symmetries, material.spec), memory.numbers()
    # Units are taken from what will be seen: a number that is always the same in the data is not so in all its images.
    learner.prepare(group.apply(numbers, group.draw(generator("scaling", material.seed), len(numbers.length))))

    def draw_changed(rng: np.random.Generator) -> Any:
        batch = draw(rng)
        return group.apply(batch, group.draw(rng, material.batch_size))

    return FixedSource(draw_changed, {"symmetries": [asdict(symmetry) for symmetry in material.symmetries]})


def uses_symmetries(method: Method) -> bool:
    """Does the sampling of a method ask for the suite's symmetries?"""
    return bool(getattr(learner_entry(method.learner).sampling(method.config), "symmetries", False))
