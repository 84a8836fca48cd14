"""Meta-training: minimise ``learner.loss(batch)``, survive anything, and continue bit for bit.

This is the loop: lock, log, checkpoints, signals. What a step does with a batch is the *update* (``update.py``), where
batches come from is the *source* (``sources.py``), and the loop knows neither.

What a step does is a function of its number: a source draws the batch of step ``k`` with
``generator("train", seed, k)``, and whatever the loss itself draws from torch's generator is seeded by
``(seed, k)`` too. So the state of a training is its weights, its moments, ``k`` and how many rounds of episodes were
gathered, and one that was killed and resumed ends with exactly the weights of one that was not (same machine, same
versions, same threads).
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from watchtrylearn.system.files import directory_lock
from watchtrylearn.system.progress import Advance, Display
from watchtrylearn.system.signals import Interrupted, stop_signals
from watchtrylearn.training import checkpoint
from watchtrylearn.training.config import TrainConfig
from watchtrylearn.training.metrics import MetricLog, read_metrics
from watchtrylearn.training.rounds import seed_torch
from watchtrylearn.training.sources import Source, require_source
from watchtrylearn.training.state import BAD_STEPS, TrainingState
from watchtrylearn.training.update import GradientDescent, MakeUpdate
from watchtrylearn.types import Learner, WtlError

logger = logging.getLogger(__name__)


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


def fit(
    learner: Learner,
    source: Source,
    config: TrainConfig,
    directory: str | Path,
    data: Mapping[str, str],
    progress: Display | None = None,
    should_stop: Callable[[], bool] | None = None,
    update: MakeUpdate = GradientDescent,
    device: torch.device | str = "cpu",
) -> TrainSummary:
    """Train ``learner`` in ``directory``, or continue there, or do nothing if that training is finished.

    ``source`` gives the batches: ``FixedSource(sample)`` those of a dataset. ``data`` says of every dataset
    (and of whatever else training starts from) by name what it holds: ``EpisodeStore.digest()``. In the end ``learner``
    has the exported weights (``model.safetensors``) and is in evaluation mode. Beside them the directory has
    ``config.json``, ``metrics.jsonl``, ``tensorboard/``, ``checkpoints/`` and what was gathered.

    ``update``, made with (learner, config), says what a step does with a batch. The learner and every batch are moved
    to ``device``; the last bits of a result depend on it. (Not run on a GPU yet.)

    Raises ``WtlError`` if the directory holds a run with other settings or data, naming each, or if ``BAD_STEPS``
    steps in a row had no finite gradient or the weights in the end are not finite (the last checkpoint stays, nothing
    is exported); ``Interrupted`` after Ctrl-C, SIGTERM or ``should_stop() == True``, with the state saved: after the
    step at hand, and where episodes are being gathered for it, once they are stored. A loss that ends above where it
    began is exported with a warning.
    """
    require_source(source)
    require_present(device)
    directory = Path(directory)
    with ExitStack() as stack:
        stack.enter_context(directory_lock(directory))
        stack.enter_context(_torch_settings(config.threads))
        signalled = stack.enter_context(stop_signals())
        learner.to(device)
        learner.train(True)
        state = TrainingState(learner, update(learner, config), source, config, data)
        state.begin(directory)
        resumed_at = state.step
        log = stack.enter_context(MetricLog(directory, state.step))
        display = progress or Display()
        advance = stack.enter_context(display.track(f"training {learner.name}", config.steps, state.step))
        requested = should_stop or (lambda: False)
        _train(state, device, directory, log, advance, lambda: signalled() or signal.SIGINT * requested())
        state.update.finish()
        checkpoint.save_model(directory, learner.state_dict(), state.settings())
    learner.train(False)
    return TrainSummary(state.step, state.skipped, state.seconds, _last_loss(directory, state), resumed_at)


def require_present(device: torch.device | str, name: str = "device") -> None:
    """Refuses a CUDA device where torch finds none; ``name`` is what the person calls the choice of one."""
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise WtlError(f"{name} {device}: torch finds no CUDA device here; leave it out to work on the CPU")


def _last_loss(directory: Path, state: TrainingState) -> float:
    """The loss in the last row of the log, NaN if it is not known; a warning if training on a dataset only made it
    worse. (On what a learner gathers meanwhile, losses cannot be compared.)"""
    losses = [row.get("loss", math.nan) for row in read_metrics(directory)]
    if losses and losses[-1] > losses[0] and not state.source.gathers(0):
        logger.warning(
            "%s: the loss ended at %.4g, above the %.4g where it began: this training went wrong, and what it exported "
            "is worth little; a lower train.learning_rate may help",
            state.learner.name, losses[-1], losses[0],
        )  # fmt: skip
    return losses[-1] if losses else math.nan


def _train(
    state: TrainingState,
    device: torch.device | str,
    directory: Path,
    log: MetricLog,
    advance: Advance,
    stop: Callable[[], int],
) -> None:
    config = state.config
    now = saved_at = time.monotonic()
    note = ""
    while state.step < config.steps:
        if state.source.gathers(state.step):
            advance(0, f"gathering episodes  {note}".rstrip())
        seed_torch("torch", config.seed, state.step)
        state.advance(state.source.batch(state.step).to(device))
        if state.bad_in_a_row == BAD_STEPS:
            raise WtlError(_bad_steps(state, directory))
        last = state.step == config.steps
        if last or state.step % config.log_every == 0:
            row = state.take_window()
            log.write(state.step, row)
            note = f"loss {row['loss']:.4g}" if "loss" in row else "no finite loss"
        before, now = now, time.monotonic()
        state.seconds += now - before
        signal_number = stop()
        if last or signal_number or now - saved_at >= config.checkpoint_every:
            log.sync()
            state.save(directory)
            saved_at = now
        if signal_number:
            raise Interrupted(_stopped(state, directory), signal_number)
        advance(1, note)


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


def _stopped(state: TrainingState, directory: Path) -> str:
    return (
        f"stopped after step {state.step} of {state.config.steps} of {state.learner.name}; "
        f"the state is saved in {directory}, and the same command continues from there"
    )


def _bad_steps(state: TrainingState, directory: Path) -> str:
    return (
        f"{state.learner.name}: loss or gradient was not finite in {BAD_STEPS} steps in a row, up to step "
        f"{state.step}; the last good checkpoint stays in {directory}; a lower train.learning_rate may help"
    )
