"""Training: two routes to the same weights, and the same weights whatever happens on the way."""

import dataclasses
import itertools
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from processes import fork, kill, wait
from watchtrylearn.ops.random import generator
from watchtrylearn.system.files import directory_lock
from watchtrylearn.system.progress import Display
from watchtrylearn.system.signals import Interrupted
from watchtrylearn.training.checkpoint import load_latest, load_model
from watchtrylearn.training.config import TrainConfig, learning_rate
from watchtrylearn.training.fit import TrainSummary, fit
from watchtrylearn.training.metrics import MetricLog, read_metrics
from watchtrylearn.training.sources import FixedSource
from watchtrylearn.training.state import BAD_STEPS
from watchtrylearn.types import Batch, Channel, Context, ContextBatch, EpisodeBatch, Policy, Spec, WtlError

SPEC = Spec(
    fps=10,
    horizon=5,
    observation={"state": Channel(("x", "y"), (-9.0, -9.0), (9.0, 9.0))},
    action=Channel(("u",), (-9.0,), (9.0,)),
)
SLOPE = torch.tensor([[2.0], [-1.0]])


@dataclasses.dataclass(frozen=True)
class LineConfig:
    width: int = 16
    noise: float = 0.0


class Line(nn.Module):
    """Regression of the action on the state. A query whose reward is NaN makes the loss NaN."""

    name = "line"
    spec = SPEC

    def __init__(self, config: LineConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(2, config.width), nn.Tanh(), nn.Linear(config.width, 1))
        self.register_buffer("seen", torch.zeros(()))

    def prepare(self, episodes: EpisodeBatch) -> None:
        """Nothing."""

    def adapt(self, contexts: Sequence[Context]) -> Policy:
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch.query.observation["state"]
        x = x + self.config.noise * torch.randn_like(x)
        error = self.net(x) - batch.query.action
        self.seen += x.shape[0]
        return (error**2).mean() + batch.query.reward.mean(), {"error": error.detach().abs().mean()}


def sample(rng: np.random.Generator) -> Batch:
    x = torch.from_numpy(rng.normal(size=(8, 5, 2)).astype(np.float32))
    query = EpisodeBatch(
        {"state": x}, x @ SLOPE, torch.zeros(8, 5), torch.zeros(8), torch.full((8,), 5), torch.ones(8, dtype=torch.bool)
    )
    none = query[:, None]
    return Batch(ContextBatch(none, none), query, torch.zeros(8, 1, dtype=torch.long))


def config(**changes: object) -> TrainConfig:
    base = TrainConfig(steps=60, learning_rate=1e-2, warmup=10, log_every=7, checkpoint_every=0.1, threads=1)
    return dataclasses.replace(base, **changes)


def train(directory: Path, train_config: TrainConfig, **options: object) -> tuple[Line, TrainSummary]:
    learner = Line(options.pop("learner", LineConfig()))
    source = FixedSource(options.pop("sample", sample))
    options.setdefault("data", {"demos": "0123"})
    summary = fit(learner, source, config=train_config, directory=directory, progress=Display(quiet=True), **options)
    return learner, summary


def equal(a: nn.Module, b: nn.Module) -> bool:
    mine, theirs = a.state_dict(), b.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


# ---------------------------------------------------------------------------------------------- what it does


def test_learning_rate_closed_form() -> None:
    c = config(steps=110, warmup=10, learning_rate=2.0, final_rate=0.1)
    assert learning_rate(0, c) == pytest.approx(0.2)
    assert learning_rate(9, c) == pytest.approx(2.0)
    assert learning_rate(10, c) == pytest.approx(2.0)
    assert learning_rate(60, c) == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert learning_rate(110, c) == pytest.approx(0.2)


