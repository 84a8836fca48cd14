"""How to train: the settings of a training, as they are noted in its directory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from watchtrylearn.system.config import require_within
from watchtrylearn.types import WtlError

MOST_STEPS, MOST_ROWS, LARGEST = 10**9, 100_000, 1e9  # bounds of what a config may ask for


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: optimizer steps.
        batch_size: tasks in a batch; for whoever builds the source, recorded here so that a run cannot be resumed with
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


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of step 0, 1, ...: linear warm-up, then half a cosine."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    fraction = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.learning_rate * fraction
