"""Meta-training: minimise ``learner.loss(batch)``, survive anything, and continue bit for bit.

What a step does is a function of its number: the batch of step ``k`` is drawn with
``generator("train", seed, k)``, and whatever the loss itself draws from torch's generator is seeded by
``(seed, k)`` too. So the state of a run is its weights, its moments and ``k``, and a run that was killed and
resumed ends with exactly the weights of one that was not (same machine, same versions, same threads).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from torch import Tensor, nn

from watchtrylearn.ops.random import generator
from watchtrylearn.system.config import require_within
from watchtrylearn.system.files import directory_lock, read_typed, write_json
from watchtrylearn.system.progress import Advance, Display
from watchtrylearn.system.settings import differences, refuse_changes
from watchtrylearn.system.signals import Interrupted, stop_signals
from watchtrylearn.training import checkpoint
from watchtrylearn.training.metrics import MetricLog, read_metrics
from watchtrylearn.types import Batch, Learner, WtlError

_CONFIG, _CHECKPOINTS = "config.json", "checkpoints"
MOST_STEPS, MOST_ROWS, LARGEST = 10**9, 100_000, 1e9  # bounds of what a config may ask for
BAD_STEPS = 10  # so many steps without a finite gradient in a row are not bad luck

_MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's

logger = logging.getLogger(__name__)

Sample = Callable[[np.random.Generator], Batch]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: optimizer steps.
        batch_size: tasks in a batch; for whoever builds ``sample``, recorded here so that a run cannot be resumed with
            another.
        learning_rate: of AdamW, at its peak: reached linearly after ``warmup`` steps, falling along half a
            cosine to ``final_rate`` (a fraction of the peak) at the last step.
        weight_decay: of matrices; vectors (biases, scales, step sizes) are not decayed.
        clip_norm: the largest global norm of the gradient.
        average: the model that is exported is a moving average of the weights with this decay per step,
            shorter at the start, ``min(average, (1 + k) / (10 + k))``; 0 exports the last weights.
        checkpoint_every: seconds between checkpoints.
        log_every: steps between rows of the log; a row is the mean over the steps since the row before.
        seed: of everything random in training.
        threads: torch threads; 0 leaves torch's choice. Two threads wait for each other whenever another program uses
            a core, and small networks gain little from them. The last bit of a result may depend on it.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    final_rate: float = 0.0
    warmup: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    average: float = 0.999
    checkpoint_every: float = 30.0
    log_every: int = 20
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) <= LARGEST:
                raise WtlError(
                    f"train.{name} must be greater than 0 and at most {LARGEST:g}, got {getattr(self, name)}"
                )
        if not 0 <= self.average < 1:
            raise WtlError(f"train.average must be at least 0 and below 1, got {self.average}")
        require_within(
            "train.",
            self,
            steps=(1, MOST_STEPS),
            batch_size=(1, 100_000),
            final_rate=(0, LARGEST),
            warmup=(0, MOST_STEPS),
            weight_decay=(0, LARGEST),
            checkpoint_every=(0, LARGEST),
            log_every=(1, MOST_STEPS),
            seed=(0, 2**32),
            threads=(0, 1024),
        )
        if self.steps > MOST_ROWS * self.log_every:
            raise WtlError(
                f"train.log_every must be at least {-(-self.steps // MOST_ROWS)} for {self.steps:,} steps, "
                f"so that the log has no more than {MOST_ROWS:,} rows; got {self.log_every}"
            )


@dataclass(frozen=True)
class _Begun:
    """What determines the result of a run: ``config.json``."""

    learner: str
    config: dict[str, Any]
    spec: dict[str, Any]
    train: dict[str, Any]
    versions: dict[str, str]
    data: dict[str, str] | None = None  # not noted by the first versions


@dataclass(frozen=True)
class _State(_Begun):
    """The state of a checkpoint: what determines the run, and the counters."""

    skipped: Annotated[int, Meta(ge=0)] = 0
    bad_in_a_row: Annotated[int, Meta(ge=0, lt=BAD_STEPS)] = 0
    seconds: Annotated[float, Meta(ge=0)] = 0.0
    window: dict[str, tuple[float, Annotated[int, Meta(gt=0)]]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainSummary:
    """How training went: ``seconds`` counts all sessions; ``loss`` is the mean in the last row of the log.

    NaN if there was no finite loss, or if the log is gone.
    """

    steps: int
    skipped: int
    seconds: float
    loss: float
    resumed_at: int


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of step 0, 1, ...: linear warm-up, then half a cosine."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    fraction = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * fraction


# ---------------------------------------------------------------------------------------------------- a run


class Run:
    """The state of a training run: learner, optimizer, averaged weights, counters, the log's open window."""

    def __init__(self, learner: Learner, config: TrainConfig, data: Mapping[str, str]) -> None:
        self.learner = learner
        self.config = config
        self.data = data
        self.parameters = {n: p for n, p in learner.named_parameters() if p.requires_grad}
        self.optimizer = _optimizer(list(self.parameters.values()), config)
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.step = 0
        self.skipped = 0
        self.bad_in_a_row = 0
        self.seconds = 0.0
        self.window: dict[str, list[float]] = {}  # name -> [sum, count] since the last row of the log

    def advance(self, batch: Batch) -> None:
        """One optimizer step, or, if loss or gradient are not finite, none: it is skipped and counted."""
        rate = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss, parts = self.learner.loss(batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        logged = {**parts, "loss": loss, "gradient_norm": norm}
        # one transfer for all the numbers of a step
        values = dict(zip(logged, torch.stack([v.detach() for v in logged.values()]).tolist(), strict=True))
        if math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"]):
            self._apply()
            self._record({**values, "learning_rate": rate})
        else:
            self.skipped += 1
            self.bad_in_a_row += 1
        self.step += 1

    def _apply(self) -> None:
        self.optimizer.step()
        self.bad_in_a_row = 0
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    def _record(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if math.isfinite(value):
                entry = self.window.setdefault(name, [0.0, 0])
                entry[0] += value
                entry[1] += 1

    def take_window(self) -> dict[str, float]:
        """The means since the last call, and how many steps were skipped in the run so far."""
        means = {name: total / count for name, (total, count) in sorted(self.window.items())}
        self.window = {}
        return {**means, "skipped": float(self.skipped)}

    # The two halves of a checkpoint, and their inverse.

    def tensors(self) -> dict[str, Tensor]:
        """Everything learned so far, by name."""
        found = {f"model/{name}": value for name, value in self.learner.state_dict().items()}
        found |= {f"average/{name}": value for name, value in self.average.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                found[f"optimizer/{name}/{key}"] = value
        return found

    def counters(self) -> dict[str, Any]:
        """What else the rest of the run depends on; the random state is the seed and the step."""
        return {
            "skipped": self.skipped,
            "bad_in_a_row": self.bad_in_a_row,
            "seconds": self.seconds,
            "window": self.window,
            "random": {"seed": self.config.seed, "step": self.step},
        }

    def save(self, directory: Path) -> None:
        """Add a checkpoint to the run in ``directory``."""
        state = {**self.settings(), "versions": checkpoint.versions(), **self.counters()}
        checkpoint.save(directory / _CHECKPOINTS, self.step, self.tensors(), state)

    def restore(self, found: checkpoint.Checkpoint[_State]) -> None:
        """Become the run that was saved."""
        if found.step > self.config.steps:
            raise WtlError(f"{found.path} is of step {found.step:,}, this training ends at {self.config.steps:,}")
        try:
            self.learner.load_state_dict(_under("model/", found.tensors))
            for name, parameter in self.parameters.items():
                self.average[name].copy_(_like(parameter, found.tensors, f"average/{name}"))
                state = _under(f"optimizer/{name}/", found.tensors)
                for key in _MOMENTS if state else ():
                    _like(parameter, found.tensors, f"optimizer/{name}/{key}")
                if state:
                    _like(torch.zeros(()), state, "step")
                self.optimizer.state[parameter] = {key: v.to(parameter.device) for key, v in state.items()}
        except (RuntimeError, KeyError) as error:
            raise WtlError(f"{found.path} is of another network than {self.learner.name}: {error}") from error
        self.step = found.step
        self.skipped, self.bad_in_a_row = found.state.skipped, found.state.bad_in_a_row
        self.seconds = found.state.seconds
        self.window = {name: [total, count] for name, (total, count) in found.state.window.items()}

    def finish(self) -> None:
        """Give the learner its averaged weights."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])

    def settings(self) -> dict[str, Any]:
        """What determines the result of a run, as JSON."""
        found = {
            "learner": self.learner.name,
            "config": dataclasses.asdict(self.learner.config),
            "spec": self.learner.spec.to_json(),
            "train": dataclasses.asdict(self.config),
            "data": dict(self.data),
        }
        result: dict[str, Any] = json.loads(json.dumps(found))
        return result


def _like(parameter: Tensor, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """The tensor ``name``, if it can stand beside the parameter."""
    found = tensors[name]
    if (found.shape, found.dtype) != (parameter.shape, parameter.dtype):
        raise KeyError(f"{name} is {list(found.shape)} of {found.dtype}")
    return found


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer(parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)


# ------------------------------------------------------------------------------------------------------ fit


def fit(
    learner: Learner,
    sample: Sample,
    config: TrainConfig,
    directory: str | Path,
    data: Mapping[str, str],
    progress: Display | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> TrainSummary:
    """Train ``learner`` in ``directory``, or continue there, or do nothing if that run is finished.

    ``sample`` draws a batch with the generator it is given and no other randomness. ``data`` says of every dataset
    (and of whatever else training starts from) by name what it holds: ``EpisodeStore.digest()``. In the end ``learner``
    has the exported weights (``model.safetensors``) and is in evaluation mode. Beside them the directory has
    ``config.json``, ``metrics.jsonl``, ``tensorboard/`` and ``checkpoints/``.

    Raises ``WtlError`` if the directory holds a run with other settings or data, naming each, or if ``BAD_STEPS``
    steps in a row had no finite gradient or the weights in the end are not finite (the last checkpoint stays, nothing
    is exported); ``Interrupted`` after Ctrl-C, SIGTERM or ``should_stop() == True``, with the state saved. A loss that
    ends above where it began is exported with a warning.
    """
    directory = Path(directory)
    with ExitStack() as stack:
        stack.enter_context(directory_lock(directory))
        stack.enter_context(_torch_settings(config.threads))
        signalled = stack.enter_context(stop_signals())
        run = _start_or_resume(learner, config, directory, data)
        resumed_at = run.step
        log = stack.enter_context(MetricLog(directory, run.step))
        display = progress or Display()
        advance = stack.enter_context(display.track(f"training {learner.name}", config.steps, run.step))
        requested = should_stop or (lambda: False)
        _train(run, sample, directory, log, advance, lambda: signalled() or signal.SIGINT * requested())
        run.finish()
        checkpoint.save_model(directory, learner.state_dict(), run.settings())
    learner.train(False)
    return TrainSummary(run.step, run.skipped, run.seconds, _last_loss(directory, learner.name), resumed_at)


def _last_loss(directory: Path, name: str) -> float:
    """The loss in the last row of the log, NaN if it is not known; a warning if training only made it worse."""
    losses = [row.get("loss", math.nan) for row in read_metrics(directory)]
    if losses and losses[-1] > losses[0]:
        logger.warning(
            "%s: the loss ended at %.4g, above the %.4g where it began: this training went wrong, and what it exported "
            "is worth little; a lower train.learning_rate may help",
            name, losses[-1], losses[0],
        )  # fmt: skip
    return losses[-1] if losses else math.nan


def _train(
    run: Run, sample: Sample, directory: Path, log: MetricLog, advance: Advance, stop: Callable[[], int]
) -> None:
    config = run.config
    now = saved_at = time.monotonic()
    note = ""
    while run.step < config.steps:
        _seed_torch(config.seed, run.step)
        run.advance(sample(generator("train", config.seed, run.step)))
        if run.bad_in_a_row == BAD_STEPS:
            raise WtlError(_bad_steps(run, directory))
        last = run.step == config.steps
        if last or run.step % config.log_every == 0:
            row = run.take_window()
            log.write(run.step, row)
            note = f"loss {row['loss']:.4g}" if "loss" in row else "no finite loss"
        before, now = now, time.monotonic()
        run.seconds += now - before
        signal_number = stop()
        if last or signal_number or now - saved_at >= config.checkpoint_every:
            log.sync()
            run.save(directory)
            saved_at = now
        if signal_number:
            raise Interrupted(_stopped(run, directory), signal_number)
        advance(1, note)


def _seed_torch(seed: int, step: int) -> None:
    """What a loss draws from torch's own generator is a function of the step, as everything else."""
    number = int(generator("torch", seed, step).integers(2**63))
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


@contextmanager
def _torch_settings(threads: int) -> Iterator[None]:
    """Use ``threads`` threads (0: as they are), and leave torch as it was found."""
    before = torch.get_num_threads()
    with torch.random.fork_rng():
        torch.set_num_threads(threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _stopped(run: Run, directory: Path) -> str:
    return (
        f"stopped after step {run.step} of {run.config.steps} of {run.learner.name}; "
        f"the state is saved in {directory}, and the same command continues from there"
    )


def _bad_steps(run: Run, directory: Path) -> str:
    return (
        f"{run.learner.name}: loss or gradient was not finite in {BAD_STEPS} steps in a row, up to step "
        f"{run.step}; the last good checkpoint stays in {directory}; a lower train.learning_rate may help"
    )


# ------------------------------------------------------------------------------------------ start or resume


def _start_or_resume(learner: Learner, config: TrainConfig, directory: Path, data: Mapping[str, str]) -> Run:
    """The run in ``directory``, or a new one, whose first weights are saved so that a restart has them."""
    learner.train(True)
    run = Run(learner, config, data)
    settings = run.settings()
    if (directory / _CONFIG).exists():
        _refuse_changes(read_typed(directory / _CONFIG, _Begun), settings, directory)
    found = checkpoint.load_latest(directory / _CHECKPOINTS, _State)
    if found:
        _refuse_changes(found.state, settings, directory)
        run.restore(found)
    else:
        write_json(directory / _CONFIG, {**settings, "versions": checkpoint.versions()})
        run.save(directory)
    return run


def _refuse_changes(old: _Begun, settings: Mapping[str, Any], directory: Path) -> None:
    begun = {key: getattr(old, key) for key in settings}
    again = "remove that folder to train again"
    if old.data is None:
        raise WtlError(f"{directory} was begun by a version that did not note the data it trained on; {again}")
    changed = [name for name, _, _ in differences(begun.pop("data"), settings["data"])]
    if changed:
        raise WtlError(f"{directory} was begun on other data: {', '.join(changed)} changed since; {again}")
    refuse_changes(begun, {key: settings[key] for key in begun}, directory, ["train.checkpoint_every"])
    if old.versions != checkpoint.versions():
        logger.warning("%s was started with other versions: its last bits may differ", directory)