def by_hand(c: TrainConfig) -> tuple[Line, list[dict[str, Tensor]]]:
    """The same training as a plain loop; also the weights after every step."""
    learner, history = Line(LineConfig()), []
    decayed = [p for p in learner.parameters() if p.ndim > 1]
    others = [p for p in learner.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": c.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, fused=True)
    for step in range(c.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, c)
        optimizer.zero_grad()
        learner.loss(sample(generator("train", c.seed, step)))[0].backward()
        nn.utils.clip_grad_norm_(learner.parameters(), c.clip_norm)
        optimizer.step()
        history.append({name: p.detach().clone() for name, p in learner.named_parameters()})
    return learner, history


def test_it_is_the_plain_loop(tmp_path: Path) -> None:
    c = config(average=0.0)
    assert equal(train(tmp_path, c)[0], by_hand(c)[0])


def test_the_export_is_the_moving_average(tmp_path: Path) -> None:
    c = config(average=0.9)
    learner, _ = train(tmp_path, c)
    wanted = {name: p.detach().double() for name, p in Line(LineConfig()).named_parameters()}
    for step, weights in enumerate(by_hand(c)[1]):
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = {name: decay * wanted[name] + (1 - decay) * weights[name].double() for name in wanted}
    for name, parameter in learner.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), wanted[name], rtol=1e-5, atol=1e-6)


def test_it_learns_and_exports_what_it_learned(tmp_path: Path) -> None:
    learner, summary = train(tmp_path, config(steps=400, checkpoint_every=60.0))
    assert summary.loss < 0.05
    assert not learner.training
    meta, tensors = load_model(tmp_path)
    assert (meta.learner, meta.config, meta.data) == ("line", {"width": 16, "noise": 0.0}, {"demos": "0123"})
    assert Spec.from_json(meta.spec) == SPEC
    again = Line(LineConfig(**meta.config))
    again.load_state_dict(tensors)
    assert equal(again, learner)


def test_each_row_of_the_log_is_the_mean_since_the_row_before(tmp_path: Path) -> None:
    train(tmp_path, config(log_every=1, average=0.0))
    single = {row["step"]: row["loss"] for row in read_metrics(tmp_path)}
    train(tmp_path / "b", config(log_every=25, average=0.0))
    rows = read_metrics(tmp_path / "b")
    assert [row["step"] for row in rows] == [25, 50, 60]
    for row, steps in zip(rows, (range(1, 26), range(26, 51), range(51, 61)), strict=True):
        assert row["loss"] == pytest.approx(np.mean([single[step] for step in steps]))


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path, config())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    logged = [(event.step, event.value) for event in events.Scalars("loss")]
    assert logged == [(row["step"], pytest.approx(row["loss"])) for row in read_metrics(tmp_path)]


class Recorder(ModuleType):
    """Stands in for a tracker: what it was given, in order, and how it was begun."""

    def __init__(self) -> None:
        super().__init__("trackio")
        self.begun: list[dict[str, object]] = []
        self.rows: list[dict[str, float]] = []
        self.finished = 0

    def init(self, **options: object) -> None:
        self.begun.append(options)

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append({"step": step, **values})

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    found = Recorder()
    monkeypatch.setitem(sys.modules, "trackio", found)
    monkeypatch.setenv("WTL_TRACKER", "trackio")
    return found


def test_a_tracker_has_the_same_numbers_each_step_once_although_training_crashed(
    tmp_path: Path, tracker: Recorder
) -> None:
    calls = itertools.count()

    def crash(rng: np.random.Generator) -> Batch:
        if next(calls) == 35:
            raise RuntimeError("power cut")
        return sample(rng)

    with pytest.raises(RuntimeError, match="power cut"):
        fit(Line(LineConfig()), FixedSource(crash), config(), tmp_path, {"demos": "0123"}, Display(quiet=True))
    train(tmp_path, config())
    assert tracker.rows == read_metrics(tmp_path)
    assert {tuple(o.items()) for o in tracker.begun} == {tuple(tracker.begun[0].items())}  # one run, resumed
    assert tracker.begun[0]["resume"] == "allow"
    before = len(tracker.rows)
    train(tmp_path, config())
    assert len(tracker.rows) == before  # a finished run is left alone


