"""The training log: one JSON object per line, and the same numbers for TensorBoard.

``WTL_TRACKER=trackio`` (or ``wandb``) in the environment gives them to that tracker as well, whatever verb trains. It
stays on this machine: Trackio's local database, Weights & Biases' offline mode, unless those are told otherwise by
environment variables of their own (``TRACKIO_SPACE_ID``, ``WANDB_MODE``).
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from watchtrylearn.errors import suggestion
from watchtrylearn.system.files import parse_typed, read_bytes, read_typed, write_atomic, write_json
from watchtrylearn.types import WtlError

FILE = "metrics.jsonl"
LIMIT = 2**27  # bytes; ``train.MOST_ROWS`` rows have room

TRACKER = "WTL_TRACKER"  # the environment variable
TRACKERS = ("trackio", "wandb")

MetricRow = dict[str, int | float]

logger = logging.getLogger(__name__)


class MetricLog:
    """Appends rows to ``metrics.jsonl`` and to ``tensorboard/`` in ``directory``.

    Opened at ``step``, it first drops every later row: those steps are about to be done again, so the log
    of an interrupted and resumed run has each step once. Raises ``WtlError`` naming the file if the disk is
    full.
    """

    def __init__(self, directory: str | Path, step: int) -> None:
        wanted = os.environ.get(TRACKER)
        self._tracker = Tracker(wanted, directory) if wanted else None
        # imported here: a second of start-up that only training needs
        from torch.utils.tensorboard import SummaryWriter

        self.path = Path(directory) / FILE
        kept = [row for row in read_metrics(directory) if row["step"] <= step]
        write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = open(self.path, "a")  # noqa: SIM115 (closed by __exit__)
        self._board = SummaryWriter(Path(directory) / "tensorboard", purge_step=step + 1)
        if self._tracker:
            for row in kept:  # those of before a tracker was asked for
                self._tracker.write(int(row["step"]), {name: row[name] for name in row if name != "step"})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add the row of ``step``; the values are finite numbers."""
        try:
            self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            if self._tracker:
                self._tracker.write(step, values)
        except OSError as error:
            raise WtlError(f"cannot write {self.path}: {error.strerror or error}") from error

    def sync(self) -> None:
        """Put every row on the disk; called before a checkpoint, so that none of its past can be missing."""
        try:
            os.fsync(self._file.fileno())
            self._board.flush()
            if self._tracker:
                self._tracker.send()
        except OSError as error:
            raise WtlError(f"cannot write {self.path}: {error.strerror or error}") from error

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()
        if self._tracker:
            self._tracker.close()


@dataclass(frozen=True)
class _Noted:
    """``tracker.json``: what the tracker calls the run, and the last step that was sent."""

    run: str
    step: int


class Tracker:
    """Gives rows to a tracker with the interface of Weights & Biases, each step once, however often training resumes.

    A tracker cannot take back what it was given, so rows wait for the checkpoint that keeps them (``send``), and
    ``tracker.json`` notes the last of them first: rows done again are those that were sent. A tracker that fails ends
    neither training nor the log; it is warned of and left alone.
    """

    def __init__(self, name: str, directory: str | Path) -> None:
        if name not in TRACKERS:
            raise WtlError(f"{TRACKER}={name} is no tracker; {suggestion(name, TRACKERS)}")
        try:
            self._module: ModuleType | None = importlib.import_module(name)
        except ImportError as error:
            raise WtlError(f"{TRACKER}={name} needs a package: pip install 'watchtrylearn[{name}]'") from error
        self._name, self._path = name, Path(directory) / "tracker.json"
        self._run, self._sent = f"{'-'.join(self._path.absolute().parts[-4:-1])}-{uuid.uuid4().hex[:6]}", 0
        if self._path.exists():
            noted = read_typed(self._path, _Noted)
            self._run, self._sent = noted.run, noted.step
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._begun = False

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """A row, to be sent with the next checkpoint."""
        if step > self._sent:
            self._waiting.append((step, dict(values)))

    def send(self) -> None:
        """Give the tracker what waits."""
        if not self._waiting or self._module is None:
            return
        self._sent = self._waiting[-1][0]
        write_json(self._path, vars(_Noted(self._run, self._sent)))
        try:
            if not self._begun:
                self._module.init(project="watchtrylearn", name=self._run, resume="allow", **self._options())
                self._begun = True
            for step, values in self._waiting:
                self._module.log(values, step=step)
        except Exception as error:  # whatever another package raises
            logger.warning("%s took no more numbers (%s); training goes on, and %s has all", self._name, error, FILE)
            self._module = None
        self._waiting = []

    def _options(self) -> dict[str, Any]:
        if self._name != "wandb":
            return {}
        return {"id": self._run, "dir": self._path.parent, "mode": os.environ.get("WANDB_MODE", "offline")}

    def close(self) -> None:
        if self._begun and self._module is not None:
            self._module.finish()


def read_metrics(directory: str | Path) -> list[MetricRow]:
    """The rows of ``metrics.jsonl``, in order, each with its ``step``; none if there is no log.

    A last line cut short by a crash is left out. Raises ``WtlError`` naming file and line of what is not a row.
    """
    path = Path(directory) / FILE
    lines = read_bytes(path, LIMIT).splitlines() if path.exists() else []
    rows: list[MetricRow] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(parse_typed(line, dict[str, int | float], f"{path}, line {number}"))
        except WtlError:
            if number < len(lines) or not line.startswith(b"{") or line.endswith(b"}"):
                raise
    steps = [row.get("step", math.nan) for row in rows]
    if not all(isinstance(step, int) for step in steps) or steps != sorted(set(steps)):
        raise WtlError(f"{path} is not a training log: the steps of its rows are not in order")
    return rows
