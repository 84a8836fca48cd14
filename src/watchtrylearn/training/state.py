"""The state of a training: what a checkpoint holds, how it is read back, and what may not change between sessions."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from watchtrylearn.system.config import from_json
from watchtrylearn.system.files import read_typed, write_json
from watchtrylearn.system.settings import differences, refuse_changes
from watchtrylearn.training import checkpoint
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.sources import Source
from watchtrylearn.training.update import GradientDescent, Update, under
from watchtrylearn.types import Learner, WtlError

_CONFIG, _CHECKPOINTS = "config.json", "checkpoints"
BAD_STEPS = 10  # so many steps without a finite gradient in a row are not bad luck

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Begun:
    """What determines the result of a training: ``config.json``."""

    learner: str
    config: dict[str, Any]
    spec: dict[str, Any]
    train: dict[str, Any]
    versions: dict[str, str]
    data: dict[str, str] | None = None  # not noted by the first versions
    update: str = GradientDescent.name  # this and the next were not noted while there was only one of each
    source: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _State(_Begun):
    """The state of a checkpoint: what determines the training, the counters, and what has been gathered."""

    skipped: Annotated[int, Meta(ge=0)] = 0
    bad_in_a_row: Annotated[int, Meta(ge=0, lt=BAD_STEPS)] = 0
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    window: dict[str, tuple[float, Annotated[int, Meta(gt=0)]]] = field(default_factory=dict)
    gathered: dict[str, Any] = field(default_factory=dict)


class TrainingState:
    """Where a training stands: learner, update, source, counters, and the log's open window."""

    def __init__(
        self, learner: Learner, update: Update, source: Source, config: TrainConfig, data: Mapping[str, str]
    ) -> None:
        self.learner, self.update, self.source, self.config, self.data = learner, update, source, config, data
        self.step = 0
        self.skipped = 0
        self.bad_in_a_row = 0
        self.seconds = 0.0
        self.window: dict[str, list[float]] = {}  # name -> [sum, count] since the last row of the log

    def advance(self, batch: Any) -> None:
        """One step of the update, or, if its numbers are not finite, none: it is skipped and counted."""
        values = self.update.step(batch, self.step)
        self.skipped += values is None
        self.bad_in_a_row = self.bad_in_a_row + 1 if values is None else 0
        for name, value in {**(values or {}), **self.source.measures()}.items():
            if math.isfinite(value):
                entry = self.window.setdefault(name, [0.0, 0])
                entry[0] += value
                entry[1] += 1
        self.step += 1

    def take_window(self) -> dict[str, float]:
        """The means since the last call, and how many steps were skipped so far."""
        means = {name: total / count for name, (total, count) in sorted(self.window.items())}
        self.window = {}
        return {**means, "skipped": float(self.skipped)}

    def begin(self, directory: Path) -> None:
        """Become what was saved in ``directory``, or begin there: the first weights are saved, so that a restart has
        them."""
        settings = self.settings()
        if (directory / _CONFIG).exists():
            self._refuse_changes(read_typed(directory / _CONFIG, _Begun), settings, directory)
        found = checkpoint.load_latest(directory / _CHECKPOINTS, _State)
        if found:
            self._refuse_changes(found.state, settings, directory)
            self._restore(found)
        if self.step < self.config.steps:  # a finished training needs nothing of what was gathered
            self.source.begin(self.learner, directory, self.config.seed, found.state.gathered if found else {})
        if not found:
            write_json(directory / _CONFIG, {**settings, "versions": checkpoint.versions()})
            self.save(directory)

    # The two halves of a checkpoint, and their inverse.

    def save(self, directory: Path) -> None:
        """Add a checkpoint to the training in ``directory``."""
        tensors = {f"model/{name}": value for name, value in self.learner.state_dict().items()}
        tensors |= self.update.tensors()
        state = {
            **self.settings(),
            "versions": checkpoint.versions(),
            "skipped": self.skipped,
            "bad_in_a_row": self.bad_in_a_row,
            "seconds": self.seconds,
            "window": self.window,
            "gathered": self.source.gathered(),
            "random": {"seed": self.config.seed, "step": self.step},  # all there is of it, for whoever reads this
        }
        checkpoint.save(directory / _CHECKPOINTS, self.step, tensors, state)
        self.source.saved(checkpoint.steps(directory / _CHECKPOINTS)[-1])

    def _restore(self, found: checkpoint.Checkpoint[_State]) -> None:
        if found.step > self.config.steps:
            raise WtlError(f"{found.path} is of step {found.step:,}, this training ends at {self.config.steps:,}")
        try:
            self.learner.load_state_dict(under("model/", found.tensors))
            self.update.restore(found.tensors)
        except (RuntimeError, KeyError) as error:
            raise WtlError(f"{found.path} is of another network than {self.learner.name}: {error}") from error
        self.step = found.step
        self.skipped, self.bad_in_a_row = found.state.skipped, found.state.bad_in_a_row
        self.seconds = found.state.seconds
        self.window = {name: [total, count] for name, (total, count) in found.state.window.items()}

    def settings(self) -> dict[str, Any]:
        """What determines the result of a training, as JSON."""
        found = {
            "learner": self.learner.name,
            "config": dataclasses.asdict(self.learner.config),
            "spec": self.learner.spec.to_json(),
            "train": dataclasses.asdict(self.config),
            "data": dict(self.data),
            "update": self.update.name,
            "source": self.source.settings(),
        }
        result: dict[str, Any] = json.loads(json.dumps(found))
        return result

    def _refuse_changes(self, old: _Begun, settings: Mapping[str, Any], directory: Path) -> None:
        begun = {key: getattr(old, key) for key in settings}
        again = "remove that folder to train again"
        if old.data is None:
            raise WtlError(f"{directory} was begun by a version that did not note the data it trained on; {again}")
        changed = [name for name, _, _ in differences(begun.pop("data"), settings["data"])]
        if changed:
            raise WtlError(f"{directory} was begun on other data: {', '.join(changed)} changed since; {again}")
        if old.learner == self.learner.name:  # options that a config has by now were what they are by default
            with contextlib.suppress(WtlError):
                complete = from_json(type(self.learner.config), old.config, "config")
                begun["config"] = json.loads(json.dumps(dataclasses.asdict(complete)))
        refuse_changes(begun, {key: settings[key] for key in begun}, directory, ["train.checkpoint_every"])
        if old.versions != checkpoint.versions():
            logger.warning("%s was started with other versions: its last bits may differ", directory)