def test_a_tracker_asked_for_later_gets_what_was_before(
    tmp_path: Path, tracker: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WTL_TRACKER")
    with pytest.raises(Interrupted):
        train(tmp_path, config(), should_stop=lambda: True)
    monkeypatch.setenv("WTL_TRACKER", "trackio")
    train(tmp_path, config())
    assert tracker.rows == read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("{}", "missing required field run"), ('{"run": "a", "step": "b"}', "step: expected int, got str")],
)
def test_a_note_for_the_tracker_that_is_none_is_refused(
    content: str, sentence: str, tmp_path: Path, tracker: Recorder
) -> None:
    (tmp_path / "tracker.json").write_text(content)
    with pytest.raises(WtlError, match=f"tracker.json: .*{sentence}"):
        train(tmp_path, config())


def test_a_tracker_that_fails_does_not_stop_training(
    tmp_path: Path, tracker: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(values: dict[str, float], step: int) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(tracker, "log", fail)
    train(tmp_path, config())
    assert "trackio took no more numbers (no network); training goes on" in caplog.text
    assert read_metrics(tmp_path)[-1]["step"] == config().steps


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("trackoi", "did you mean 'trackio'?"), ("wandb", r"pip install 'watchtrylearn\[wandb\]'")],
)
def test_a_tracker_that_is_not_there_is_said_before_training(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WTL_TRACKER", name)
    with pytest.raises(WtlError, match=sentence):
        train(tmp_path, config())


def test_it_leaves_torch_as_it_was(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.default_generator.manual_seed(11)
    before = torch.get_rng_state()
    train(tmp_path, config(threads=2), learner=LineConfig(noise=0.1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 1


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    learner, first = train(tmp_path, config())
    again, second = train(tmp_path, config())
    assert equal(learner, again)
    assert dataclasses.replace(first, resumed_at=60) == second


# ------------------------------------------------------------------------------------------------ bad numbers


def poisoned(bad: Callable[[int], bool]) -> Callable[[np.random.Generator], Batch]:
    """The usual batches, but the loss is NaN at the steps for which ``bad`` holds."""
    step = -1

    def draw(rng: np.random.Generator) -> Batch:
        nonlocal step
        step += 1
        batch = sample(rng)
        if bad(step):
            batch.query.reward.fill_(math.nan)
        return batch

    return draw


def test_a_bad_step_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    c = config(steps=20, average=0.0)
    before, _ = train(tmp_path / "a", dataclasses.replace(c, steps=1, warmup=0))
    learner, summary = train(
        tmp_path / "b", dataclasses.replace(c, warmup=0, steps=2), sample=poisoned(lambda k: k == 1)
    )
    for name, parameter in learner.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name))
    assert summary.skipped == 1
    assert read_metrics(tmp_path / "b")[-1]["skipped"] == 1


def test_nine_bad_steps_in_a_row_are_survived(tmp_path: Path) -> None:
    learner, summary = train(tmp_path, config(), sample=poisoned(lambda k: 5 <= k < 5 + BAD_STEPS - 1))
    assert summary.skipped == BAD_STEPS - 1
    assert all(torch.isfinite(p).all() for p in learner.parameters())
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_ten_bad_steps_in_a_row_stop_it_with_a_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WtlError, match=r"line: loss or gradient was not finite in 10 steps .* up to step 15"):
        train(tmp_path, config(checkpoint_every=0.0), sample=poisoned(lambda k: k >= 5))
    found = load_latest(tmp_path / "checkpoints", dict)
    assert found is not None
    assert found.step <= 14
    assert all(torch.isfinite(t).all() for t in found.tensors.values() if t.is_floating_point())


def test_weights_that_are_not_finite_are_not_exported(tmp_path: Path) -> None:
    def breaks(rng: np.random.Generator) -> Batch:
        learner.seen.fill_(math.nan)
        return sample(rng)

    learner = Line(LineConfig())
    with pytest.raises(WtlError, match=r"refusing to write .*: seen holds numbers that are not finite"):
        fit(learner, FixedSource(breaks), config(), tmp_path, {}, Display(quiet=True))
    assert not (tmp_path / "model.json").exists()


def test_a_training_that_went_wrong_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def worse(rng: np.random.Generator) -> Batch:
        nonlocal drawn
        drawn += 1
        batch = sample(rng)
        batch.query.reward.fill_(1e4 * drawn)
        return batch

    drawn = 0
    assert train(tmp_path / "bad", config(), sample=worse)[1].loss > 1e5
    assert "line: the loss ended at" in caplog.text
    assert "this training went wrong" in caplog.text
    caplog.clear()
    train(tmp_path / "good", config())
    assert "went wrong" not in caplog.text


def test_a_dataset_with_settings_is_still_a_dataset(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Losses on the same data can be compared, whatever else its source says."""

    class Rising(FixedSource):
        def settings(self) -> dict[str, int]:
            return {"version": 2}

        def batch(self, step: int) -> Batch:
            batch = super().batch(step)
            batch.query.reward.fill_(1e4 * step)
            return batch

    fit(Line(LineConfig()), Rising(sample), config(), tmp_path, {}, Display(quiet=True))
    assert "this training went wrong" in caplog.text


def test_a_finished_run_without_its_log_has_an_unknown_loss(tmp_path: Path) -> None:
    train(tmp_path, config())
    (tmp_path / "metrics.jsonl").unlink()
    assert math.isnan(train(tmp_path, config())[1].loss)


def test_other_data_is_refused_by_name(tmp_path: Path) -> None:
    train(tmp_path, config(), data={"demos": "0123", "trials": "4567"})
    with pytest.raises(WtlError, match="was begun on other data: trials changed since; remove that folder"):
        train(tmp_path, config(), data={"demos": "0123", "trials": "89ab"})


# -------------------------------------------------------------------------------------------- kill and resume

NOISY = LineConfig(noise=0.1)


def outcome(directory: Path) -> tuple[bytes, str]:
    return (directory / "model.safetensors").read_bytes(), (directory / "metrics.jsonl").read_text()


def slow_sample(rng: np.random.Generator) -> Batch:
    time.sleep(0.02)
    return sample(rng)


def newest_step(directory: Path) -> int:
    folders = sorted(path.name for path in directory.glob("checkpoints/step-*"))
    return int(folders[-1].removeprefix("step-")) if folders else 0


def test_kill_9_at_random_moments_does_not_change_a_bit(tmp_path: Path) -> None:
    """Weights, moments, averages, random numbers, log: all as if nothing had happened."""
    c = config(checkpoint_every=0.0)
    wait(fork(lambda: train(tmp_path / "calm", c, learner=NOISY)))
    draw = generator("kill")
    for target in (0, 0, 3, 12, 13, 30, 50):
        pid = fork(lambda: train(tmp_path / "wild", c, learner=NOISY, sample=slow_sample))
        kill(pid, lambda target=target: newest_step(tmp_path / "wild") >= target, after=draw.uniform(0, 0.05))
    assert wait(fork(lambda: train(tmp_path / "wild", c, learner=NOISY))) == 0
    assert outcome(tmp_path / "wild") == outcome(tmp_path / "calm")


def test_the_checkpoint_interval_may_change_and_does_not_matter(tmp_path: Path) -> None:
    steps_left = 25

    def stop() -> bool:
        nonlocal steps_left
        steps_left -= 1
        return steps_left == 0

    train(tmp_path / "calm", config(checkpoint_every=60.0))
    with pytest.raises(Interrupted, match=r"stopped after step 25 of 60 of line; the state is saved") as stopped:
        train(tmp_path / "stopped", config(checkpoint_every=60.0), should_stop=stop)
    assert stopped.value.exit_status == 130
    _, summary = train(tmp_path / "stopped", config(checkpoint_every=0.0))
    assert summary.resumed_at == 25
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "calm")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_continues(tmp_path: Path, number: int, status: int) -> None:
    c, drawn = config(checkpoint_every=60.0), itertools.count()

    def signalled(rng: np.random.Generator) -> Batch:
        if next(drawn) == 20:
            os.kill(os.getpid(), number)
        return sample(rng)

    assert wait(fork(lambda: train(tmp_path / "run", c, sample=signalled))) == status
    _, summary = train(tmp_path / "run", c)
    assert summary.resumed_at == 21
    train(tmp_path / "calm", c)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "calm")


def test_the_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    def stuck(rng: np.random.Generator) -> Batch:
        os.kill(os.getpid(), signal.SIGINT)
        (tmp_path / "remembered").touch()
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("nobody gets here")

    assert wait(fork(lambda: train(tmp_path, config(), sample=stuck))) == -signal.SIGINT
    assert (tmp_path / "remembered").exists()
    assert train(tmp_path, config())[1].resumed_at == 0


def test_the_first_weights_are_those_of_the_first_start(tmp_path: Path) -> None:
    """Killed before its first step, a run begins again with the weights it had, whoever made the new ones."""
    with pytest.raises(Interrupted):
        train(tmp_path, config(), should_stop=lambda: True)
    learner = Line(LineConfig())
    nn.init.zeros_(learner.net[0].weight)
    fit(learner, FixedSource(sample), config(), tmp_path, {"demos": "0123"}, Display(quiet=True))
    assert equal(learner, train(tmp_path / "calm", config())[0])


# ------------------------------------------------------------------------------------------------- refusals


def test_other_settings_are_refused_field_by_field(tmp_path: Path) -> None:
    train(tmp_path, config())
    with pytest.raises(WtlError) as caught:
        train(tmp_path, config(learning_rate=0.5, seed=4), learner=LineConfig(width=32))
    message = str(caught.value)
    for part in (
        "train.learning_rate is 0.01, not 0.5",
        "train.seed is 0, not 4",
        "config.width is 16, not 32",
    ):
        assert part in message
    assert "train.steps" not in message


def test_a_run_in_use_is_refused(tmp_path: Path) -> None:
    with directory_lock(tmp_path), pytest.raises(WtlError, match="in use by process"):
        train(tmp_path, config())


def test_a_full_disk_stops_it_and_names_the_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(WtlError, match=r"step-00000000.*tensors\.safetensors.*File too large"):
            train(tmp_path, config(), learner=LineConfig(width=512))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("learning_rate", -1.0), ("learning_rate", math.nan), ("average", 1.0)]
)
def test_impossible_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(WtlError, match=f"train.{field} must"):
        config(**{field: value})


# ------------------------------------------------------------------------------------------- log and display


def test_the_log_drops_what_will_be_done_again_and_a_torn_line(tmp_path: Path) -> None:
    with MetricLog(tmp_path, 0) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": step / 3})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 40, "lo')
    with MetricLog(tmp_path, 20) as log:
        log.write(30, {"loss": 0.5})
    assert read_metrics(tmp_path) == [
        {"step": 10, "loss": 10 / 3},
        {"step": 20, "loss": 20 / 3},
        {"step": 30, "loss": 0.5},
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_the_count_the_time_left_and_the_note(tmp_path: Path, terminal: bool) -> None:
    with open(tmp_path / "shown", "w") as file:
        display = Display(Console(file=file, force_terminal=terminal, width=120))
        with display.track("outer", total=2) as outer:
            with display.track("inner", total=3, done=1) as inner:
                inner(2, note="loss 0.5")
            outer(2)
    shown = (tmp_path / "shown").read_text()
    assert "3/3" in shown
    assert "loss 0.5" in shown
    assert "left" in shown
